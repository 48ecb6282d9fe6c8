//! What is read at the start, and from where.

use super::*;

#[tokio::test]
async fn everything_below_the_path_is_told_in_one_batch_before_listed() {
    let watched = Watched::new(|directory| {
        fs::create_dir_all(directory.join("sub/below")).unwrap();
        fs::write(directory.join("a.yaml"), object("a", "1")).unwrap();
        fs::write(directory.join("sub/b.yml"), object("b", "1") + &object("c", "1")).unwrap();
        let json = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d"}, "data": {"value": "1", "same": "1"}}"#;
        fs::write(directory.join("sub/below/d.json"), json).unwrap();
    })
    .await;
    assert_eq!(watched.now, view([("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]));
    assert_eq!(watched.batches.len(), 1);
}

#[tokio::test]
async fn names_with_a_dot_in_front_and_other_endings_are_no_manifests() {
    let mut watched = Watched::new(|directory| {
        for name in [".hidden.yaml", "a.yaml~", "a.yaml.tmp", "README.md", "a.YAML", "yaml"] {
            fs::write(directory.join(name), object("no", "1")).unwrap();
        }
        fs::create_dir(directory.join(".git")).unwrap();
        fs::write(directory.join(".git/a.yaml"), object("no", "1")).unwrap();
    })
    .await;
    watched.write("b.yaml.swp", &object("no", "2"));
    watched.write("good.yaml", &object("good", "1"));
    watched.until_view([("good", "1")]).await;
}

#[tokio::test]
async fn a_file_that_is_named_is_read_whatever_its_name_and_its_neighbours_are_not() {
    let mut watched = Watched::of(
        |directory| {
            fs::write(directory.join("penstock.conf"), object("a", "1")).unwrap();
            fs::write(directory.join("b.yaml"), object("b", "1")).unwrap();
        },
        |directory| vec![directory.join("penstock.conf")],
    )
    .await;
    watched.write("b.yaml", &object("b", "2"));
    watched.write("new", &object("a", "2"));
    watched.rename("new", "penstock.conf");
    watched.until_view([("a", "2")]).await;
    fs::remove_file(watched.path("penstock.conf")).unwrap();
    watched.until_view([]).await;
    watched.write("penstock.conf", &object("a", "3"));
    watched.until_view([("a", "3")]).await;
}

#[tokio::test]
async fn paths_that_overlap_are_read_once() {
    let watched = Watched::of(
        |directory| fs::write(directory.join("a.yaml"), object("a", "1")).unwrap(),
        |directory| vec![directory.join("a.yaml"), directory.to_owned(), directory.join(".")],
    )
    .await;
    assert_eq!(watched.batches, [["a=1 a.yaml"]]);
    assert!(watched.reports.is_empty());
}

#[test]
fn a_path_that_does_not_exist_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let expected = format!("open manifests {}", missing.display());
    let paths = [directory.path().to_owned(), missing];
    let loading = load(&paths, &config()).unwrap_err();
    let Err(watching) = DirectorySource::open(paths.to_vec(), config()) else { panic!("opened") };
    for error in [loading, watching] {
        assert_eq!(error.to_string(), expected);
        // Whoever prints the error prints its cause too.
        let cause = std::error::Error::source(&error).unwrap();
        assert_eq!(cause.to_string(), "No such file or directory (os error 2)");
    }
}

#[test]
fn loading_once_reads_what_watching_reads_first() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("sub")).unwrap();
    fs::write(directory.path().join("a.yaml"), object("a", "1") + "---\nb: [\n").unwrap();
    let thing = "apiVersion: example.com/v1\nkind: Thing\n";
    fs::write(directory.path().join("c.yaml"), thing).unwrap();
    fs::write(directory.path().join("sub/b.yaml"), object("b", "1") + &object("a", "2")).unwrap();
    let batch = load(&[directory.path().to_owned()], &config()).unwrap();
    let changes: Vec<String> = batch
        .changes
        .iter()
        .map(|(change, place)| {
            let Change::Apply(resource, _) = change else { panic!("{change:?}") };
            format!("{} {}", resource.key().name, place.as_ref().unwrap())
        })
        .collect();
    let path = |name: &str| directory.path().join(name).display().to_string();
    assert_eq!(changes, [format!("a {}:2", path("a.yaml")), format!("b {}:2", path("sub/b.yaml"))]);
    let reports: Vec<String> =
        batch.reports.iter().map(|report| format!("{} {}", report.place, report.problem)).collect();
    let duplicate = format!("ConfigMap default/a is in {}:2 too, which counts", path("a.yaml"));
    assert_eq!(reports.len(), 3);
    assert!(reports[0].starts_with(&format!("{}:10 ", path("a.yaml"))), "{}", reports[0]);
    let unknown = "kind: Thing of example.com/v1 is not known here and has no effect";
    assert_eq!(reports[1], format!("{}:1 {unknown}", path("c.yaml")));
    assert_eq!(reports[2], format!("{}:10 {duplicate}", path("sub/b.yaml")));
}

// === files that change ===
