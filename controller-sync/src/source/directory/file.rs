//! One file as bytes.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// The size up to which a file is read.
pub(super) const MAX_BYTES: u64 = 16 << 20;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// It is not there.
    #[error("file does not exist")]
    Missing,
    /// It became another one while it was read.
    #[error("file changes while it is read")]
    Changing,
    /// It is too large.
    #[error("file is larger than {} MiB", MAX_BYTES >> 20)]
    TooLarge,
    /// It cannot be read.
    #[error("file cannot be read: {0}")]
    Io(#[source] io::Error),
}

/// Reads a file, as far as it may be large.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ReadError> {
    // An empty file is not opened: whoever opens it now is another one, perhaps about to write it.
    let metadata = fs::metadata(path)?;
    if metadata.is_file() && metadata.len() == 0 {
        return Ok(Vec::new());
    }
    let file = File::open(path)?;
    let before = file.metadata()?;
    if before.len() > MAX_BYTES {
        return Err(ReadError::TooLarge);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or_default() + 1);
    // It may have grown, and the length of what is no regular file says nothing.
    (&file).take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ReadError::TooLarge);
    }
    // The file system tells of a truncation when it is done, but what is read while it goes on is short already.
    let after = file.metadata()?;
    let is_same = before.len() == after.len() && before.modified().ok() == after.modified().ok();
    if is_same { Ok(bytes) } else { Err(ReadError::Changing) }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Missing } else { Self::Io(error) }
    }
}
