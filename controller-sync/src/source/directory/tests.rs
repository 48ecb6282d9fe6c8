use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use translate::resources::Resource;
use translate::{Change, Severity};

use super::watch::Observation;
use super::*;
use crate::source::Report;

/// Far longer than anything takes.
const DEADLINE: Duration = Duration::from_secs(10);

/// Objects by name, and what is in them.
type View = BTreeMap<String, String>;

fn config() -> Config {
    Config { ..Config::default() }
}

fn object(name: &str, value: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  value: '{value}'\n  same: '{value}'\n"
    )
}

fn view<const N: usize>(objects: [(&str, &str); N]) -> View {
    objects.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A watched directory, and everything that was told about it.
struct Watched {
    directory: TempDir,
    handle: DirectoryHandle,
    task: JoinHandle<()>,
    events: Receiver<SourceEvent>,
    now: View,
    /// The view after every batch.
    states: Vec<View>,
    /// The batches, as changes with their places.
    batches: Vec<Vec<String>>,
    reports: BTreeMap<PathBuf, Vec<Report>>,
    n_markers: usize,
}

impl Watched {
    /// Watches a whole directory that is prepared first, until everything in it is told.
    async fn new(prepare: impl FnOnce(&Path)) -> Self {
        Self::of(prepare, |directory| vec![directory.to_owned()]).await
    }

    async fn of(prepare: impl FnOnce(&Path), paths: impl FnOnce(&Path) -> Vec<PathBuf>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let source = DirectorySource::open(paths(directory.path()), config()).unwrap();
        let handle = source.handle();
        let (sender, events) = mpsc::channel(4);
        let task = tokio::spawn(source.run(sender));
        let mut watched = Self {
            directory,
            handle,
            task,
            events,
            now: View::new(),
            states: Vec::new(),
            batches: Vec::new(),
            reports: BTreeMap::new(),
            n_markers: 0,
        };
        while watched.receive("everything to be listed").await {}
        watched
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// Takes the next event in; whether it was a batch.
    async fn receive(&mut self, what: &str) -> bool {
        let event = timeout(DEADLINE, self.events.recv()).await;
        let event = event.unwrap_or_else(|_| panic!("waited for {what}, saw {:#?} {:#?}", self.batches, self.reports));
        match event.expect("the source goes on") {
            SourceEvent::Listed => false,
            SourceEvent::Batch(batch) => {
                self.apply(batch);
                true
            }
        }
    }

    fn apply(&mut self, Batch { changes, reports, files, faults: _, noticed: _ }: Batch) {
        let mut told = Vec::new();
        for (change, place) in changes {
            let place = place.unwrap().path.strip_prefix(self.directory.path()).unwrap().display().to_string();
            match change {
                Change::Apply(resource, _) => {
                    let Resource::ConfigMap(map) = *resource else { panic!("{resource:?}") };
                    // Whoever sees half of an object sees these differ.
                    assert_eq!(map.data.get("value"), map.data.get("same"), "{}", map.meta.name);
                    told.push(format!("{}={} {place}", map.meta.name, map.data["value"]));
                    self.now.insert(map.meta.name.to_string(), map.data["value"].clone());
                }
                Change::Refuse(key, _) => told.push(format!("{} refused {place}", key.name)),
                Change::Remove(key) => {
                    told.push(format!("{} removed {place}", key.name));
                    assert!(self.now.remove(&*key.name).is_some(), "{key} was not there");
                }
            }
        }
        for file in files {
            self.reports.remove(file.strip_prefix(self.directory.path()).unwrap());
        }
        for report in reports {
            let path = report.place.path.strip_prefix(self.directory.path()).unwrap().to_owned();
            self.reports.entry(path).or_default().push(report);
        }
        self.batches.push(told);
        self.states.push(self.now.clone());
    }

    async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            assert!(self.receive(what).await, "listed once");
        }
    }

    async fn until_view<const N: usize>(&mut self, objects: [(&str, &str); N]) {
        let expected = view(objects);
        self.until(&format!("{expected:?}"), |watched| watched.without_marker() == expected).await;
    }

    /// What is told apart from the markers.
    fn without_marker(&self) -> View {
        let mut view = self.now.clone();
        view.remove("marker");
        view
    }

    /// Waits until everything that was done so far has been looked at: what comes later is told later.
    async fn look_around(&mut self) {
        self.n_markers += 1;
        let value = format!("m{}", self.n_markers);
        self.write("marker.yaml", &object("marker", &value));
        self.until("the marker", |watched| watched.now.get("marker") == Some(&value)).await;
    }

    /// What there is to say about a file, as `line: message`.
    fn said_about(&self, name: &str) -> Vec<String> {
        let reports = self.reports.get(Path::new(name)).into_iter().flatten();
        reports.map(|report| format!("{}: {}", report.place.line, report.problem.message)).collect()
    }

    /// Does something that must be quick to count as one thing, again and again until it was.
    async fn quickly(&mut self, mut action: impl FnMut(&Self)) {
        loop {
            self.look_around().await;
            self.states.clear();
            self.batches.clear();
            let start = Instant::now();
            action(self);
            if start.elapsed() < Duration::from_millis(10) {
                return;
            }
        }
    }
}

// === what is read ===

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
