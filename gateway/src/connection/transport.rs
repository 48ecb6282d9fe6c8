//! What is below HTTP on an accepted connection.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use pingora::protocols::ALPN;
use pingora::protocols::tls::SslDigest;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What is below HTTP.
#[derive(Debug)]
pub(crate) enum Transport {
    /// A socket.
    Plain(TcpStream),
    /// TLS that ends here.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    pub(super) fn pin(&mut self) -> Pin<&mut dyn ReadWrite> {
        match self {
            Self::Plain(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(&mut **stream),
        }
    }

    pub(super) fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(context, buffer),
        }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    pub(super) fn alpn(&self) -> Option<ALPN> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => match stream.get_ref().1.alpn_protocol()? {
                b"h2" => Some(ALPN::H2),
                _ => Some(ALPN::H1),
            },
        }
    }

    pub(super) fn tls_digest(&self) -> Option<SslDigest> {
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

pub(super) trait ReadWrite: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> ReadWrite for T {}
