//! Hand-overs from outside: the commands that ask for one, programs that are not up to it, and either side of the
//! protocol in the hands of a test.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};

use crate::gateway::{binary, command};
use crate::wait;

/// The version that [`Place::other_version`] says it is.
pub const OTHER_VERSION: &str = "9.9.9";
/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Kinds of messages.
#[expect(missing_docs, reason = "they are what the protocol calls them")]
pub mod kind {
    pub const HELLO: u8 = 1;
    pub const SOCKETS: u8 = 2;
    pub const DESCRIPTORS: u8 = 3;
    pub const SECTION: u8 = 4;
    pub const HANDED: u8 = 5;
    pub const PREPARED: u8 = 6;
    pub const PROCEED: u8 = 7;
    pub const READY: u8 = 8;
    pub const CONFIRM: u8 = 9;
    pub const CONFIRMED: u8 = 10;
    pub const COMMIT: u8 = 11;
    pub const ABORT: u8 = 12;
}

/// A directory with a hand-over socket, and with programs to upgrade to.
pub struct Place(TempDir);

/// One end of a hand-over connection.
pub struct Peer {
    stream: UnixStream,
    received: Vec<u8>,
    /// What came beside the messages.
    pub descriptors: Vec<OwnedFd>,
}

impl Place {
    /// A place where nobody listens yet.
    #[must_use]
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// The path of the socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.0.path().join("handoff")
    }

    /// The flag that names it.
    #[must_use]
    pub fn flag(&self) -> String {
        format!("--handoff-socket={}", self.socket().display())
    }

    /// A program that is a shell script.
    #[must_use]
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        self.program(name, format!("#!/bin/sh\n{text}\n").as_bytes())
    }

    /// The gateway by another name.
    #[must_use]
    pub fn link(&self, name: &str) -> PathBuf {
        let link = self.0.path().join(name);
        std::os::unix::fs::symlink(binary(), &link).unwrap();
        link
    }

    /// The gateway itself, at a place of the test's own.
    #[must_use]
    pub fn copy(&self, name: &str) -> PathBuf {
        let program = self.0.path().join(name);
        let installed = Command::new("install").args(["-m", "755"]).arg(binary()).arg(&program).status().unwrap();
        assert!(installed.success());
        program
    }

    /// The gateway with another version in it, and nothing else changed: a second compilation would take minutes.
    ///
    /// # Panics
    /// When the version is not where it was.
    #[must_use]
    pub fn other_version(&self) -> PathBuf {
        let mut bytes = std::fs::read(binary()).unwrap();
        let (ours, theirs) = (format!("penstock {VERSION}"), format!("penstock {OTHER_VERSION}"));
        assert_eq!(ours.len(), theirs.len());
        let at: Vec<usize> = find_all(&bytes, ours.as_bytes());
        assert!(!at.is_empty(), "the program does not hold {ours:?}");
        for start in at {
            bytes[start..start + theirs.len()].copy_from_slice(theirs.as_bytes());
        }
        self.program("gateway-other", &bytes)
    }

    /// A program that this process never had open for writing: another thread that starts a process at that moment would
    /// keep it "busy" (ETXTBSY).
    fn program(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let (draft, program) = (self.0.path().join(format!("{name}.draft")), self.0.path().join(name));
        std::fs::write(&draft, bytes).unwrap();
        let installed = Command::new("install").args(["-m", "755"]).arg(&draft).arg(&program).status().unwrap();
        assert!(installed.success());
        program
    }

    /// Runs `gateway upgrade` to its end.
    pub async fn upgrade(&self, binary: Option<&Path>) -> Output {
        let mut arguments = vec!["upgrade".to_owned(), self.flag()];
        arguments.extend(binary.map(|binary| format!("--binary={}", binary.display())));
        let run = move || command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(run).await.unwrap()
    }

    /// Connects to the gateway as a successor or an operator would.
    pub async fn connect(&self) -> Peer {
        Peer::over(UnixStream::connect(self.socket()).await.unwrap())
    }

    /// Waits until somebody listens there.
    pub async fn wait_until_taken(&self) {
        let is_taken = async || UnixStream::connect(self.socket()).await.ok().map(drop);
        wait::until("the hand-over socket is there", is_taken).await;
    }

    /// The process that listens there, as soon as there is one.
    pub async fn pid(&self) -> u32 {
        let connect = async || UnixStream::connect(self.socket()).await.ok();
        let stream = wait::until("somebody listens at the hand-over socket", connect).await;
        u32::try_from(stream.peer_cred().unwrap().pid().unwrap()).unwrap()
    }

    /// Listens there in the place of a gateway.
    #[must_use]
    pub fn listen(&self) -> UnixListener {
        UnixListener::bind(self.socket()).unwrap()
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Peer {
    /// Speaks over a connection.
    #[must_use]
    pub fn over(stream: UnixStream) -> Self {
        Self { stream, received: Vec::new(), descriptors: Vec::new() }
    }

    /// Sends bytes as they are. The other side may have seen enough and be gone, which shows when it is listened to.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Sends a message.
    pub async fn send(&mut self, kind: u8, payload: Option<Value>) {
        self.send_raw(&frame(kind, payload)).await;
    }

    /// Sends a part of the state.
    pub async fn send_section(&mut self, name: &str, bytes: &[u8]) {
        let payload = [&[u8::try_from(name.len()).unwrap()], name.as_bytes(), bytes].concat();
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        self.send_raw(&[&[kind::SECTION], &length[..], &payload].concat()).await;
    }

    /// Sends a message with descriptors.
    pub async fn send_with(&mut self, kind: u8, payload: Option<Value>, with: &[BorrowedFd<'_>]) {
        let bytes = frame(kind, payload);
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(with)));
            Ok(sendmsg(self.stream.as_fd(), &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
        };
        let n_sent = self.stream.async_io(Interest::WRITABLE, send).await.unwrap();
        assert_eq!(n_sent, bytes.len());
    }

    /// Says HELLO in the version of this build.
    pub async fn hello(&mut self) {
        self.send(kind::HELLO, Some(json!({ "protocol": 1, "model": 1, "version": "a test" }))).await;
    }

    /// The next message: its kind and its payload. `None` when the other side has closed the connection.
    pub async fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        tokio::time::timeout(wait::LIMIT, self.next()).await.unwrap()
    }

    /// Reads until a message of a kind comes, and returns its payload.
    ///
    /// # Panics
    /// When the connection ends before.
    pub async fn receive_until(&mut self, wanted: u8) -> Vec<u8> {
        loop {
            let (kind, payload) = self.receive().await.unwrap_or_else(|| panic!("closed before message {wanted}"));
            if kind == wanted {
                return payload;
            }
            assert_ne!(kind, kind::ABORT, "{}", String::from_utf8_lossy(&payload));
        }
    }

    /// Waits for the message that there will be no hand-over, and returns the reason.
    pub async fn receive_abort(&mut self) -> String {
        loop {
            let (kind, payload) = self.receive().await.unwrap();
            if kind == kind::ABORT {
                return serde_json::from_slice(&payload).unwrap();
            }
        }
    }

    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let [kind, a, b, c, d, rest @ ..] = self.received.as_slice() {
                let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap();
                if let Some(payload) = rest.get(..length) {
                    let message = (*kind, payload.to_vec());
                    self.received.drain(..5 + length);
                    return Some(message);
                }
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn fill(&mut self) -> bool {
        let Self { stream, received, descriptors } = self;
        let mut chunk = vec![0; 64 << 10];
        let read = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let buffer = &mut [IoSliceMut::new(&mut chunk)];
            let read = recvmsg(stream.as_fd(), buffer, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(came) = message {
                    descriptors.extend(came);
                }
            }
            Ok(read.bytes)
        };
        // A reset is an end too.
        let n_bytes = stream.async_io(Interest::READABLE, read).await.unwrap_or_default();
        received.extend_from_slice(&chunk[..n_bytes]);
        n_bytes > 0
    }
}

/// A message as bytes.
#[must_use]
pub fn frame(kind: u8, payload: Option<Value>) -> Vec<u8> {
    let payload = payload.map(|payload| payload.to_string().into_bytes()).unwrap_or_default();
    let mut bytes = vec![kind];
    bytes.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn find_all(bytes: &[u8], wanted: &[u8]) -> Vec<usize> {
    let first = wanted[0];
    let is_at = |at: &usize| bytes[*at] == first && bytes[*at..].starts_with(wanted);
    (0..bytes.len()).filter(is_at).collect()
}
