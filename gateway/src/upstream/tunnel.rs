//! Connections for requests that ask for another protocol (RFC 9110 section 7.8), such as WebSocket.
//!
//! Pingora 0.9.1 copies the request and the answer at the same time, and takes whichever is ready by chance. When the
//! server's 101 is there before the end of the empty request was taken note of, that end is held for the end of the
//! tunnel, which closes as soon as it is open. So the answer must not be ready first: such a connection is not read in
//! the same turn in which it was written to.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::ext;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::upstreams::peer::HttpPeer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Marks the groups of such connections, which no connection joins from elsewhere.
const GROUP: u64 = 1 << 63;

/// Makes the connection of a request that asks for another protocol one that may become a tunnel. It is a new one, and
/// no other request gets it afterwards.
pub(crate) fn prepare(peer: &mut HttpPeer) {
    peer.options.custom_l4 = Some(Arc::new(Connector));
    peer.group_key |= GROUP;
    // Pingora tells pooled connections apart by their descriptors, which these do not show.
    peer.options.idle_timeout = Some(Duration::ZERO);
}

#[derive(Debug)]
struct Connector;

#[async_trait]
impl L4Connect for Connector {
    /// Connects within the time that Pingora gives connections as a whole.
    async fn connect(&self, address: &SocketAddr) -> pingora::Result<Stream> {
        let SocketAddr::Inet(address) = address else {
            return pingora::Error::e_explain(pingora::ErrorType::ConnectError, "not an internet address");
        };
        let socket = ext::connect(address, None).await?;
        Ok(VirtualSocketStream::new(Box::new(TurnTaking { socket, has_written: false })).into())
    }
}

/// A TCP connection that lets everything else of its task go on between a write and the read that follows.
#[derive(Debug)]
struct TurnTaking<S = TcpStream> {
    socket: S,
    has_written: bool,
}

impl VirtualSocket for TurnTaking {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.socket.set_nodelay(true),
            VirtualSockOpt::KeepAlive(keepalive) => {
                ext::set_tcp_keepalive(&self.socket, &keepalive).map_err(io::Error::other)
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TurnTaking<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.has_written) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TurnTaking<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.has_written = true;
        Pin::new(&mut self.socket).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn an_answer_waits_for_what_else_is_ready() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut connection = TurnTaking { socket: near, has_written: false };
        for _ in 0..100 {
            let (mut question, mut answer) = ([0; 8], [0; 6]);
            connection.write_all(b"question").await.unwrap();
            // Else the way there is full after a few.
            far.read_exact(&mut question).await.unwrap();
            far.write_all(b"answer").await.unwrap();
            // As Pingora has it: both are ready, and either may be asked first.
            tokio::select! {
                _ = connection.read_exact(&mut answer) => panic!("the answer came first"),
                () = std::future::ready(()) => {}
            }
            connection.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"answer");
        }
    }
}
