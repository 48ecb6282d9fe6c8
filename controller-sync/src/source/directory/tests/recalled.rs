//! Last good versions of another process.

use super::*;
use crate::source::recall::LastGood;

fn last_good(file: Option<PathBuf>, name: &str) -> LastGood {
    let object = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    LastGood { file, object }
}

/// What is told after these are recalled.
async fn recall(watched: &mut Watched, objects: Vec<LastGood>) -> Vec<String> {
    let (done, _is_done) = oneshot::channel();
    watched.handle.recall(Recall { objects, done });
    while watched.receive("the end of what is recalled").await {}
    watched.batches.iter().flatten().filter(|told| told.contains("recalled")).cloned().collect()
}

#[tokio::test]
async fn what_a_file_may_still_hold_is_recalled_and_goes_with_the_file() {
    let bad = format!("{}---\na: [\n", object("good", "1"));
    let mut watched = Watched::new(|directory| {
        fs::write(directory.join("a.yaml"), &bad).unwrap();
        fs::write(directory.join("b.yaml"), object("b", "1")).unwrap();
    })
    .await;
    let [a, b, nowhere] = ["a.yaml", "b.yaml", "c.yaml"].map(|name| Some(watched.directory.path().join(name)));
    let objects = vec![
        last_good(a.clone(), "lost"),
        // All of this file was read, and the other one is not there: what they held is gone.
        last_good(b, "gone"),
        last_good(nowhere, "gone"),
        last_good(None, "gone"),
        last_good(a.clone(), "fixed"),
    ];
    assert_eq!(recall(&mut watched, objects).await, ["lost recalled a.yaml", "fixed recalled a.yaml"]);
    let mut unread: Vec<_> =
        watched.handle.unread().await.into_iter().map(|unread| (unread.key.name, unread.file)).collect();
    unread.sort();
    let a = a.unwrap();
    assert_eq!(unread, [("fixed".into(), a.clone()), ("lost".into(), a)], "the next process is told the same");
    watched.write("a.yaml", &[object("good", "1"), object("fixed", "2")].concat());
    watched.until_view([("good", "1"), ("fixed", "2"), ("b", "1")]).await;
    assert!(watched.handle.unread().await.is_empty());
}

#[tokio::test]
async fn what_is_there_is_recalled_for_whoever_needs_it() {
    let refused = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: refused}\ndata: 5\n";
    let mut watched = Watched::new(|directory| fs::write(directory.join("a.yaml"), refused).unwrap()).await;
    let objects = vec![last_good(None, "refused"), last_good(None, "gone")];
    assert_eq!(recall(&mut watched, objects).await, ["refused recalled a.yaml"]);
    fs::remove_file(watched.directory.path().join("a.yaml")).unwrap();
    watched.until_view([]).await;
}
