//! What cannot be read, and objects that stand in two files.

use super::*;

#[tokio::test]
async fn a_malformed_document_keeps_the_last_good_objects_and_names_its_line() {
    let mut watched = Watched::new(|directory| {
        fs::write(directory.join("a.yaml"), object("a", "1") + &object("b", "1")).unwrap();
    })
    .await;
    watched.write("a.yaml", &(object("a", "2") + "---\nkind: ConfigMap\n\tname: b\n"));
    watched.until_view([("a", "2"), ("b", "1")]).await;
    assert_eq!(watched.said_about("a.yaml"), ["10: while scanning a plain scalar, found a tab"]);
    assert_eq!(watched.reports[Path::new("a.yaml")][0].problem.severity, Severity::Error);
    watched.write("a.yaml", &object("a", "3"));
    watched.until_view([("a", "3")]).await;
    assert!(watched.reports.is_empty());
}

#[tokio::test]
async fn a_file_that_cannot_be_read_keeps_its_objects() {
    let mut watched = Watched::new(|directory| fs::write(directory.join("a.yaml"), object("a", "1")).unwrap()).await;
    let file = File::create(watched.path("large")).unwrap();
    file.set_len((16 << 20) + 1).unwrap();
    drop(file);
    watched.rename("large", "a.yaml");
    watched.until("the report", |watched| !watched.reports.is_empty()).await;
    assert_eq!(watched.said_about("a.yaml"), ["1: file is larger than 16 MiB"]);
    fs::write(watched.path("a.yaml"), b"---\na: \xff\n").unwrap();
    let expected = ["2: text is not UTF-8"];
    watched.until("another report", |watched| watched.said_about("a.yaml") == expected).await;
    assert_eq!(watched.now, view([("a", "1")]));
    watched.write("a.yaml", &object("a", "2"));
    watched.until_view([("a", "2")]).await;
    assert!(watched.reports.is_empty());
}

/// Takes the permissions of a path away; `false` for a user to whom permissions mean nothing.
fn forbid(path: &Path) -> bool {
    fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
    File::open(path).is_err()
}

#[tokio::test]
async fn a_file_without_permission_keeps_its_objects_until_there_is_permission() {
    let mut watched = Watched::new(|directory| fs::write(directory.join("a.yaml"), object("a", "1")).unwrap()).await;
    watched.write("b", &object("a", "2"));
    let is_forbidden = forbid(&watched.path("b"));
    watched.rename("b", "a.yaml");
    if is_forbidden {
        watched.until("the report", |watched| !watched.reports.is_empty()).await;
        assert_eq!(watched.said_about("a.yaml"), ["1: file cannot be read: Permission denied (os error 13)"]);
        assert_eq!(watched.now, view([("a", "1")]));
    }
    fs::set_permissions(watched.path("a.yaml"), Permissions::from_mode(0o600)).unwrap();
    watched.until_view([("a", "2")]).await;
    assert!(watched.reports.is_empty());
}

#[tokio::test]
async fn a_directory_without_permission_keeps_its_objects_until_there_is_permission() {
    let mut watched = Watched::new(|directory| {
        fs::create_dir(directory.join("sub")).unwrap();
        fs::write(directory.join("sub/a.yaml"), object("a", "1")).unwrap();
    })
    .await;
    let is_forbidden = forbid(&watched.path("sub"));
    watched.handle.reread();
    if is_forbidden {
        watched.until("the report", |watched| !watched.reports.is_empty()).await;
        assert_eq!(watched.said_about("sub"), ["1: cannot be read: Permission denied (os error 13)"]);
        assert_eq!(watched.now, view([("a", "1")]));
    }
    fs::set_permissions(watched.path("sub"), Permissions::from_mode(0o700)).unwrap();
    watched.write("sub/a.yaml", &object("a", "2"));
    watched.until_view([("a", "2")]).await;
    watched.until("no report", |watched| watched.reports.is_empty()).await;
}

#[tokio::test]
async fn reports_go_with_their_file() {
    let mut watched = Watched::new(|directory| fs::write(directory.join("a.yaml"), "a: [\n").unwrap()).await;
    assert_eq!(watched.said_about("a.yaml").len(), 1);
    fs::remove_file(watched.path("a.yaml")).unwrap();
    watched.until("no report", |watched| watched.reports.is_empty()).await;
}

#[tokio::test]
async fn of_two_files_with_one_object_the_first_counts_and_the_other_takes_over_at_once() {
    let mut watched = Watched::new(|directory| {
        fs::write(directory.join("a.yaml"), object("a", "from-a")).unwrap();
        fs::write(directory.join("b.yaml"), object("b", "1") + &object("a", "from-b")).unwrap();
    })
    .await;
    assert_eq!(watched.now, view([("a", "from-a"), ("b", "1")]));
    let duplicate = format!("10: ConfigMap default/a is in {}:2 too, which counts", watched.path("a.yaml").display());
    assert_eq!(watched.said_about("b.yaml"), [duplicate.as_str()]);
    assert_eq!(watched.reports[Path::new("b.yaml")][0].problem.reason, Reason::Duplicate);
    fs::remove_file(watched.path("a.yaml")).unwrap();
    watched.until_view([("a", "from-b"), ("b", "1")]).await;
    assert!(watched.reports.is_empty());
    assert_eq!(watched.batches.last().unwrap(), &["a=from-b b.yaml"]);
    // And back again: who owned an object before does so again after it was displaced.
    watched.write("a.yaml", &object("a", "again"));
    watched.until_view([("a", "again"), ("b", "1")]).await;
    assert_eq!(watched.said_about("b.yaml"), [duplicate.as_str()]);
    watched.look_around().await;
    fs::remove_file(watched.path("a.yaml")).unwrap();
    watched.until_view([("a", "from-b"), ("b", "1")]).await;
    assert!(watched.states.iter().all(|state| state.contains_key("a")));
}

#[tokio::test]
async fn everything_ends_when_nobody_listens() {
    let Watched { directory, task, events, .. } = Watched::new(|_| {}).await;
    drop(events);
    timeout(DEADLINE, task).await.expect("the source ends").unwrap();
    drop(directory);
}
