//! Directories, mounts and links that come, go and change.

use super::*;

#[tokio::test]
async fn a_new_directory_is_read_with_everything_below_it() {
    let mut watched = Watched::new(|_| {}).await;
    fs::create_dir_all(watched.path("a/b/c")).unwrap();
    watched.write("a/b/c/d.yaml", &object("d", "1"));
    watched.until_view([("d", "1")]).await;
    watched.write("a/b/c/d.yaml", &object("d", "2"));
    watched.until_view([("d", "2")]).await;
}

#[tokio::test]
async fn a_directory_that_is_moved_in_and_out_takes_its_objects_along() {
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir_all(outside.path().join("sub/below")).unwrap();
    fs::write(outside.path().join("sub/a.yaml"), object("a", "1")).unwrap();
    fs::write(outside.path().join("sub/below/b.yaml"), object("b", "1")).unwrap();
    let mut watched = Watched::new(|_| {}).await;
    fs::rename(outside.path().join("sub"), watched.path("sub")).unwrap();
    watched.until_view([("a", "1"), ("b", "1")]).await;
    assert_eq!(watched.batches, [["a=1 sub/a.yaml", "b=1 sub/below/b.yaml"]]);
    watched.write("sub/below/b.yaml", &object("b", "2"));
    watched.until_view([("a", "1"), ("b", "2")]).await;
    fs::rename(watched.path("sub"), outside.path().join("sub")).unwrap();
    watched.until_view([]).await;
}

#[tokio::test]
async fn a_renamed_directory_moves_its_objects_in_one_batch() {
    let mut watched = Watched::new(|directory| {
        fs::create_dir(directory.join("old")).unwrap();
        fs::write(directory.join("old/a.yaml"), object("a", "1")).unwrap();
        fs::write(directory.join("old/b.yaml"), object("b", "1")).unwrap();
    })
    .await;
    watched.batches.clear();
    watched.rename("old", "new");
    watched.until("the new place", |watched| !watched.batches.is_empty()).await;
    assert_eq!(watched.batches, [["a=1 new/a.yaml", "b=1 new/b.yaml"]]);
    watched.write("new/a.yaml", &object("a", "2"));
    watched.until_view([("a", "2"), ("b", "1")]).await;
}

#[tokio::test]
async fn a_path_that_goes_and_comes_back_is_watched_again() {
    let mut watched = Watched::of(
        |directory| {
            fs::create_dir_all(directory.join("root/sub")).unwrap();
            fs::write(directory.join("root/sub/a.yaml"), object("a", "1")).unwrap();
        },
        |directory| vec![directory.join("root")],
    )
    .await;
    fs::remove_dir_all(watched.path("root")).unwrap();
    watched.until_view([]).await;
    for value in ["2", "3"] {
        fs::create_dir_all(watched.path("root/sub")).unwrap();
        watched.write("root/sub/a.yaml", &object("a", value));
        watched.until_view([("a", value)]).await;
    }
}

// === links ===

/// What kubelet does to a ConfigMap mount.
fn mount(directory: &Path, version: &str, files: &[(&str, String)]) {
    let data = directory.join(format!("..{version}"));
    fs::create_dir(&data).unwrap();
    for (name, text) in files {
        fs::write(data.join(name), text).unwrap();
    }
    let old = fs::read_link(directory.join("..data"));
    symlink(format!("..{version}"), directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    for (name, _) in files {
        if directory.join(name).symlink_metadata().is_err() {
            symlink(format!("..data/{name}"), directory.join(name)).unwrap();
        }
    }
    let names: BTreeSet<_> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
    for entry in fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with('.') && !names.contains(&name) {
            fs::remove_file(directory.join(name)).unwrap();
        }
    }
    if let Ok(old) = old {
        fs::remove_dir_all(directory.join(old)).unwrap();
    }
}

#[tokio::test]
async fn a_mounted_config_map_is_swapped_as_a_whole() {
    let mut watched = Watched::new(|directory| {
        mount(directory, "1", &[("a.yaml", object("a", "1")), ("b.yaml", object("b", "1"))]);
    })
    .await;
    assert_eq!(watched.now, view([("a", "1"), ("b", "1")]));
    let directory = watched.directory.path().to_owned();
    mount(&directory, "2", &[("a.yaml", object("a", "2")), ("b.yaml", object("b", "2"))]);
    watched.until_view([("a", "2"), ("b", "2")]).await;
    assert_eq!(watched.batches.len(), 2, "{:?}", watched.batches);
    mount(&directory, "3", &[("b.yaml", object("b", "3")), ("c.yaml", object("c", "3"))]);
    watched.until_view([("b", "3"), ("c", "3")]).await;
    mount(&directory, "4", &[("b.yaml", object("b", "4")), ("c.yaml", object("c", "4"))]);
    watched.until_view([("b", "4"), ("c", "4")]).await;
    assert!(watched.reports.is_empty(), "{:?}", watched.reports);
}

#[tokio::test]
async fn a_named_file_of_a_mount_follows_the_swap() {
    let mut watched = Watched::of(
        |directory| mount(directory, "1", &[("a.yaml", object("a", "1")), ("b.yaml", object("b", "1"))]),
        |directory| vec![directory.join("a.yaml")],
    )
    .await;
    let directory = watched.directory.path().to_owned();
    for version in ["2", "3"] {
        mount(&directory, version, &[("a.yaml", object("a", version)), ("b.yaml", object("b", version))]);
        watched.until_view([("a", version)]).await;
    }
}

#[tokio::test]
async fn a_linked_file_changes_with_the_link_and_with_what_it_leads_to() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("one"), object("a", "1")).unwrap();
    fs::write(outside.path().join("two"), object("a", "2")).unwrap();
    let mut watched =
        Watched::new(|directory| symlink(outside.path().join("one"), directory.join("a.yaml")).unwrap()).await;
    assert_eq!(watched.now, view([("a", "1")]));
    symlink(outside.path().join("two"), watched.path("tmp")).unwrap();
    watched.rename("tmp", "a.yaml");
    watched.until_view([("a", "2")]).await;
    fs::write(outside.path().join("two"), object("a", "3")).unwrap();
    watched.until_view([("a", "3")]).await;
    assert!(watched.states.iter().all(|state| state.contains_key("a")));
}

#[tokio::test]
async fn a_linked_directory_is_read_once_and_loops_end() {
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(outside.path().join("one")).unwrap();
    fs::create_dir(outside.path().join("two")).unwrap();
    fs::write(outside.path().join("one/a.yaml"), object("a", "1")).unwrap();
    fs::write(outside.path().join("two/a.yaml"), object("a", "2")).unwrap();
    symlink(outside.path().join("one"), outside.path().join("one/loop")).unwrap();
    let mut watched = Watched::new(|directory| {
        symlink(outside.path().join("one"), directory.join("current")).unwrap();
        symlink(".", directory.join("self")).unwrap();
        symlink("endless", directory.join("endless")).unwrap();
        fs::create_dir(directory.join("zone")).unwrap();
        symlink("zone", directory.join("alias")).unwrap();
        fs::write(directory.join("zone/z.yaml"), object("z", "1")).unwrap();
    })
    .await;
    assert_eq!(watched.batches, [["a=1 current/a.yaml", "z=1 zone/z.yaml"]]);
    assert!(watched.reports.is_empty());
    symlink(outside.path().join("two"), watched.path("tmp")).unwrap();
    watched.rename("tmp", "current");
    watched.until_view([("a", "2"), ("z", "1")]).await;
    fs::write(outside.path().join("two/a.yaml"), object("a", "3")).unwrap();
    watched.until_view([("a", "3"), ("z", "1")]).await;
    assert!(watched.states.iter().all(|state| state.contains_key("a")));
}

#[tokio::test]
async fn a_link_to_nowhere_is_told_and_keeps_what_it_led_to() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("a"), object("a", "1")).unwrap();
    let mut watched =
        Watched::new(|directory| symlink(outside.path().join("a"), directory.join("a.yaml")).unwrap()).await;
    fs::remove_file(outside.path().join("a")).unwrap();
    watched.until("the report", |watched| !watched.reports.is_empty()).await;
    assert_eq!(watched.said_about("a.yaml"), ["1: file does not exist"]);
    assert_eq!(watched.now, view([("a", "1")]));
    fs::write(outside.path().join("a"), object("a", "2")).unwrap();
    watched.until_view([("a", "2")]).await;
    assert!(watched.reports.is_empty());
}

// === what is wrong ===
