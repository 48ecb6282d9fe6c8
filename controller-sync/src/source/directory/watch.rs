//! The watch on directories: what happens to their entries, in the order in which it happened.
//!
//! Watches are on real directories, one by one and never recursive: a recursive watch misses what happens in a new
//! directory before it is on, and the caller has to look there anyway.

use std::collections::BTreeSet;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, CreateKind, Event, EventKind, Flag, ModifyKind, RenameMode};
use notify::{ErrorKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::oneshot;

use crate::source::recall::{Recall, Unread};

/// How many messages are taken at once: a file that is written all the time must not keep the others waiting.
const MAX_MESSAGES: usize = 4096;
/// How long the answer of the fence is waited for. It takes microseconds.
const FENCE_TIMEOUT: Duration = Duration::from_millis(500);

/// What reaches the thread that reads files.
#[derive(Debug)]
pub(super) enum Message {
    /// Something happened to an entry of a watched directory.
    Observed(Observation),
    /// Read everything again.
    Reread,
    /// Say which objects cannot be read.
    Unread(oneshot::Sender<Vec<Unread>>),
    /// Go on with last good versions.
    Recall(Recall),
    /// Nobody listens any more.
    Stop,
}

/// What happened to an entry of a watched directory, or to the directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Observation {
    Created(PathBuf),
    Opened(PathBuf),
    Modified(PathBuf),
    /// A writer closed it.
    Closed(PathBuf),
    /// It was renamed; the number is the same where it arrives.
    Left(PathBuf, Option<usize>),
    Arrived(PathBuf, Option<usize>),
    Removed(PathBuf),
    /// Its permissions or its owner may be others.
    Touched(PathBuf),
    /// Events were lost: anything may have happened.
    Lost,
}

/// The watched directories.
pub(super) struct Watch {
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    messages: Receiver<Message>,
    fence: Option<Fence>,
}

/// A pipe of our own that is watched like the directories. Events come in the order in which they happened: when a write
/// to the pipe is told, everything before it has been told too.
struct Fence {
    reader: PipeReader,
    writer: PipeWriter,
    path: PathBuf,
}

impl Watch {
    /// A watch on nothing so far. Its events go to the sender.
    pub(super) fn new(sender: Sender<Message>, messages: Receiver<Message>) -> notify::Result<Self> {
        // The channel has no bound, so that the thread of the watcher, which answers us too, never waits for us.
        let handler = move |event: notify::Result<Event>| {
            for observation in observations(event) {
                // Without a receiver there is nobody to tell.
                let _ = sender.send(Message::Observed(observation));
            }
        };
        let mut watcher = RecommendedWatcher::new(handler, notify::Config::default())?;
        let fence = Fence::new(&mut watcher);
        Ok(Self { watcher, watched: BTreeSet::new(), messages, fence })
    }

    /// Watches these directories and no others. Returns those that were not watched before, and those that cannot be.
    pub(super) fn cover(
        &mut self,
        directories: &BTreeSet<PathBuf>,
    ) -> (BTreeSet<PathBuf>, Vec<(PathBuf, notify::Error)>) {
        let stale: Vec<PathBuf> = self.watched.difference(directories).cloned().collect();
        for directory in stale {
            self.unwatch(&directory);
        }
        let mut new = BTreeSet::new();
        let mut failed = Vec::new();
        for directory in directories.difference(&self.watched) {
            match self.watcher.watch(directory, RecursiveMode::NonRecursive) {
                Ok(()) => drop(new.insert(directory.clone())),
                // It is gone, which its parent tells.
                Err(error) if is_missing(&error) => {}
                Err(error) => failed.push((directory.clone(), error)),
            }
        }
        self.watched.extend(new.iter().cloned());
        (new, failed)
    }

    /// A directory is no longer where it was, and neither is what is in it: what is there now must be watched anew.
    pub(super) fn forget(&mut self, directory: &Path) {
        let below = self.watched.range(directory.to_owned()..).take_while(|watched| watched.starts_with(directory));
        for directory in below.cloned().collect::<Vec<_>>() {
            self.unwatch(&directory);
        }
    }

    /// Forgets every watch.
    pub(super) fn forget_all(&mut self) {
        self.forget(Path::new("/"));
    }

    fn unwatch(&mut self, directory: &Path) {
        // The watcher may have noticed by itself that it is gone.
        let _ = self.watcher.unwatch(directory);
        self.watched.remove(directory);
    }

    /// Waits until something happens, or until the deadline; then takes everything that has been told.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Vec<Message> {
        let first = match deadline {
            Some(deadline) => self.messages.recv_timeout(deadline.saturating_duration_since(Instant::now())),
            None => self.messages.recv().map_err(RecvTimeoutError::from),
        };
        match first {
            Ok(first) => self.without_fence([first].into_iter().chain(self.messages.try_iter()).take(MAX_MESSAGES)),
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            Err(RecvTimeoutError::Disconnected) => vec![Message::Stop],
        }
    }

    /// Takes everything that has happened before this call, also what has not been told yet.
    pub(super) fn catch_up(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        if let Some(fence) = &mut self.fence
            && fence.raise().is_ok()
        {
            let deadline = Instant::now() + FENCE_TIMEOUT;
            while let Ok(message) = self.messages.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                // When events are lost, this one may be among them.
                let is_last = fence.is_told_by(&message) || matches!(message, Message::Observed(Observation::Lost));
                messages.push(message);
                if is_last {
                    break;
                }
            }
        }
        messages.extend(self.messages.try_iter().take(MAX_MESSAGES));
        self.without_fence(messages)
    }

    fn without_fence(&self, messages: impl IntoIterator<Item = Message>) -> Vec<Message> {
        let is_fence = |message: &Message| self.fence.as_ref().is_some_and(|fence| fence.is_told_by(message));
        messages.into_iter().filter(|message| !is_fence(message)).collect()
    }
}

impl Fence {
    /// `None` where there is no `/proc`: then what has not been told yet is not waited for.
    fn new(watcher: &mut RecommendedWatcher) -> Option<Self> {
        let (reader, writer) = std::io::pipe().ok()?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", writer.as_raw_fd()));
        watcher.watch(&path, RecursiveMode::NonRecursive).ok()?;
        Some(Self { reader, writer, path })
    }

    fn raise(&mut self) -> std::io::Result<()> {
        self.writer.write_all(b"!")?;
        self.reader.read_exact(&mut [0])
    }

    fn is_told_by(&self, message: &Message) -> bool {
        match message {
            Message::Observed(Observation::Modified(path)) => *path == self.path,
            Message::Observed(_) | Message::Reread | Message::Unread(_) | Message::Recall(_) | Message::Stop => false,
        }
    }
}

fn is_missing(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

fn observations(event: notify::Result<Event>) -> Vec<Observation> {
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            tracing::warn!(%error, "cannot watch manifests: everything is read again");
            return vec![Observation::Lost];
        }
    };
    if event.attrs.flag() == Some(Flag::Rescan) {
        return vec![Observation::Lost];
    }
    let tracker = event.attrs.tracker();
    let observe = |path: PathBuf| {
        Some(match event.kind {
            EventKind::Create(CreateKind::File | CreateKind::Folder) => Observation::Created(path),
            EventKind::Access(AccessKind::Open(_)) => Observation::Opened(path),
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Observation::Closed(path),
            EventKind::Modify(ModifyKind::Data(_)) => Observation::Modified(path),
            EventKind::Modify(ModifyKind::Metadata(_)) => Observation::Touched(path),
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) => Observation::Left(path, tracker),
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Observation::Arrived(path, tracker),
            EventKind::Remove(_) => Observation::Removed(path),
            // `RenameMode::Both` repeats the other two.
            _ => return None,
        })
    };
    event.paths.into_iter().filter_map(observe).collect()
}
