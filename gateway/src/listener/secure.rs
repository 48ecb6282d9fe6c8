//! An endpoint with TLS for programs that are not clients of the routes. Its certificate is looked up for each handshake,
//! so that another one needs no restart. Whoever reaches it can take up no more than a few connections for a few seconds.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use routing::Certificate;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::handle::Endpoint;
use super::pausable::{EXHAUSTION_PAUSE, Pausable};

/// Connections at a time. Others wait with the kernel.
const MAX_CONNECTIONS: usize = 128;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long the head of a request may take, and a connection may do nothing.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection may live. An API server makes another one.
const LIFETIME: Duration = Duration::from_secs(300);

/// The certificate of the moment. While there is none, handshakes fail.
pub type CertificateSource = Arc<dyn Fn() -> Option<Arc<Certificate>> + Send + Sync>;

/// An endpoint with TLS.
pub struct SecureEndpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it serves.
    pub router: Router,
    /// What it shows of itself.
    pub certificate: CertificateSource,
}

impl SecureEndpoint {
    pub(crate) fn named(self, what: &'static str) -> Endpoint {
        let Self { address, router, certificate } = self;
        Endpoint { what, address, router, certificate: Some(certificate) }
    }
}

/// Serves until the runtime ends.
pub(super) async fn serve(mut listener: Pausable, router: Router, certificate: CertificateSource) {
    let acceptor = match config(certificate) {
        Ok(config) => TlsAcceptor::from(Arc::new(config)),
        Err(error) => return tracing::error!(%error, "an endpoint with TLS is not there"),
    };
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections of an API server");
                tokio::time::sleep(EXHAUSTION_PAUSE).await;
                continue;
            }
        };
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            let _place = place;
            // How a stranger fails is a stranger's business.
            let _ = tokio::time::timeout(LIFETIME, converse(stream, acceptor, router)).await;
        });
    }
}

async fn converse(stream: TcpStream, acceptor: TlsAcceptor, router: Router) {
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let _ = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
}

fn config(certificate: CertificateSource) -> Result<ServerConfig, rustls::Error> {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_no_client_auth().with_cert_resolver(Arc::new(Resolver(certificate))))
}

struct Resolver(CertificateSource);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        (self.0)().map(|certificate| Arc::clone(&certificate.key))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}
