//! Bad successors, of which no build of the gateway is one: one that crashes with the sockets in its hands, and one of
//! another version. It is this program in another role, started by the gateway.

use std::io::{IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::ValueEnum;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Kinds of messages: the first one of a successor, the end of what the old process sends, its refusal.
const HELLO: u8 = 1;
const HANDED: u8 = 5;
const ABORT: u8 = 12;
/// Bytes of the kind and of the length in front of a payload.
const HEAD: usize = 5;
/// Descriptors that come with one message at most.
const MAX_DESCRIPTORS: usize = 64;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// It dies as soon as it has all sockets and all state.
    Crash,
    /// It speaks a protocol that the old process does not.
    Version,
}

/// Takes part in a hand-over until the fault shows.
pub(crate) fn succeed(socket: &Path, fault: Fault) -> anyhow::Result<ExitCode> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
    let protocol = if fault == Fault::Version { u16::MAX } else { 1 };
    let hello = format!("{{\"protocol\":{protocol},\"model\":1,\"version\":\"loadtest\"}}");
    let mut message = vec![HELLO];
    message.extend(u32::try_from(hello.len())?.to_be_bytes());
    message.extend(hello.as_bytes());
    stream.write_all(&message).context("say hello")?;
    let (mut received, mut sockets) = (Vec::new(), Vec::new());
    loop {
        while let Some((kind, length)) = first(&received) {
            match kind {
                HANDED if !sockets.is_empty() => std::process::abort(),
                HANDED => bail!("there were no sockets"),
                ABORT => bail!("refused: {}", String::from_utf8_lossy(received.get(HEAD..length).unwrap_or_default())),
                _ => drop(received.drain(..length)),
            }
        }
        receive(&stream, &mut received, &mut sockets)?;
    }
}

/// The kind of the first message and its length with its head; `None` while it is not complete.
fn first(received: &[u8]) -> Option<(u8, usize)> {
    let (&[kind, a, b, c, d], _) = received.split_first_chunk::<HEAD>()?;
    let length = HEAD + usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    (received.len() >= length).then_some((kind, length))
}

fn receive(stream: &UnixStream, received: &mut Vec<u8>, sockets: &mut Vec<std::os::fd::OwnedFd>) -> anyhow::Result<()> {
    let mut chunk = vec![0; 64 << 10];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let buffer = &mut [IoSliceMut::new(&mut chunk)];
    let read = recvmsg(stream, buffer, &mut ancillary, RecvFlags::CMSG_CLOEXEC).context("receive")?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            sockets.extend(came);
        }
    }
    if read.bytes == 0 {
        bail!("the old process closed the connection");
    }
    received.extend(chunk.iter().take(read.bytes));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_when_it_is_complete() {
        assert_eq!(first(b"\x05\0\0\0\0"), Some((HANDED, HEAD)));
        assert_eq!(first(b"\x0c\0\0\0\x04\"no\"\x05"), Some((ABORT, HEAD + 4)));
        assert_eq!(first(b"\x0c\0\0\0\x04\"no"), None);
        assert_eq!(first(b"\x0c\0\0"), None);
    }
}
