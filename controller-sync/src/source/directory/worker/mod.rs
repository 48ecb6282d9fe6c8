//! The loop that reads files: what happened, what is there, what to read, what to tell.

mod observe;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;
use translate::{Config, Problem, Reason};
use xxhash_rust::xxh3::xxh3_128;

use super::file::{ReadError, read};
use super::holdings::{Holdings, Reading, Readings};
use super::tree::{Origin, Tree};
use super::watch::Watch;
use super::writing::{Access, SETTLE, Writers};
use super::{reading, unreadable_because};
use crate::source::SourceEvent;
use crate::source::recall::{self, LastGood, Recall};

/// How long an object that is gone may come back, in the same file or in another one, before anybody is told.
const GRACE: Duration = Duration::from_millis(20);
/// How long a file that held objects and is empty now is doubted, when somebody opened it: a file is empty before its
/// writer, if that is busy or suspended, is seen to have truncated it.
const DOUBT: Duration = Duration::from_secs(2);
/// How many files are read before it is looked whether one of them was written meanwhile.
const MAX_FILES_AT_ONCE: usize = 64;

/// Reads files when they are finished.
pub(super) struct Worker {
    roots: Vec<PathBuf>,
    config: Config,
    watch: Watch,
    writers: Writers,
    tree: Tree,
    /// Directories that cannot be read, or not be watched.
    troubles: BTreeMap<Arc<Path>, Problem>,
    /// The tree may be another one by now.
    is_tree_stale: bool,
    /// The files to read, and from when on.
    wanted: BTreeMap<Arc<Path>, Instant>,
    /// What was read and is not told yet.
    readings: Readings,
    /// Files that are empty, perhaps only for a moment, and until when that is doubted.
    doubted: BTreeMap<Arc<Path>, Instant>,
    holdings: Holdings,
    /// Last good versions that are not told yet.
    recalls: Vec<Recall>,
    is_listed: bool,
}

impl Worker {
    pub(super) fn new(roots: Vec<PathBuf>, config: Config, watch: Watch) -> Self {
        Self {
            roots,
            config,
            watch,
            writers: Writers::default(),
            tree: Tree::default(),
            troubles: BTreeMap::new(),
            is_tree_stale: true,
            wanted: BTreeMap::new(),
            readings: Readings::new(),
            doubted: BTreeMap::new(),
            holdings: Holdings::default(),
            recalls: Vec::new(),
            is_listed: false,
        }
    }

    /// Runs until it is stopped, or until nobody receives what it tells.
    pub(super) fn run(mut self, output: &Sender<SourceEvent>) {
        let mut turn = ControlFlow::Continue(());
        while turn.is_continue() {
            turn = self.turn(output);
        }
    }

    /// Looks at the tree, reads what is finished, tells what follows, and waits for what comes next.
    fn turn(&mut self, output: &Sender<SourceEvent>) -> ControlFlow<()> {
        if self.is_tree_stale {
            self.look();
        }
        self.read_wanted()?;
        self.tell(output)?;
        self.tell_recalled(output)?;
        let messages = self.watch.wait(self.deadline());
        self.take(messages)
    }

    /// When there is something to do although nothing happens.
    fn deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        if self.is_tree_stale {
            return Some(now);
        }
        let reading = self.next_reading(now);
        let losing = self.losing_until().filter(|_| !is_soon(reading, now));
        reading.into_iter().chain(losing).min()
    }

    /// When the next of the wanted files may be read, unless all of them are being written.
    fn next_reading(&self, now: Instant) -> Option<Instant> {
        let readable = |(path, from): (&Arc<Path>, &Instant)| match self.access(path, now) {
            Access::Free => Some(*from),
            Access::From(settled) => Some(settled.max(*from)),
            Access::Never => None,
        };
        self.wanted.iter().filter_map(readable).min()
    }

    /// Until when objects that seem to be gone may come back.
    fn losing_until(&self) -> Option<Instant> {
        self.holdings.losing_since(&self.readings).map(|since| since + GRACE)
    }

    fn access(&self, path: &Path, now: Instant) -> Access {
        self.tree.files.get(path).map_or(Access::Free, |origin| self.writers.access(&origin.end, now))
    }

    // === what is there ===

    /// Walks the tree until everything in it is watched: what happens later is told.
    fn look(&mut self) {
        let mut new = BTreeSet::new();
        let (tree, failed) = loop {
            let tree = Tree::walk(&self.roots);
            let (covered, failed) = self.watch.cover(&tree.directories);
            if covered.is_empty() {
                break (tree, failed);
            }
            new.extend(covered);
        };
        let now = Instant::now();
        self.is_tree_stale = false;
        let old = std::mem::replace(&mut self.tree, tree);
        self.writers.sweep(now, |entry| !self.tree.dependents(entry).is_empty());
        for (path, origin) in &self.tree.files {
            if old.files.get(path) != Some(origin) || new.contains(origin.directory()) {
                self.wanted.insert(Arc::clone(path), now + settle(origin, &new));
            }
        }
        self.wanted.retain(|path, _| self.tree.files.contains_key(path));
        self.doubted.retain(|path, _| self.tree.files.contains_key(path));
        self.note_troubles(failed, now);
        self.note_gone(now);
    }

    /// Directories that cannot be read or watched are told of like files, once.
    fn note_troubles(&mut self, failed: Vec<(PathBuf, notify::Error)>, now: Instant) {
        let mut troubles = self.tree.troubles.clone();
        for (directory, error) in failed {
            let message = format_args!("directory cannot be watched, changes in it are not seen: {error}").to_string();
            troubles.insert(directory.into(), Problem::error(Reason::Malformed, "", message));
        }
        for (path, problem) in &troubles {
            if self.troubles.get(path) != Some(problem) {
                self.readings.insert(Arc::clone(path), (Reading::Unreadable(problem.clone()), now));
            }
        }
        self.troubles = troubles;
    }

    fn note_gone(&mut self, now: Instant) {
        let Self { tree, troubles, readings, .. } = self;
        let is_there = |path: &Path| tree.files.contains_key(path) || troubles.contains_key(path);
        // What has come back is wanted, and what was read and has gone need not be told.
        readings.retain(|path, (reading, _)| is_there(path) != matches!(reading, Reading::Gone));
        for path in self.holdings.files().filter(|path| !is_there(path) && !tree.may_hide(path)) {
            readings.entry(Arc::clone(path)).or_insert((Reading::Gone, now));
        }
    }

    /// Reads the wanted files that nobody writes.
    fn read_wanted(&mut self) -> ControlFlow<()> {
        loop {
            let now = Instant::now();
            let is_due =
                |(path, from): &(&Arc<Path>, &Instant)| **from <= now && self.access(path, now) == Access::Free;
            let due = self.wanted.iter().filter(is_due).take(MAX_FILES_AT_ONCE);
            let due: Vec<Arc<Path>> = due.map(|(path, _)| Arc::clone(path)).collect();
            if due.is_empty() {
                return ControlFlow::Continue(());
            }
            for path in &due {
                self.wanted.remove(path);
            }
            let results: Vec<_> = due.iter().map(|path| read(path)).collect();
            // A writer may have begun meanwhile, or the file may be gone: then whatever was read of it is worth nothing.
            let messages = self.watch.catch_up();
            self.take(messages)?;
            let now = Instant::now();
            for (path, result) in due.into_iter().zip(results) {
                let is_there = self.tree.files.contains_key(&path);
                if is_there && self.access(&path, now) == Access::Free && !self.wanted.contains_key(&path) {
                    self.keep(path, result, now);
                }
            }
        }
    }

    fn keep(&mut self, path: Arc<Path>, result: Result<Vec<u8>, ReadError>, now: Instant) {
        let is_empty = result.as_ref().is_ok_and(Vec::is_empty);
        if let Some(until) = self.doubt(&path, is_empty, now) {
            self.wanted.insert(path, until);
            return;
        }
        let reading = match result {
            Ok(bytes) if self.holdings.is_same(&path, xxh3_128(&bytes)) => {
                self.readings.remove(&path);
                return;
            }
            Ok(bytes) => reading(&bytes, &self.config),
            // It was there a moment ago: the next look finds out. A link to nowhere is there all the same.
            Err(ReadError::Missing) if path.symlink_metadata().is_err() => {
                self.is_tree_stale = true;
                return;
            }
            Err(ReadError::Changing) => {
                self.wanted.insert(path, now + GRACE);
                return;
            }
            Err(error) => unreadable_because(&error),
        };
        self.readings.insert(path, (reading, now));
    }

    /// Until when it is doubted that a file is empty.
    fn doubt(&mut self, path: &Arc<Path>, is_empty: bool, now: Instant) -> Option<Instant> {
        let is_closed = self.tree.files.get(path).is_some_and(|origin| self.writers.is_closed(&origin.end));
        if !is_empty || is_closed || !self.holdings.holds_objects(path) {
            self.doubted.remove(path);
            return None;
        }
        let until = *self.doubted.entry(Arc::clone(path)).or_insert(now + DOUBT);
        (now < until).then_some(until)
    }

    // === what to tell ===

    fn tell(&mut self, output: &Sender<SourceEvent>) -> ControlFlow<()> {
        if !self.is_time() {
            return ControlFlow::Continue(());
        }
        if self.losing_until().is_some() {
            // Whatever has come back by now has come back in time.
            let messages = self.watch.catch_up();
            self.take(messages)?;
            if !self.is_time() {
                return ControlFlow::Continue(());
            }
        }
        let readings = std::mem::take(&mut self.readings).into_iter().map(|(path, (reading, _))| (path, reading));
        let (batch, missing) = self.holdings.commit(readings);
        let now = Instant::now();
        self.wanted.extend(missing.into_iter().map(|path| (path, now)));
        let batch = Some(batch).filter(|batch| !batch.is_empty()).map(SourceEvent::Batch);
        let listed = (!std::mem::replace(&mut self.is_listed, true)).then_some(SourceEvent::Listed);
        for event in batch.into_iter().chain(listed) {
            if output.blocking_send(event).is_err() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// Nobody is handed anything before the first list, and afterwards what is known does not wait for what is read.
    fn tell_recalled(&mut self, output: &Sender<SourceEvent>) -> ControlFlow<()> {
        for Recall { objects, done } in std::mem::take(&mut self.recalls) {
            let read = objects.into_iter().filter_map(|LastGood { file, object }| {
                recall::read(object, &self.config).map(|resource| (file, resource))
            });
            let batch = self.holdings.recall(read.collect());
            for event in [SourceEvent::Batch(batch), SourceEvent::Recalled(done)] {
                if output.blocking_send(event).is_err() {
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether what was read is to be told now, or whether more of it may come.
    fn is_time(&self) -> bool {
        let now = Instant::now();
        let is_complete = !self.is_tree_stale && !is_soon(self.next_reading(now), now);
        if !self.is_listed {
            // The first batch is everything, except for files whose writers take their time.
            return is_complete;
        }
        // What seems to be gone may be in the files that are read next.
        self.losing_until().is_none_or(|until| is_complete && until <= now)
    }
}

/// Whether something will be read so soon that it is waited for.
fn is_soon(reading: Option<Instant>, now: Instant) -> bool {
    reading.is_some_and(|at| at <= now + SETTLE)
}

/// How long a file may be incomplete that was written before anybody watched. Links are made to finished files.
fn settle(origin: &Origin, new: &BTreeSet<PathBuf>) -> Duration {
    if origin.links.is_empty() && new.contains(origin.directory()) { SETTLE } else { Duration::ZERO }
}
