//! Where resources come from: every source tells what changed in the same words.
//!
//! A source reads and tells; it must not know what the objects amount to.

pub mod directory;
mod document;
pub mod kube;
pub mod locate;
pub mod manifest;
pub mod recall;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use translate::{Change, Problem};

/// What a source tells.
#[derive(Debug)]
pub enum SourceEvent {
    /// Something changed.
    Batch(Batch),
    /// Everything that was there at the start has been told. Comes once.
    Listed,
    /// Whoever waits for this is to be told when everything before is live.
    Recalled(oneshot::Sender<()>),
}

/// Changes that belong together: states in between must not show.
#[derive(Debug, Default)]
pub struct Batch {
    /// The changes, each with the place of the object. Those of an API server have none.
    pub changes: Vec<(Change, Option<Place>)>,
    /// When the first of them was noticed; `None` for just now.
    pub noticed: Option<Instant>,
    /// What there is to say about `files`, besides what is wrong with the objects themselves.
    pub reports: Vec<Report>,
    /// The files about which `reports` says everything: what was reported about them before is void.
    pub files: Vec<Arc<Path>>,
    /// What cannot be read, in all files and not only in those of this batch.
    pub faults: Faults,
}

/// What cannot be read. An object in it stays as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Files that cannot be read, or not all of their documents.
    pub n_files: usize,
    /// Known objects whose newest version is in there.
    pub n_objects: usize,
}

/// The place of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, named as its user did.
    pub path: Arc<Path>,
    /// The line that its document begins at, from 1.
    pub line: usize,
    /// Which item it is, when the document is a list.
    pub item: Option<usize>,
}

/// Something that the author of a file should know, and that is not about a known object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Report {
    /// Where it is. The line of a syntax error is its own.
    pub place: Place,
    /// What it is.
    pub problem: Problem,
}

impl Batch {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { changes, noticed: _, reports, files, faults: _ } = self;
        changes.is_empty() && reports.is_empty() && files.is_empty()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}
