//! One accepted connection as Pingora sees it: a stream that owns its deadlines.
//!
//! Pingora's own timers count from read to read, and none of them runs while a kept connection is idle (its issue
//! #447). Here the whole head of a request has one deadline from its first byte, an idle connection has one, and a write
//! that makes no progress has one, whatever protocol is spoken above. What is read from HTTP/1 is framed here, too: the
//! sessions above see whole heads, and never a byte of the next request.

mod farewell;
mod read;
#[cfg(test)]
mod tests;
mod timer;
mod transport;
mod websocket;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use http::HeaderValue;
use pingora::http::ResponseHeader;
use pingora::protocols::l4::socket::SocketAddr as PingoraSocketAddr;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use routing::model::ListenerKey;
use routing::{HeadLimits, Scheme, Settings};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::Instant;

use crate::client_certificate::ClientIdentity;
use crate::connections::{ConnectionHandle, Phase, Shortage};
use crate::failure::Failure;
use crate::framing::Framer;
use crate::proxy_header::RelayedEnds;
use farewell::Farewell;
use timer::Timer;
use transport::ReadWrite;
pub(crate) use transport::Transport;
use websocket::Frames;

/// How much is read at once, in bytes. Whoever takes more empties the window of the sender, who then sleeps and has to be
/// woken for each piece; and the allocator keeps room for a copy of it at hand, but for no larger one.
pub(crate) const PIECE: u64 = 32 << 10;
/// How long a client may go on sending to a connection that is closed in the middle of what it sends.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// What is known about a connection. Every request on it shares this.
#[derive(Debug)]
pub(crate) struct ConnectionInfo {
    /// The listener that accepted it.
    pub listener: ListenerKey,
    /// The scheme that is spoken on it.
    pub scheme: Scheme,
    /// The other end of the socket.
    pub peer: SocketAddr,
    /// The ends of the connection that the peer relays, where it is trusted to say so in a PROXY header.
    pub relayed: Option<RelayedEnds>,
    /// The address of the sender as header fields have it.
    pub sender_address: HeaderValue,
    /// The port that the sender connected to as header fields have it.
    pub port_text: HeaderValue,
    /// The host that the TLS client asked for.
    pub server_name: Option<Box<str>>,
    /// What the TLS client showed of itself.
    pub identity: ClientIdentity,
    /// The connection among all others.
    pub handle: ConnectionHandle,
    /// Why nothing more is read from it.
    pub refusal: OnceLock<Refusal>,
}

/// A message that is not read any further. The connection ends with the answer to it.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// What is answered.
    pub failure: Failure,
    /// The first line of the message, as far as it came.
    pub line: Box<[u8]>,
}

/// How long a connection may take, from the settings at the time it was accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For the head of a request, from its first byte, and for the first byte of a new connection.
    pub head: Duration,
    /// For the next request on a kept connection.
    pub idle: Duration,
    /// For a write to make progress.
    pub write: Duration,
    /// For the size of a head.
    pub sizes: HeadLimits,
    /// Whether HTTP/2 is spoken at all.
    pub use_http2: bool,
}

/// An accepted connection.
pub(crate) struct Connection {
    io: Transport,
    info: Arc<ConnectionInfo>,
    limits: Limits,
    /// Where messages begin and end.
    framer: Framer,
    /// Bytes that were received and have not passed yet.
    held: BytesMut,
    /// How many of them may pass.
    n_admitted: usize,
    /// Whether a part of the current message has passed.
    has_passed: bool,
    read_timer: Timer,
    /// When the phase began that the next read belongs to.
    phase_began: Instant,
    /// Whether a request was read before, so that waiting for the next one is idling.
    had_request: bool,
    write_timer: Timer,
    write_blocked_since: Option<Instant>,
    /// What went to the client of a tunnel.
    frames: Option<Box<Frames>>,
    /// How the connection is closed, once the drain limit is over.
    farewell: Option<Box<Farewell>>,
    socket_digest: Arc<SocketDigest>,
    tls_digest: Option<Arc<SslDigest>>,
    /// Carries the [`ConnectionInfo`] to the requests, of HTTP/1 and HTTP/2 alike.
    info_digest: Arc<ProxyDigest>,
}

// === impl ConnectionInfo ===

impl ConnectionInfo {
    /// What is known when a connection begins to speak HTTP.
    #[must_use]
    pub(crate) fn new(
        listener: ListenerKey,
        scheme: Scheme,
        peer: SocketAddr,
        relayed: Option<RelayedEnds>,
        server_name: Option<Box<str>>,
        handle: ConnectionHandle,
    ) -> Self {
        let sender = relayed.map_or(peer, |relayed| relayed.client).ip();
        let address = HeaderValue::try_from(sender.to_canonical().to_string());
        let port = relayed.map_or(listener.address, |relayed| relayed.server).port();
        Self {
            listener,
            scheme,
            peer,
            relayed,
            // The text of an address is a header value.
            sender_address: address.unwrap_or(const { HeaderValue::from_static("") }),
            port_text: HeaderValue::from(port),
            server_name,
            identity: ClientIdentity::default(),
            handle,
            refusal: OnceLock::new(),
        }
    }

    /// The info that a [`Connection`] left in the digest of a request.
    #[must_use]
    pub(crate) fn of(session: &pingora::proxy::Session) -> Option<&Arc<Self>> {
        let digest = session.digest()?.proxy_digest.as_ref()?;
        digest.user_data.as_ref()?.downcast_ref()
    }

    /// Who sent the requests, as far as the connection tells: the client of a PROXY header, else the peer.
    #[must_use]
    pub(crate) fn sender(&self) -> IpAddr {
        self.relayed.map_or(self.peer, |relayed| relayed.client).ip().to_canonical()
    }

    /// The port that the sender connected to.
    #[must_use]
    pub(crate) fn port(&self) -> u16 {
        self.relayed.map_or(self.listener.address, |relayed| relayed.server).port()
    }
}

// === impl Limits ===

impl Limits {
    /// The limits that the settings name.
    #[must_use]
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            head: settings.client_header_timeout,
            idle: settings.keep_alive,
            write: settings.client_body_timeout,
            sizes: settings.head,
            use_http2: settings.use_http2,
        }
    }
}

// === impl Connection ===

impl Connection {
    /// Takes over an accepted socket.
    ///
    /// # Errors
    ///
    /// Only when Pingora cannot build the header that carries the info, which does not depend on the socket.
    pub(crate) fn new(io: Transport, info: ConnectionInfo, limits: Limits) -> io::Result<Self> {
        let socket_digest = SocketDigest::from_raw_fd(io.socket().as_raw_fd());
        // Known from accept(): nobody has to ask the kernel.
        let _ = socket_digest.peer_addr.set(Some(PingoraSocketAddr::Inet(info.peer)));
        let info = Arc::new(info);
        let header = ResponseHeader::build_no_case(200, Some(0)).map_err(io::Error::other)?;
        let info_digest = ProxyDigest::new(Box::new(header), Some(Box::new(Arc::clone(&info))));
        let tls_digest = io.tls_digest().map(Arc::new);
        let framer = match io.alpn() {
            Some(ALPN::H2) => {
                info.handle.set_phase(Phase::Http2);
                Framer::raw(limits.sizes)
            }
            _ => Framer::new(limits.sizes),
        };
        Ok(Self {
            io,
            info,
            limits,
            framer,
            held: BytesMut::new(),
            n_admitted: 0,
            has_passed: false,
            read_timer: Timer::default(),
            phase_began: Instant::now(),
            had_request: false,
            write_timer: Timer::default(),
            write_blocked_since: None,
            frames: None,
            farewell: None,
            socket_digest: Arc::new(socket_digest),
            tls_digest,
            info_digest: Arc::new(info_digest),
        })
    }

    /// Keeps the time of a write that waits; a client that takes nothing for long is cut off, or at once when memory runs
    /// short, and so is everybody at the drain limit.
    fn poll_write_side<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut dyn ReadWrite>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.info.handle.is_cut() {
            ready!(self.poll_farewell(context));
            return Poll::Ready(Err(farewell::cut()));
        }
        let poll = write(self.io.pin(), context);
        if poll.is_ready() {
            self.write_blocked_since = None;
            return poll;
        }
        self.info.handle.register(context.waker());
        if self.info.handle.shortage() > Shortage::None {
            // What waits for its client is most of what a gateway holds.
            return Poll::Ready(Err(let_go()));
        }
        let since = *self.write_blocked_since.get_or_insert_with(Instant::now);
        if self.write_timer.poll(since + self.limits.write, context).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "client does not read")));
        }
        Poll::Pending
    }

    /// An error where what is to be written needs memory that there is not.
    fn check_memory(&self) -> io::Result<()> {
        if self.info.handle.shortage() == Shortage::Dire { Err(let_go()) } else { Ok(()) }
    }

    /// Notes what a tunnel has sent to its client.
    fn follow_tunnel<'b>(&mut self, sent: &Poll<io::Result<usize>>, slices: impl Iterator<Item = &'b [u8]>) {
        let Poll::Ready(Ok(mut left)) = *sent else { return };
        if self.info.handle.phase() != Phase::Tunnel {
            return;
        }
        let frames = self.frames.get_or_insert_default();
        for slice in slices {
            let n = left.min(slice.len());
            frames.follow(&slice[..n]);
            left -= n;
        }
    }
}

/// The error of a connection that is ended for the memory that it holds.
fn let_go() -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, "memory runs short")
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_memory()?;
        let poll = self.poll_write_side(context, |io, context| io.poll_write(context, bytes));
        self.follow_tunnel(&poll, std::iter::once(bytes));
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_side(context, |io, context| io.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_side(context, |io, context| io.poll_shutdown(context))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_memory()?;
        let poll = self.poll_write_side(context, |io, context| io.poll_write_vectored(context, slices));
        self.follow_tunnel(&poll, slices.iter().map(|slice| &**slice));
        poll
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[async_trait]
impl Shutdown for Connection {
    async fn shutdown(&mut self) {
        // The connection is given up either way.
        let _ = tokio::io::AsyncWriteExt::shutdown(self).await;
        if self.info.handle.lingers() {
            // What a client still sends would reset the connection, and the answer with it (nginx `lingering_close`).
            let mut scratch = [0; 4096];
            let rest = async { while self.io.pin().read(&mut scratch).await.is_ok_and(|n_read| n_read > 0) {} };
            let _ = tokio::time::timeout(LINGER, rest).await;
        }
    }
}

impl UniqueID for Connection {
    fn id(&self) -> UniqueIDType {
        self.io.socket().as_raw_fd()
    }
}

impl Ssl for Connection {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.tls_digest.clone()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.io.alpn()
    }
}

impl GetTimingDigest for Connection {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Connection {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(Arc::clone(&self.info_digest))
    }
}

impl GetSocketDigest for Connection {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.socket_digest))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({} from {})", self.info.listener, self.info.peer)
    }
}
