//! TLS towards clients: which certificate a name gets, and the handshake.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use routing::model::ListenerKey;
use routing::{CertificateChoice, LiveRouting};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// The name in the certificate that stands in for a missing one, so that whoever sees it knows what is wrong.
pub(crate) const FAKE_CERTIFICATE_NAME: &str = "Penstock Fake Certificate";
/// Sessions that can be resumed, over all hosts of a listener.
const RESUMABLE_SESSIONS: usize = 20_480;

/// Terminates TLS on one listener. The certificates come from the snapshot of the moment; the rest stays, so that
/// sessions can be resumed across changes.
pub(crate) struct TlsTerminator {
    with_http2: Arc<ServerConfig>,
    without_http2: Arc<ServerConfig>,
}

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The client took too long.
    #[error("handshake not complete in time")]
    Timeout,
    /// The client did not speak TLS, or nothing that both sides speak.
    #[error("handshake: {0}")]
    Io(#[from] io::Error),
}

/// Why TLS cannot be set up at all.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// The crypto provider does not offer what is needed.
    #[error("TLS versions: {0}")]
    Versions(#[from] rustls::Error),
    /// The self-signed certificate cannot be made.
    #[error("self-signed certificate: {0}")]
    SelfSigned(#[from] rcgen::Error),
}

struct CertificateResolver {
    live: Arc<LiveRouting>,
    listener: ListenerKey,
    fake: Arc<CertifiedKey>,
}

// === impl TlsTerminator ===

impl TlsTerminator {
    /// Sets up TLS 1.2 and 1.3 for a listener. `fake` is presented where there is no certificate at all.
    pub(crate) fn new(
        live: Arc<LiveRouting>,
        listener: ListenerKey,
        fake: Arc<CertifiedKey>,
    ) -> Result<Self, TlsSetupError> {
        let resolver = Arc::new(CertificateResolver { live, listener, fake });
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.session_storage = ServerSessionMemoryCache::new(RESUMABLE_SESSIONS);
        let mut without_http2 = config.clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        without_http2.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { with_http2: Arc::new(config), without_http2: Arc::new(without_http2) })
    }

    /// Does the handshake, in `limit` from the first byte to the last.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        use_http2: bool,
        limit: Duration,
    ) -> Result<TlsStream<TcpStream>, HandshakeError> {
        let handshake = async {
            let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            let config = if use_http2 { &self.with_http2 } else { &self.without_http2 };
            start.into_stream(Arc::clone(config)).await
        };
        match tokio::time::timeout(limit, handshake).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(HandshakeError::Timeout),
        }
    }
}

// === impl CertificateResolver ===

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match self.live.pin().certificate(&self.listener, hello.server_name()) {
            CertificateChoice::Host(certificate) | CertificateChoice::Default(Some(certificate)) => {
                Some(Arc::clone(&certificate.key))
            }
            CertificateChoice::Default(None) => Some(Arc::clone(&self.fake)),
            // Passed through before a handshake of ours begins; here there is nothing to present.
            CertificateChoice::Passthrough(_) => None,
        }
    }
}

impl fmt::Debug for CertificateResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateResolver({})", self.listener)
    }
}

/// Makes the self-signed certificate that stands in where there is none.
pub(crate) fn fake_certificate() -> Result<Arc<CertifiedKey>, TlsSetupError> {
    let mut params = rcgen::CertificateParams::new(vec!["ingress.local".to_owned()])?;
    params.distinguished_name.push(rcgen::DnType::CommonName, FAKE_CERTIFICATE_NAME);
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "Penstock");
    let key = rcgen::KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let signer = provider().key_provider.load_private_key(der)?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signer)))
}

/// The one crypto provider of the process.
fn provider() -> Arc<CryptoProvider> {
    use std::sync::LazyLock;
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}
