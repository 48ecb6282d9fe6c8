//! Manifests in files and directories, read once or watched.
//!
//! A file is read when its writer has closed it or renamed it into place, never while it is being written; what was read
//! while a writer began is thrown away. What seems to be gone is waited for a moment, because editors and version control
//! take files away and put them back; what is there is told at once. It works by the events of Linux: elsewhere, and on
//! file systems that tell nothing (NFS, changes by other hosts), changes are seen by [`DirectoryHandle::reread`].

mod file;
mod holdings;
mod tree;
mod watch;
mod worker;
mod writing;

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc as thread_mpsc;
use std::thread;

use tokio::sync::{mpsc, oneshot};
use translate::{Config, Problem, Reason};

use self::file::{ReadError, read};
use self::holdings::{Holdings, Reading};
use self::tree::Tree;
use self::watch::{Message, Watch};
use self::worker::Worker;
use super::manifest::parse;
use super::recall::{Recall, Unread};
use super::{Batch, SourceEvent};

/// Why manifests cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A path does not lead to a file or directory.
    #[error("open manifests {}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The operating system does not let us watch.
    #[error("watch manifests")]
    Watch(#[from] notify::Error),
}

/// Manifests that are watched.
pub struct DirectorySource {
    worker: Worker,
    messages: thread_mpsc::Sender<Message>,
}

/// Asks a [`DirectorySource`] for something while it runs.
#[derive(Clone)]
pub struct DirectoryHandle {
    messages: thread_mpsc::Sender<Message>,
}

/// Reads every manifest once. Directories are read with everything below them.
///
/// # Errors
///
/// When one of the paths does not exist; what is wrong inside of them is in the batch.
pub fn load(paths: &[PathBuf], config: &Config) -> Result<Batch, OpenError> {
    for path in paths {
        metadata(path)?;
    }
    let Tree { files, troubles, .. } = Tree::walk(paths);
    let unreadable = troubles.into_iter().map(|(path, problem)| (path, Reading::Unreadable(problem)));
    let readings = files.into_keys().map(|path| {
        let reading = match read(&path) {
            Ok(bytes) => reading(&bytes, config),
            Err(error) => unreadable_because(&error),
        };
        (path, reading)
    });
    let (batch, _) = Holdings::default().commit(unreadable.chain(readings));
    Ok(batch)
}

/// The files that hold manifests, sorted. Directories are searched with everything below them.
///
/// # Errors
///
/// When one of the paths does not exist.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, OpenError> {
    for path in paths {
        metadata(path)?;
    }
    Ok(Tree::walk(paths).files.into_keys().map(|path| path.to_path_buf()).collect())
}

impl DirectorySource {
    /// Manifests in these files and directories, which need to exist now and may come and go later.
    ///
    /// # Errors
    ///
    /// When one of the paths is neither a file nor a directory, or when nothing can be watched.
    pub fn open(paths: Vec<PathBuf>, config: Config) -> Result<Self, OpenError> {
        for path in &paths {
            let metadata = metadata(path)?;
            if !metadata.is_file() && !metadata.is_dir() {
                let source = io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a directory");
                return Err(OpenError::Path { path: path.clone(), source });
            }
        }
        let (messages, receiver) = thread_mpsc::channel();
        let watch = Watch::new(messages.clone(), receiver)?;
        Ok(Self { worker: Worker::new(paths, config, watch), messages })
    }

    /// A handle that outlives [`DirectorySource::run`].
    #[must_use]
    pub fn handle(&self) -> DirectoryHandle {
        DirectoryHandle { messages: self.messages.clone() }
    }

    /// Tells what is there and then what changes, until nobody receives it any more. Files are read on a thread of their
    /// own: neither a slow disk nor a large file holds up the runtime.
    pub async fn run(self, output: mpsc::Sender<SourceEvent>) {
        let Self { worker, messages } = self;
        // Also when this future is dropped.
        let _stop = StopOnDrop(messages.clone());
        let (alive, mut ended) = oneshot::channel::<()>();
        let thread_output = output.clone();
        let thread = thread::Builder::new().name("manifests".to_owned()).spawn(move || {
            let _alive = alive;
            worker.run(&thread_output);
        });
        if let Err(error) = thread {
            tracing::error!(%error, "no thread to read manifests");
            return;
        }
        tokio::select! {
            () = output.closed() => {
                // Nobody is left to stop when this fails.
                let _ = messages.send(Message::Stop);
                let _ = (&mut ended).await;
            }
            _ = &mut ended => {}
        }
    }
}

impl DirectoryHandle {
    /// Reads everything again. Only what changed is told.
    pub fn reread(&self) {
        // Without a receiver nothing is read any more.
        let _ = self.messages.send(Message::Reread);
    }

    /// The objects whose newest versions cannot be read.
    pub(super) async fn unread(&self) -> Vec<Unread> {
        let (answer, answered) = oneshot::channel();
        let _ = self.messages.send(Message::Unread(answer));
        answered.await.unwrap_or_default()
    }

    /// Goes on with last good versions.
    pub(super) fn recall(&self, recall: Recall) {
        let _ = self.messages.send(Message::Recall(recall));
    }
}

/// Ends the thread that reads.
struct StopOnDrop(thread_mpsc::Sender<Message>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(Message::Stop);
    }
}

fn metadata(path: &Path) -> Result<fs::Metadata, OpenError> {
    fs::metadata(path).map_err(|source| OpenError::Path { path: path.to_owned(), source })
}

fn reading(bytes: &[u8], config: &Config) -> Reading {
    Reading::Read { hash: xxhash_rust::xxh3::xxh3_128(bytes), manifest: parse(bytes, config) }
}

fn unreadable_because(error: &ReadError) -> Reading {
    Reading::Unreadable(Problem::error(Reason::Malformed, "", error))
}
