//! The connection between the two processes: messages, and descriptors beside them (SCM_RIGHTS, unix(7)).
//!
//! Sizes and times are bounded here; what a message means is not known.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use zeroize::Zeroize as _;

use super::message::{Message, MessageError};

/// Descriptors that travel with one message. The kernel takes up to 253.
pub(super) const BATCH: usize = 64;
/// Bytes that are read at a time.
const CHUNK: usize = 64 << 10;
/// How long the other side may take to take a message.
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// One end of the connection.
pub struct Channel {
    stream: UnixStream,
    /// What was read and is no complete message yet.
    received: Vec<u8>,
    chunk: Box<[u8]>,
    /// What came with it.
    descriptors: Vec<OwnedFd>,
    send_limit: Duration,
}

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other side has closed the connection.
    #[error("connection closed")]
    Closed,
    /// The other side does not take what it is sent.
    #[error("the other side takes nothing")]
    Slow,
    /// What it sent is no message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// Descriptors came that were not announced, or fewer than were.
    #[error("{received} descriptors where {announced} were announced")]
    Descriptors {
        /// What came.
        received: usize,
        /// What was to come.
        announced: usize,
    },
    /// The kernel dropped descriptors: this process has no room for them, or they were too many for one message.
    #[error("descriptors were dropped on their way")]
    Dropped,
    /// The connection broke.
    #[error("connection: {0}")]
    Io(#[from] io::Error),
}

impl Channel {
    /// Speaks over a connection.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        let (received, descriptors) = (Vec::new(), Vec::new());
        Self { stream, received, chunk: vec![0; CHUNK].into(), descriptors, send_limit: SEND_LIMIT }
    }

    /// The process at the other end; `None` when it is in another namespace of processes.
    #[must_use]
    pub fn peer(&self) -> Option<u32> {
        let pid = self.stream.peer_cred().ok()?.pid()?;
        u32::try_from(pid).ok().filter(|pid| *pid > 0)
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// When the other side is gone, or does not take it in time.
    pub async fn send(&mut self, message: &Message) -> Result<(), ChannelError> {
        self.send_with(message, &[]).await
    }

    /// Sends a message with descriptors.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub async fn send_with(&mut self, message: &Message, with: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let mut bytes = message.encode()?;
        let sent = tokio::time::timeout(self.send_limit, self.write(&bytes, with)).await;
        bytes.zeroize();
        sent.map_err(|_| ChannelError::Slow)?
    }

    async fn write(&mut self, bytes: &[u8], with: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let mut n_sent = 0;
        if !with.is_empty() {
            let stream = &self.stream;
            let send = || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
                let mut ancillary = SendAncillaryBuffer::new(&mut space);
                if !ancillary.push(SendAncillaryMessage::ScmRights(with)) {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
            };
            n_sent = stream.async_io(Interest::WRITABLE, send).await?;
        }
        Ok(self.stream.write_all(bytes.get(n_sent..).unwrap_or_default()).await?)
    }

    /// The next message. What was read stays when the caller stops waiting.
    ///
    /// # Errors
    ///
    /// When the other side is gone, or sends something else.
    pub async fn receive(&mut self) -> Result<Message, ChannelError> {
        loop {
            if let Some((message, length)) = Message::decode(&self.received)? {
                if let Some(taken) = self.received.get_mut(..length) {
                    taken.zeroize();
                }
                self.received.drain(..length);
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    /// The descriptors that came with the last message.
    ///
    /// # Errors
    ///
    /// When it was another number.
    pub fn take_descriptors(&mut self, announced: usize) -> Result<Vec<OwnedFd>, ChannelError> {
        let received = self.descriptors.len();
        if received < announced {
            return Err(ChannelError::Descriptors { received, announced });
        }
        let rest = self.descriptors.split_off(announced);
        Ok(std::mem::replace(&mut self.descriptors, rest))
    }

    /// Whether descriptors came that nobody announced.
    #[must_use]
    pub fn has_descriptors(&self) -> bool {
        !self.descriptors.is_empty()
    }

    async fn fill(&mut self) -> Result<(), ChannelError> {
        let Self { stream, received, chunk, descriptors, send_limit: _ } = self;
        let read = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let buffer = &mut [IoSliceMut::new(chunk)];
            let read = recvmsg(&*stream, buffer, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(came) = message {
                    descriptors.extend(came);
                }
            }
            Ok((read.bytes, read.flags.contains(ReturnFlags::CTRUNC)))
        };
        let (n_bytes, is_cut) = stream.async_io(Interest::READABLE, read).await?;
        if is_cut {
            return Err(ChannelError::Dropped);
        }
        // One message is read ahead of the one that is taken at most.
        if descriptors.len() > 2 * BATCH {
            return Err(ChannelError::Descriptors { received: descriptors.len(), announced: BATCH });
        }
        if n_bytes == 0 {
            return Err(ChannelError::Closed);
        }
        if let Some(came) = chunk.get_mut(..n_bytes) {
            extend(received, came);
            came.zeroize();
        }
        Ok(())
    }
}

/// Appends bytes that may be keys: what outgrows its place leaves no copy behind.
fn extend(bytes: &mut Vec<u8>, more: &[u8]) {
    let length = bytes.len() + more.len();
    if length > bytes.capacity() {
        let mut grown = Vec::with_capacity(length.next_power_of_two());
        grown.extend_from_slice(bytes);
        bytes.zeroize();
        *bytes = grown;
    }
    bytes.extend_from_slice(more);
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::upgrade::message::Section;

    #[tokio::test]
    async fn any_number_of_descriptors_arrives_in_order() {
        let (mut here, mut there) = pair();
        let listeners: Vec<_> = (0..200).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let sent = async {
            for batch in listeners.chunks(BATCH) {
                let batch: Vec<_> = batch.iter().map(|listener| listener.as_fd()).collect();
                here.send_with(&Message::Descriptors(u32::try_from(batch.len()).unwrap()), &batch).await.unwrap();
            }
        };
        let received = async {
            let mut received = Vec::new();
            while received.len() < listeners.len() {
                let Message::Descriptors(count) = there.receive().await.unwrap() else { panic!() };
                received.extend(there.take_descriptors(usize::try_from(count).unwrap()).unwrap());
            }
            received
        };
        let ((), received) = tokio::join!(sent, received);
        for (descriptor, listener) in received.into_iter().zip(&listeners) {
            let adopted = std::net::TcpListener::from(descriptor);
            assert_eq!(adopted.local_addr().unwrap(), listener.local_addr().unwrap());
        }
    }

    #[tokio::test]
    async fn a_large_section_arrives_whole() {
        let (mut here, mut there) = pair();
        let message = Message::Section(Section { name: "a".to_owned(), bytes: vec![7; 3 << 20].into() });
        let (sent, received) = tokio::join!(here.send(&message), there.receive());
        sent.unwrap();
        assert_eq!(received.unwrap(), message);
    }

    #[tokio::test]
    async fn fewer_descriptors_than_announced_are_refused() {
        let (mut here, mut there) = pair();
        here.send(&Message::Descriptors(2)).await.unwrap();
        there.receive().await.unwrap();
        let error = there.take_descriptors(2).unwrap_err();
        assert!(matches!(error, ChannelError::Descriptors { received: 0, announced: 2 }), "{error}");
    }

    #[tokio::test]
    async fn a_broken_connection_is_told_from_a_bad_message() {
        let (mut here, mut there) = pair();
        here.stream.write_all(b"\x01\0\0").await.unwrap();
        drop(here);
        assert!(matches!(there.receive().await, Err(ChannelError::Closed)), "a truncated message");
        let (mut here, mut there) = pair();
        here.stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        assert!(matches!(there.receive().await, Err(ChannelError::Message(MessageError::Kind(b'G')))));
    }

    #[tokio::test]
    async fn somebody_who_reads_nothing_is_not_waited_for() {
        let (mut here, _there) = pair();
        here.send_limit = Duration::from_millis(10);
        let message = Message::Section(Section { name: "a".to_owned(), bytes: vec![7; 8 << 20].into() });
        assert!(matches!(here.send(&message).await, Err(ChannelError::Slow)));
    }

    fn pair() -> (Channel, Channel) {
        let (here, there) = UnixStream::pair().unwrap();
        (Channel::new(here), Channel::new(there))
    }
}
