//! TLS towards clients: which certificate a name gets, and the handshake.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use routing::model::ListenerKey;
use routing::{CertificateChoice, CipherSuite, LiveRouting, Snapshot, TlsSettings, TlsVersions};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{
    Acceptor, ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ServerSessionMemoryCache,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::client_certificate::{AnyClientCertificate, ClientIdentity};
use crate::tickets::{ListenerTickets, TicketKeys};

/// The name in the certificate that stands in for a missing one, so that whoever sees it knows what is wrong.
pub(crate) const FAKE_CERTIFICATE_NAME: &str = "Penstock Fake Certificate";
/// Sessions that can be resumed, over all hosts of a listener.
const RESUMABLE_SESSIONS: usize = 20_480;
/// The suites of TLS 1.3, of which none is weak, in OpenSSL's order.
const TLS13_SUITES: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS13_AES_128_GCM_SHA256,
];

/// Terminates TLS on one listener. Certificates come from the snapshot of the moment; sessions can be resumed across
/// changes of the settings.
pub(crate) struct TlsTerminator {
    resolver: Arc<CertificateResolver>,
    sessions: Arc<ServerSessionMemoryCache>,
    tickets: Arc<dyn ProducesTickets>,
    configs: ArcSwap<Configs>,
}

/// What handshakes are done by, as long as the settings are these.
struct Configs {
    settings: TlsSettings,
    /// For hosts whose clients show nothing.
    usual: Pair,
    /// For hosts whose clients are asked for a certificate.
    asking: Pair,
}

/// The same configuration with HTTP/2 and without.
struct Pair {
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
    /// The settings ask for what the crypto provider does not offer.
    #[error("TLS settings: {0}")]
    Settings(#[from] rustls::Error),
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
    /// Sets up TLS for a listener. `fake` is presented where there is no certificate at all.
    pub(crate) fn new(
        live: Arc<LiveRouting>,
        listener: ListenerKey,
        fake: Arc<CertifiedKey>,
        tickets: Arc<TicketKeys>,
    ) -> Result<Self, TlsSetupError> {
        let settings = live.pin().settings().tls.clone();
        let resolver = Arc::new(CertificateResolver { live, listener, fake });
        let sessions = ServerSessionMemoryCache::new(RESUMABLE_SESSIONS);
        let tickets: Arc<dyn ProducesTickets> = Arc::new(ListenerTickets::new(tickets, listener));
        let configs = Configs::new(settings, &resolver, &sessions, &tickets)?;
        Ok(Self { resolver, sessions, tickets, configs: ArcSwap::from_pointee(configs) })
    }

    /// Does the handshake, in `limit` from the first byte to the last. Tells what the client showed of itself.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        snapshot: &Snapshot,
        limit: Duration,
    ) -> Result<(TlsStream<TcpStream>, ClientIdentity), HandshakeError> {
        let settings = snapshot.settings();
        let configs = self.configs(&settings.tls)?;
        let handshake = async {
            let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            let hello = start.client_hello();
            let is_asked = snapshot.client_tls(&self.resolver.listener, hello.server_name()).is_some();
            let Pair { with_http2, without_http2 } = if is_asked { &configs.asking } else { &configs.usual };
            let config = if settings.use_http2 { with_http2 } else { without_http2 };
            let stream = start.into_stream(Arc::clone(config)).await?;
            let asked = || ClientIdentity::asked(stream.get_ref().1.peer_certificates());
            let identity = if is_asked { asked() } else { ClientIdentity::Unasked };
            Ok::<_, io::Error>((stream, identity))
        };
        match tokio::time::timeout(limit, handshake).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(HandshakeError::Timeout),
        }
    }

    /// The configurations for these settings: made anew when they have changed, which is rare.
    fn configs(&self, settings: &TlsSettings) -> Result<Arc<Configs>, rustls::Error> {
        let current = self.configs.load_full();
        if current.settings == *settings {
            return Ok(current);
        }
        let new = Arc::new(Configs::new(settings.clone(), &self.resolver, &self.sessions, &self.tickets)?);
        self.configs.store(Arc::clone(&new));
        Ok(new)
    }
}

// === impl Configs ===

impl Configs {
    fn new(
        settings: TlsSettings,
        resolver: &Arc<CertificateResolver>,
        sessions: &Arc<ServerSessionMemoryCache>,
        tickets: &Arc<dyn ProducesTickets>,
    ) -> Result<Self, rustls::Error> {
        let versions: &[&SupportedProtocolVersion] = match settings.versions {
            TlsVersions::Tls12 => &[&TLS12],
            TlsVersions::Tls13 => &[&TLS13],
            TlsVersions::Both => &[&TLS13, &TLS12],
        };
        let ciphers = TLS13_SUITES.into_iter().chain(settings.ciphers.iter().map(|suite| supported(*suite)));
        let provider =
            Arc::new(CryptoProvider { cipher_suites: ciphers.collect(), ..CryptoProvider::clone(&provider()) });
        let builder = || ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
        let mut config = builder()?.with_no_client_auth().with_cert_resolver(Arc::clone(resolver) as _);
        config.session_storage =
            if settings.session_cache { Arc::clone(sessions) as _ } else { Arc::new(NoServerSessionStorage {}) };
        if settings.session_tickets {
            config.ticketer = Arc::clone(tickets);
        } else if !settings.session_cache {
            config.send_tls13_tickets = 0;
        }
        let any = Arc::new(AnyClientCertificate(Arc::clone(&provider)));
        let mut asking = builder()?.with_client_cert_verifier(any).with_cert_resolver(Arc::clone(resolver) as _);
        // Who resumes a session proves nothing anew: each connection to these hosts is a whole handshake.
        asking.session_storage = Arc::new(NoServerSessionStorage {});
        asking.send_tls13_tickets = 0;
        Ok(Self { settings, usual: Pair::of(config), asking: Pair::of(asking) })
    }
}

impl Pair {
    fn of(mut config: ServerConfig) -> Self {
        // The order of `ssl-ciphers` counts, as with nginx's `ssl_prefer_server_ciphers`, which ingress-nginx sets.
        config.ignore_client_order = true;
        let mut without_http2 = config.clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        without_http2.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { with_http2: Arc::new(config), without_http2: Arc::new(without_http2) }
    }
}

fn supported(suite: CipherSuite) -> SupportedCipherSuite {
    match suite {
        CipherSuite::EcdheEcdsaAes128GcmSha256 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdheEcdsaAes256GcmSha384 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdheEcdsaChacha20Poly1305 => cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::EcdheRsaAes128GcmSha256 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdheRsaAes256GcmSha384 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdheRsaChacha20Poly1305 => cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

// === impl CertificateResolver ===

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let snapshot = self.live.pin();
        let is_refused = snapshot.settings().tls.reject_unknown_names;
        if is_refused && !snapshot.has_host(&self.listener, hello.server_name()) {
            return None;
        }
        match snapshot.certificate(&self.listener, hello.server_name()) {
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
