//! Which files are being written: what is in them now is not what their writer means.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a file that nobody is seen to open may be incomplete. A file that was opened for writing before its directory
/// was watched is betrayed by its next write; one that was linked into place never is written at all.
pub(super) const SETTLE: Duration = Duration::from_millis(30);

/// The files that are being written, by the entries that events name.
#[derive(Default)]
pub(super) struct Writers {
    traces: HashMap<PathBuf, Trace>,
    /// What was known about an entry that was renamed, until it arrives.
    moving: Option<(usize, Trace)>,
}

/// What is known about the writer of a file.
#[derive(Clone, Copy)]
enum Trace {
    /// The file was created and not opened so far. If it is not opened until then, it is a link to a finished file.
    Created(Instant),
    /// The file was written and not closed so far.
    Open,
    /// The file was closed, and nobody has opened it since.
    Closed,
}

/// Whether a file may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// It is finished.
    Free,
    /// It is finished then, unless something happens.
    From(Instant),
    /// It is being written.
    Never,
}

impl Writers {
    /// Whether a file may be read now.
    pub(super) fn access(&self, entry: &Path, now: Instant) -> Access {
        match self.traces.get(entry) {
            Some(Trace::Created(settled)) if now < *settled => Access::From(*settled),
            Some(Trace::Open) => Access::Never,
            Some(Trace::Created(_) | Trace::Closed) | None => Access::Free,
        }
    }

    /// Whether nobody has opened the file since its writer closed it.
    pub(super) fn is_closed(&self, entry: &Path) -> bool {
        matches!(self.traces.get(entry), Some(Trace::Closed))
    }

    pub(super) fn created(&mut self, entry: PathBuf, now: Instant) {
        // Symbolic links are never written, and a second name of a file is not the name that its writer uses.
        let is_new = fs::symlink_metadata(&entry).is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1);
        if is_new {
            self.traces.insert(entry, Trace::Created(now + SETTLE));
        } else {
            self.traces.remove(&entry);
        }
    }

    /// Readers open files too: of a file that was just created, it is the writer.
    pub(super) fn opened(&mut self, entry: &Path, now: Instant) {
        match self.access(entry, now) {
            Access::Free => drop(self.traces.remove(entry)),
            Access::From(_) | Access::Never => drop(self.traces.insert(entry.to_owned(), Trace::Open)),
        }
    }

    pub(super) fn modified(&mut self, entry: PathBuf) {
        self.traces.insert(entry, Trace::Open);
    }

    pub(super) fn closed(&mut self, entry: PathBuf) {
        self.traces.insert(entry, Trace::Closed);
    }

    /// The entry was renamed. `tracker` is the same when it arrives elsewhere.
    pub(super) fn left(&mut self, entry: &Path, tracker: Option<usize>) {
        let trace = self.traces.remove(entry);
        self.removed(entry);
        self.moving = tracker.zip(trace);
    }

    /// The entry took the place of whatever was there.
    pub(super) fn arrived(&mut self, entry: PathBuf, tracker: Option<usize>) {
        match self.moving.take().filter(|(moving, _)| Some(*moving) == tracker) {
            Some((_, trace)) => self.traces.insert(entry, trace),
            None => self.traces.remove(&entry),
        };
    }

    pub(super) fn removed(&mut self, entry: &Path) {
        self.traces.retain(|other, _| !other.starts_with(entry));
    }

    /// Events were lost: nothing is known.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Lets go of what no longer matters: files that were linked, and finished files that are not ours.
    pub(super) fn sweep(&mut self, now: Instant, is_ours: impl Fn(&Path) -> bool) {
        self.traces.retain(|entry, trace| match trace {
            Trace::Created(settled) => now < *settled,
            Trace::Open => true,
            Trace::Closed => is_ours(entry),
        });
    }
}
