//! Edits of files, as people and programs make them.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

/// How a file is edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    /// The new text is written beside the file and renamed over it.
    Rename,
    /// The file is truncated and written.
    InPlace,
    /// The file is removed.
    Remove,
    /// The file that was removed comes back.
    Create,
}

impl Edit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rename => "write and rename",
            Self::InPlace => "write in place",
            Self::Remove => "remove",
            Self::Create => "create",
        }
    }

    /// Makes the edit and returns when it was done: the file closed, renamed or removed.
    pub(crate) fn make(self, file: &Path, text: &str) -> io::Result<Instant> {
        match self {
            Self::Rename => {
                // As editors do it: a name that is no manifest's, in the same directory.
                let beside = file.with_extension("yaml.tmp");
                fs::write(&beside, text)?;
                fs::rename(beside, file)?;
            }
            Self::InPlace | Self::Create => fs::write(file, text)?,
            Self::Remove => fs::remove_file(file)?,
        }
        Ok(Instant::now())
    }
}
