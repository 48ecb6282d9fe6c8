//! The place in the file system where the gateway of the moment takes hand-over connections: how it is found, bound and
//! replaced.
//!
//! A new socket is made beside the path and renamed over it: there is no moment without one, and nobody ever removes
//! that of another process.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

use super::channel::Channel;

/// Connections that wait while one is looked at.
const BACKLOG: i32 = 16;

/// Where hand-over connections are taken.
#[derive(Clone, Debug)]
pub struct HandoffPath(PathBuf);

/// A socket that is ready and that nobody finds yet.
#[derive(Debug)]
pub struct Hidden {
    socket: StdListener,
    at: PathBuf,
    path: PathBuf,
}

/// What is wrong with the place.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// Something else than a socket is there, which is not ours to replace.
    #[error("{} is there and is no socket", .0.display())]
    NotASocket(PathBuf),
    /// The process that listens there is not ours.
    #[error("{} belongs to user {theirs}, this process runs as {ours}", path.display())]
    Stranger {
        /// The place.
        path: PathBuf,
        /// Their user.
        theirs: u32,
        /// Our user.
        ours: u32,
    },
    /// The operating system says no.
    #[error("{what} {}: {error}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
}

impl HandoffPath {
    /// A place. Nothing is looked at.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Connects to the gateway that listens there; `None` when nobody does, whatever is left of an earlier one.
    ///
    /// # Errors
    ///
    /// When the place cannot be reached, or a process of another user listens there.
    pub async fn connect(&self) -> Result<Option<Channel>, PathError> {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        let stream = match UnixStream::connect(&self.0).await {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => return Ok(None),
            Err(error) => return Err(self.failed("connect to", error)),
        };
        let theirs = stream.peer_cred().map_err(|error| self.failed("ask who listens at", error))?.uid();
        let ours = rustix::process::geteuid().as_raw();
        if theirs != ours {
            return Err(PathError::Stranger { path: self.0.clone(), theirs, ours });
        }
        Ok(Some(Channel::new(stream)))
    }

    /// Makes a socket that [`Hidden::show`] puts in place.
    ///
    /// # Errors
    ///
    /// When the directory does not take one, or something else is at the place.
    pub fn prepare(&self) -> Result<Hidden, PathError> {
        match fs::symlink_metadata(&self.0) {
            Ok(metadata) if !metadata.file_type().is_socket() => return Err(PathError::NotASocket(self.0.clone())),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.failed("look at", error)),
            _ => {}
        }
        let mut at = self.0.clone().into_os_string();
        at.push(".next");
        let at = PathBuf::from(at);
        // Left by a process that ended in this very moment: there is one successor at a time.
        let _ = fs::remove_file(&at);
        let bind = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
            socket.bind(&SockAddr::unix(&at)?)?;
            // Before it listens, so that nobody else ever gets through.
            fs::set_permissions(&at, Permissions::from_mode(0o600))?;
            socket.listen(BACKLOG)?;
            Ok(StdListener::from(std::os::fd::OwnedFd::from(socket)))
        };
        let socket = bind().map_err(|error| self.failed("bind", error))?;
        Ok(Hidden { socket, at, path: self.0.clone() })
    }

    fn failed(&self, what: &'static str, error: io::Error) -> PathError {
        PathError::Io { what, path: self.0.clone(), error }
    }
}

impl Hidden {
    /// Puts the socket in place of whatever socket is there. Must be called inside a runtime.
    ///
    /// # Errors
    ///
    /// When the directory has become read-only meanwhile.
    pub fn show(self) -> Result<UnixListener, PathError> {
        let Self { socket, at, path } = self;
        let shown = fs::rename(&at, &path).and_then(|()| UnixListener::from_std(socket));
        shown.map_err(|error| PathError::Io { what: "put a socket in place at", path, error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_its_owner_may_connect() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("handoff");
        let _listener = HandoffPath::new(&path).prepare().unwrap().show().unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(HandoffPath::new(&path).connect().await.unwrap().is_some());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[tokio::test]
    async fn a_stale_socket_file_counts_as_none_and_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = HandoffPath::new(&directory.path().join("handoff"));
        assert!(path.connect().await.unwrap().is_none(), "no file");
        drop(path.prepare().unwrap().show().unwrap());
        assert!(path.connect().await.unwrap().is_none(), "a file, and nobody behind it");
        let _listener = path.prepare().unwrap().show().unwrap();
        assert!(path.connect().await.unwrap().is_some());
    }

    #[tokio::test]
    async fn the_place_changes_hands_without_a_gap() {
        let directory = tempfile::tempdir().unwrap();
        let path = HandoffPath::new(&directory.path().join("handoff"));
        let old = path.prepare().unwrap().show().unwrap();
        let hidden = path.prepare().unwrap();
        let _to_old = path.connect().await.unwrap().unwrap();
        assert!(old.accept().await.is_ok(), "a hidden socket is not found");
        let new = hidden.show().unwrap();
        let _to_new = path.connect().await.unwrap().unwrap();
        assert!(new.accept().await.is_ok());
    }

    #[test]
    fn what_is_no_socket_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("handoff");
        fs::write(&path, "precious").unwrap();
        let error = HandoffPath::new(&path).prepare().unwrap_err();
        assert!(matches!(error, PathError::NotASocket(_)), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_place_that_cannot_be_written_to_is_an_error_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nowhere/handoff");
        let text = HandoffPath::new(&path).prepare().unwrap_err().to_string();
        assert!(text.contains("nowhere/handoff") && text.contains("No such file"), "{text}");
    }
}
