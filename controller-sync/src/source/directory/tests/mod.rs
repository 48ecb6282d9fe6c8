//! The directory source on real files: a fixture, and the tests by what changes.

mod edits;
mod faults;
mod listing;
mod recalled;
mod trees;

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
            SourceEvent::Listed | SourceEvent::Recalled(_) => false,
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
                Change::Recall(resource) => {
                    let name = resource.key().name;
                    told.push(format!("{name} recalled {place}"));
                    self.now.insert(name.to_string(), "recalled".to_owned());
                }
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
