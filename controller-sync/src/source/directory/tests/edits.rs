//! Edits of files, as editors and tools make them.

use super::*;

#[tokio::test]
async fn an_edited_an_added_and_a_deleted_file_are_live() {
    let mut watched = Watched::new(|directory| fs::write(directory.join("a.yaml"), object("a", "1")).unwrap()).await;
    watched.write("a.yaml", &object("a", "2"));
    watched.until_view([("a", "2")]).await;
    watched.write("b.yaml", &object("b", "1"));
    watched.until_view([("a", "2"), ("b", "1")]).await;
    fs::remove_file(watched.path("a.yaml")).unwrap();
    watched.until_view([("b", "1")]).await;
    watched.write("b.yaml", "");
    watched.until_view([]).await;
}

#[tokio::test]
async fn a_file_that_goes_while_it_is_read_is_gone() {
    let mut watched = Watched::new(|_| ()).await;
    // When the reader meets the deletion is up to chance: of these rounds dozens do it in the middle of a reading.
    for round in 0..100_u32 {
        let value = round.to_string();
        let file = File::create(watched.path("draft")).unwrap();
        watched.write("draft", &object("a", &value));
        watched.rename("draft", "a.yaml");
        watched.until_view([("a", &value)]).await;
        // That somebody who could have written closes the file makes it worth reading again.
        drop(file);
        for _ in 0..round * 20 {
            std::hint::spin_loop();
        }
        fs::remove_file(watched.path("a.yaml")).unwrap();
        watched.until_view([]).await;
    }
}

#[tokio::test]
async fn a_file_that_is_being_written_does_not_show_whatever_else_happens() {
    let mut watched = Watched::new(|directory| fs::write(directory.join("a.yaml"), object("a", "1")).unwrap()).await;
    let text = object("a", "2") + &object("b", "2") + &object("c", "2");
    let (first, second) = text.split_at(text.len() / 3);
    let (second, third) = second.split_at(text.len() / 3);
    let mut file = OpenOptions::new().write(true).truncate(true).open(watched.path("a.yaml")).unwrap();
    for part in [first, second, third] {
        watched.look_around().await;
        file.write_all(part.as_bytes()).unwrap();
        watched.handle.reread();
        watched.look_around().await;
        assert_eq!(watched.without_marker(), view([("a", "1")]));
    }
    watched.batches.clear();
    drop(file);
    watched.until_view([("a", "2"), ("b", "2"), ("c", "2")]).await;
    assert_eq!(watched.batches, [["a=2 a.yaml", "b=2 a.yaml", "c=2 a.yaml"]]);
}

#[tokio::test]
async fn a_new_file_does_not_show_before_it_is_closed() {
    let mut watched = Watched::new(|_| {}).await;
    let mut file = File::create(watched.path("a.yaml")).unwrap();
    watched.look_around().await;
    file.write_all(object("a", "1").as_bytes()).unwrap();
    watched.handle.reread();
    watched.look_around().await;
    assert_eq!(watched.without_marker(), view([]));
    file.write_all(object("b", "1").as_bytes()).unwrap();
    drop(file);
    watched.until_view([("a", "1"), ("b", "1")]).await;
    assert!(watched.states.iter().all(|state| state.contains_key("a") == state.contains_key("b")));
}

#[tokio::test]
async fn no_intermediate_state_shows_however_often_a_file_is_written() {
    let text = |version: usize| object("a", &format!("v{version}")) + &object("b", &format!("v{version}"));
    let mut watched = Watched::new(|directory| fs::write(directory.join("a.yaml"), text(0)).unwrap()).await;
    let path = watched.path("a.yaml");
    let writer = thread::spawn(move || {
        for version in 1..=500 {
            let text = text(version);
            let (first, second) = text.split_at(version % text.len());
            let mut file = OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
            file.write_all(first.as_bytes()).unwrap();
            file.write_all(second.as_bytes()).unwrap();
        }
    });
    watched.until_view([("a", "v500"), ("b", "v500")]).await;
    writer.join().unwrap();
    for state in &watched.states {
        assert!(state.contains_key("a") && state.get("a") == state.get("b"), "{state:?}");
    }
    assert!(watched.reports.is_empty());
}

#[tokio::test]
async fn a_file_that_is_renamed_into_place_is_live() {
    let mut watched = Watched::new(|directory| fs::write(directory.join("a.yaml"), object("a", "1")).unwrap()).await;
    watched.write("a.yaml.tmp", &object("a", "2"));
    watched.rename("a.yaml.tmp", "a.yaml");
    watched.until_view([("a", "2")]).await;
    let elsewhere = tempfile::tempdir_in(watched.directory.path().parent().unwrap()).unwrap();
    fs::write(elsewhere.path().join("b"), object("b", "1")).unwrap();
    fs::rename(elsewhere.path().join("b"), watched.path("b.yaml")).unwrap();
    watched.until_view([("a", "2"), ("b", "1")]).await;
    assert!(watched.states.iter().all(|state| state.contains_key("a")));
}

#[tokio::test]
async fn a_file_that_is_renamed_while_it_is_written_shows_when_it_is_closed() {
    let mut watched = Watched::new(|directory| fs::write(directory.join("a.yaml"), object("a", "1")).unwrap()).await;
    let mut file = File::create(watched.path("tmp")).unwrap();
    file.write_all(object("a", "2").as_bytes()).unwrap();
    watched.rename("tmp", "a.yaml");
    watched.look_around().await;
    assert_eq!(watched.without_marker(), view([("a", "1")]));
    file.write_all(object("b", "2").as_bytes()).unwrap();
    drop(file);
    watched.until_view([("a", "2"), ("b", "2")]).await;
    assert!(watched.states.iter().all(|state| state.contains_key("a")));
}

#[tokio::test]
async fn a_file_that_is_linked_into_place_is_live() {
    let mut watched = Watched::new(|_| {}).await;
    watched.write("prepared", &object("a", "1"));
    fs::hard_link(watched.path("prepared"), watched.path("a.yaml")).unwrap();
    watched.until_view([("a", "1")]).await;
}

#[tokio::test]
async fn an_editor_that_moves_the_original_away_takes_nothing_away() {
    let mut watched = Watched::new(|directory| fs::write(directory.join("a.yaml"), object("a", "1")).unwrap()).await;
    let mut version = 1;
    watched
        .quickly(|watched| {
            version += 1;
            watched.rename("a.yaml", "a.yaml~");
            watched.write("a.yaml", &object("a", &version.to_string()));
            fs::remove_file(watched.path("a.yaml~")).unwrap();
        })
        .await;
    let last = version.to_string();
    watched.until_view([("a", last.as_str())]).await;
    assert!(watched.states.iter().all(|state| state.contains_key("a")), "{:?}", watched.batches);
}

#[tokio::test]
async fn a_file_that_comes_back_being_written_is_waited_for() {
    let mut watched = Watched::new(|directory| fs::write(directory.join("a.yaml"), object("a", "1")).unwrap()).await;
    let mut files = Vec::new();
    watched
        .quickly(|watched| {
            files.clear();
            watched.rename("a.yaml", "a.yaml~");
            files.push(File::create(watched.path("a.yaml")).unwrap());
        })
        .await;
    watched.look_around().await;
    // The object of another file goes, so longer than the grace has passed.
    watched.write("b.yaml", &object("b", "1"));
    watched.until_view([("a", "1"), ("b", "1")]).await;
    fs::remove_file(watched.path("b.yaml")).unwrap();
    watched.until_view([("a", "1")]).await;
    files[0].write_all(object("a", "2").as_bytes()).unwrap();
    files.clear();
    watched.until_view([("a", "2")]).await;
    assert!(watched.states.iter().all(|state| state.contains_key("a")), "{:?}", watched.batches);
}

#[tokio::test]
async fn a_renamed_file_moves_its_objects_in_one_batch() {
    let mut watched = Watched::new(|directory| fs::write(directory.join("a.yaml"), object("a", "1")).unwrap()).await;
    for (from, to) in [("a.yaml", "b.yaml"), ("b.yaml", "a.yaml")] {
        watched.batches.clear();
        watched.rename(from, to);
        watched.until("the new place", |watched| !watched.batches.is_empty()).await;
        assert_eq!(watched.batches, [[format!("a=1 {to}")]]);
        assert!(watched.reports.is_empty());
    }
}

#[tokio::test]
async fn an_object_that_moves_to_another_file_does_not_vanish() {
    let both = object("a", "1") + &object("b", "1");
    let mut watched = Watched::new(|directory| fs::write(directory.join("a.yaml"), &both).unwrap()).await;
    watched
        .quickly(|watched| {
            let _ = fs::remove_file(watched.path("b.yaml"));
            watched.write("a.yaml", &both);
            watched.write("a.yaml", &object("a", "1"));
            watched.write("b.yaml", &object("b", "2"));
        })
        .await;
    watched.until_view([("a", "1"), ("b", "2")]).await;
    assert!(watched.states.iter().all(|state| state.contains_key("b")), "{:?}", watched.batches);
}

#[tokio::test]
async fn what_is_the_same_is_not_told_again() {
    let text = object("a", "1") + &object("b", "1");
    let mut watched = Watched::new(|directory| fs::write(directory.join("a.yaml"), &text).unwrap()).await;
    watched.write("a.yaml", &text);
    watched.look_around().await;
    watched.write("a.yaml", &(object("a", "1") + &object("b", "2")));
    watched.until_view([("a", "1"), ("b", "2")]).await;
    let told: Vec<&String> = watched.batches.iter().skip(1).flatten().collect();
    assert_eq!(told, ["marker=m1 marker.yaml", "b=2 a.yaml"]);
}

/// A file with another name in another directory: what is written through that is no event of the watched file.
fn with_another_name(directory: &Path) {
    fs::create_dir(directory.join(".elsewhere")).unwrap();
    fs::write(directory.join("a.yaml"), object("a", "1")).unwrap();
    fs::hard_link(directory.join("a.yaml"), directory.join(".elsewhere/a.yaml")).unwrap();
}

#[tokio::test]
async fn a_reread_finds_what_nobody_told() {
    let mut watched = Watched::new(with_another_name).await;
    watched.write(".elsewhere/a.yaml", &object("a", "2"));
    watched.handle.reread();
    watched.until_view([("a", "2")]).await;
}

#[tokio::test]
async fn a_file_that_was_truncated_by_somebody_unseen_is_doubted() {
    let mut watched = Watched::new(with_another_name).await;
    let mut file = File::create(watched.path(".elsewhere/a.yaml")).unwrap();
    watched.handle.reread();
    watched.look_around().await;
    file.write_all(object("a", "2").as_bytes()).unwrap();
    watched.handle.reread();
    watched.until("the second version", |watched| watched.now["a"] == "2").await;
    assert!(watched.states.iter().all(|state| state.contains_key("a")));
    file.set_len(0).unwrap();
    watched.handle.reread();
    watched.until("nothing", |watched| watched.without_marker().is_empty()).await;
}

#[tokio::test]
async fn lost_events_cost_nothing_but_another_reading() {
    let mut watched = Watched::new(|directory| {
        with_another_name(directory);
        fs::create_dir(directory.join("sub")).unwrap();
    })
    .await;
    watched.write(".elsewhere/a.yaml", &object("a", "2"));
    watched.handle.messages.send(Message::Observed(Observation::Lost)).unwrap();
    watched.until_view([("a", "2")]).await;
    watched.write("sub/b.yaml", &object("b", "1"));
    watched.until_view([("a", "2"), ("b", "1")]).await;
}

// === directories ===
