//! One accepted connection as Pingora sees it: a stream that owns its deadlines.
//!
//! Pingora's own timers count from read to read, and none of them runs while a kept connection is idle (its issue
//! #447). Here the whole head of a request has one deadline from its first byte, an idle connection has one, and a write
//! that makes no progress has one, whatever protocol is spoken above.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::http::ResponseHeader;
use pingora::protocols::l4::socket::SocketAddr as PingoraSocketAddr;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use routing::model::ListenerKey;
use routing::{Scheme, Settings};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;

use crate::connections::{ConnectionHandle, Phase};

/// How a client starts HTTP/2 with prior knowledge (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How much is read at most while looking for the preface; it is a whole request head most of the time.
const PEEK_BYTES: usize = 4096;

/// What is known about a connection. Every request on it shares this.
#[derive(Debug)]
pub(crate) struct ConnectionInfo {
    /// The listener that accepted it.
    pub listener: ListenerKey,
    /// The scheme that is spoken on it.
    pub scheme: Scheme,
    /// The other end of the socket.
    pub peer: SocketAddr,
    /// The host that the TLS client asked for.
    pub server_name: Option<Box<str>>,
    /// The connection among all others.
    pub handle: ConnectionHandle,
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
    /// Whether HTTP/2 is spoken at all.
    pub use_http2: bool,
}

/// An accepted connection.
pub(crate) struct Connection {
    io: Transport,
    info: Arc<ConnectionInfo>,
    limits: Limits,
    /// Bytes that were read while looking for the HTTP/2 preface.
    peeked: BytesMut,
    read_timer: Timer,
    /// When the phase began that the next read belongs to.
    phase_began: Instant,
    /// Whether a request was read before, so that waiting for the next one is idling.
    had_request: bool,
    write_timer: Timer,
    write_blocked_since: Option<Instant>,
    socket_digest: Arc<SocketDigest>,
    tls_digest: Option<Arc<SslDigest>>,
    /// Carries the [`ConnectionInfo`] to the requests, of HTTP/1 and HTTP/2 alike.
    info_digest: Arc<ProxyDigest>,
}

/// What is below HTTP.
#[derive(Debug)]
pub(crate) enum Transport {
    /// A socket.
    Plain(TcpStream),
    /// TLS that ends here.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A timer that is moved only when it has to go off earlier: deadlines of a busy connection move with every request,
/// and nearly always to a later time.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

// === impl ConnectionInfo ===

impl ConnectionInfo {
    /// The info that a [`Connection`] left in the digest of a request.
    #[must_use]
    pub(crate) fn of(session: &pingora::proxy::Session) -> Option<&Arc<Self>> {
        let digest = session.digest()?.proxy_digest.as_ref()?;
        digest.user_data.as_ref()?.downcast_ref()
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
        if matches!(io.alpn(), Some(ALPN::H2)) {
            info.handle.set_phase(Phase::Http2);
        }
        Ok(Self {
            io,
            info,
            limits,
            peeked: BytesMut::new(),
            read_timer: Timer::default(),
            phase_began: Instant::now(),
            had_request: false,
            write_timer: Timer::default(),
            write_blocked_since: None,
            socket_digest: Arc::new(socket_digest),
            tls_digest,
            info_digest: Arc::new(info_digest),
        })
    }

    /// When the read that is waiting now must have ended; `None` when it may wait for what is above to give up.
    fn read_deadline(&self, phase: Phase) -> Option<Instant> {
        match phase {
            Phase::Idle if self.had_request => Some(match self.info.handle.drain_deadline() {
                Some(drain) => drain.min(self.phase_began + self.limits.idle),
                None => self.phase_began + self.limits.idle,
            }),
            Phase::Idle | Phase::Head => Some(self.phase_began + self.limits.head),
            // Until the client has sent its preface; after that Pingora's idle timer runs.
            Phase::Http2 if !self.had_request => Some(self.phase_began + self.limits.head),
            Phase::Busy | Phase::Http2 => None,
        }
    }

    fn on_read(&mut self, phase: Phase) {
        match phase {
            Phase::Idle => {
                self.info.handle.set_phase(Phase::Head);
                self.phase_began = Instant::now();
                self.had_request = true;
            }
            Phase::Http2 => self.had_request = true,
            Phase::Head | Phase::Busy => {}
        }
    }

    fn poll_deadline(&mut self, phase: Phase, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if phase == Phase::Idle {
            // A drain that begins now must find this connection.
            self.info.handle.register(context.waker());
        }
        let Some(deadline) = self.read_deadline(phase) else { return Poll::Pending };
        if self.read_timer.poll(deadline, context).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(match phase {
            // The end of the stream: there was no request to answer.
            Phase::Idle => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::TimedOut, "request head not complete in time")),
        })
    }

    /// Keeps the time of a write that waits; a client that takes nothing for long is cut off.
    fn watch_write<T>(&mut self, poll: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.write_blocked_since = None;
            return poll;
        }
        let since = *self.write_blocked_since.get_or_insert_with(Instant::now);
        if self.write_timer.poll(since + self.limits.write, context).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "client does not read")));
        }
        Poll::Pending
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let phase = this.info.handle.phase();
        if phase == Phase::Idle && this.info.handle.take_request_done() {
            // The request is over: what follows is the wait for the next one.
            this.phase_began = Instant::now();
        }
        if !this.peeked.is_empty() {
            let length = this.peeked.len().min(buffer.remaining());
            buffer.put_slice(&this.peeked[..length]);
            this.peeked.advance(length);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match this.io.poll_read(context, buffer) {
            Poll::Ready(result) => {
                if buffer.filled().len() > before {
                    this.on_read(phase);
                }
                Poll::Ready(result)
            }
            Poll::Pending => this.poll_deadline(phase, context),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = self.io.pin().poll_write(context, bytes);
        self.watch_write(poll, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = self.io.pin().poll_flush(context);
        self.watch_write(poll, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = self.io.pin().poll_shutdown(context);
        self.watch_write(poll, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = self.io.pin().poll_write_vectored(context, slices);
        self.watch_write(poll, context)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[async_trait]
impl Peek for Connection {
    /// Looks for the HTTP/2 preface. Pingora's own way waits for 24 bytes without a limit of time, which a silent client
    /// and a short HTTP/1.0 request never send.
    async fn try_peek(&mut self, wanted: &mut [u8]) -> io::Result<bool> {
        // What is compared with the preface stays zero unless it is the preface: nothing else matters to the caller.
        wanted.fill(0);
        let mut peeked = std::mem::take(&mut self.peeked);
        peeked.reserve(PEEK_BYTES);
        loop {
            let n_compared = peeked.len().min(HTTP2_PREFACE.len());
            let may_be_preface = self.limits.use_http2 && peeked[..n_compared] == HTTP2_PREFACE[..n_compared];
            if peeked.len() >= wanted.len() || !may_be_preface {
                break;
            }
            if self.read_buf(&mut peeked).await? == 0 {
                break;
            }
        }
        if self.limits.use_http2 && peeked.starts_with(HTTP2_PREFACE) && wanted.len() == HTTP2_PREFACE.len() {
            wanted.copy_from_slice(HTTP2_PREFACE);
            self.info.handle.set_phase(Phase::Http2);
        }
        self.peeked = peeked;
        Ok(true)
    }
}

#[async_trait]
impl Shutdown for Connection {
    async fn shutdown(&mut self) {
        // The connection is given up either way.
        let _ = tokio::io::AsyncWriteExt::shutdown(self).await;
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

// === impl Transport ===

impl Transport {
    fn pin(&mut self) -> Pin<&mut dyn ReadWrite> {
        match self {
            Self::Plain(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(&mut **stream),
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(context, buffer),
        }
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    fn alpn(&self) -> Option<ALPN> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => match stream.get_ref().1.alpn_protocol()? {
                b"h2" => Some(ALPN::H2),
                _ => Some(ALPN::H1),
            },
        }
    }

    fn tls_digest(&self) -> Option<SslDigest> {
        let Self::Tls(stream) = self else { return None };
        let session = stream.get_ref().1;
        let cipher = session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or_default();
        let version = session.protocol_version().and_then(|version| version.as_str()).unwrap_or_default();
        Some(SslDigest::new(cipher, version, None, None, Vec::new()))
    }
}

impl AsRawFd for Transport {
    fn as_raw_fd(&self) -> RawFd {
        self.socket().as_raw_fd()
    }
}

trait ReadWrite: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> ReadWrite for T {}

// === impl Timer ===

impl Timer {
    /// Ready when `deadline` has passed; else it wakes the task then.
    fn poll(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(context).is_ready() {
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
