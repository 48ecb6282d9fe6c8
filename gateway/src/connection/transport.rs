//! What is below HTTP on an accepted connection.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use pingora::protocols::ALPN;
use pingora::protocols::tls::SslDigest;
use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// How much is gathered before it is written: the head of an answer and a small body leave in one piece. Pingora says
/// when it wants something to leave, and relies on the stream to wait until then.
const WRITE_BUFFER: usize = 2048;

/// What is below HTTP.
#[derive(Debug)]
pub(crate) enum Transport {
    /// A socket.
    Plain(BufWriter<TcpStream>),
    /// TLS that ends here.
    Tls(BufWriter<Box<TlsStream<TcpStream>>>),
}

impl Transport {
    /// A connection in plain text.
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self::Plain(BufWriter::with_capacity(WRITE_BUFFER, stream))
    }

    /// A connection whose handshake is over.
    pub(crate) fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self::Tls(BufWriter::with_capacity(WRITE_BUFFER, Box::new(stream)))
    }

    pub(super) fn pin(&mut self) -> Pin<&mut dyn ReadWrite> {
        match self {
            Self::Plain(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(stream),
        }
    }

    pub(super) fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream.get_ref(),
            Self::Tls(stream) => stream.get_ref().get_ref().0,
        }
    }

    pub(super) fn alpn(&self) -> Option<ALPN> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => match stream.get_ref().get_ref().1.alpn_protocol()? {
                b"h2" => Some(ALPN::H2),
                _ => Some(ALPN::H1),
            },
        }
    }

    pub(super) fn tls_digest(&self) -> Option<SslDigest> {
        let Self::Tls(stream) = self else { return None };
        let session = stream.get_ref().get_ref().1;
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

pub(super) trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}
