//! What an observation means to the worker: what is written, what is wanted, whether the tree is another one.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::{GRACE, Worker};
use crate::source::directory::holdings::Reading;
use crate::source::directory::tree::Update;
use crate::source::directory::watch::{Message, Observation};
use crate::source::directory::writing::SETTLE;

impl Worker {
    pub(super) fn take(&mut self, messages: Vec<Message>) -> ControlFlow<()> {
        let now = Instant::now();
        for message in messages {
            match message {
                Message::Observed(observation) => self.observe(observation, now),
                Message::Reread => {
                    self.is_tree_stale = true;
                    self.want_all(now);
                }
                // Whoever asked may be gone.
                Message::Unread(answer) => drop(answer.send(self.holdings.unread())),
                Message::Recall(recall) => self.recalls.push(recall),
                Message::Stop => return ControlFlow::Break(()),
            }
        }
        ControlFlow::Continue(())
    }

    fn observe(&mut self, observation: Observation, now: Instant) {
        match observation {
            Observation::Created(entry) => {
                self.grow(&entry);
                self.drop_readings(&entry);
                self.want_dependents(&entry, now);
                self.writers.created(entry, now);
            }
            Observation::Opened(entry) => self.writers.opened(&entry, now),
            Observation::Modified(entry) => {
                self.drop_readings(&entry);
                self.writers.modified(entry);
            }
            Observation::Closed(entry) => {
                self.want_dependents(&entry, now);
                self.writers.closed(entry);
            }
            Observation::Left(entry, tracker) => {
                self.shrink(&entry, now);
                self.watch.forget(&entry);
                self.writers.left(&entry, tracker);
            }
            Observation::Arrived(entry, tracker) => {
                self.grow(&entry);
                self.want_dependents(&entry, now);
                self.writers.arrived(entry, tracker);
            }
            Observation::Removed(entry) => {
                self.shrink(&entry, now);
                self.watch.forget(&entry);
                self.writers.removed(&entry);
            }
            Observation::Touched(entry) => self.retry(&entry, now),
            Observation::Lost => {
                // Directories may be others under the same names.
                self.watch.forget_all();
                self.writers.forget();
                self.is_tree_stale = true;
                self.want_all(now + SETTLE);
            }
        }
    }

    /// An entry is there.
    fn grow(&mut self, entry: &Path) {
        if self.is_tree_stale || !self.tree.may_grow_by(entry) {
            return;
        }
        match self.tree.update(entry) {
            // What seemed to be gone is there.
            Update::Added(path) => drop(self.readings.remove(&path)),
            Update::Same => {}
            Update::Removed(_) | Update::Unclear => self.is_tree_stale = true,
        }
    }

    /// An entry is not there any more.
    fn shrink(&mut self, entry: &Path, now: Instant) {
        // Where a link leads to it, there is something to tell unless it comes back.
        self.want_dependents(entry, now + GRACE);
        if self.is_tree_stale || !self.tree.hangs_on(entry) {
            return;
        }
        match self.tree.update(entry) {
            Update::Removed(path) => {
                self.wanted.remove(&path);
                self.readings.remove(&path);
                if self.holdings.knows(&path) {
                    self.readings.insert(path, (Reading::Gone, now));
                }
            }
            Update::Same => {}
            Update::Added(_) | Update::Unclear => self.is_tree_stale = true,
        }
    }

    /// Permissions changed: what could not be read may be readable now.
    fn retry(&mut self, entry: &Path, now: Instant) {
        self.is_tree_stale |= self.tree.hangs_on(entry) && !self.tree.troubles.is_empty();
        let unreadable = self.tree.dependents(entry).iter().filter(|path| self.holdings.is_unreadable(path));
        for path in unreadable.cloned().collect::<Vec<_>>() {
            self.wanted.insert(path, now);
        }
    }

    fn want_dependents(&mut self, entry: &Path, from: Instant) {
        let dependents = self.tree.dependents(entry).iter().map(|path| (Arc::clone(path), from));
        self.wanted.extend(dependents);
    }

    /// What was read is about to be another.
    fn drop_readings(&mut self, entry: &Path) {
        for path in self.tree.dependents(entry) {
            self.readings.remove(path);
        }
    }

    fn want_all(&mut self, from: Instant) {
        self.wanted.extend(self.tree.files.keys().map(|path| (Arc::clone(path), from)));
    }
}
