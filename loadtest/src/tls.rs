//! The certificate that all peers show, and clients that trust it and nothing else.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A self-signed certificate with a P-256 key.
pub(crate) struct Certificate {
    certificate: String,
    key: String,
    trusted: RootCertStore,
}

/// Opens TLS connections.
#[derive(Clone)]
pub(crate) struct ClientTls(TlsConnector);

/// The certificate in the forms that the peers read.
pub(crate) struct CertificateFiles {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Both in one file.
    pub(crate) both: PathBuf,
}

impl Certificate {
    /// A certificate for the hosts.
    pub(crate) fn generate(hosts: &[String]) -> anyhow::Result<Self> {
        let key = KeyPair::generate().context("make a key")?;
        let certificate = CertificateParams::new(hosts)?.self_signed(&key).context("make a certificate")?;
        let mut trusted = RootCertStore::empty();
        trusted.add(certificate.der().clone()).context("trust the certificate")?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem(), trusted })
    }

    /// Writes the files of the certificate.
    pub(crate) fn write(&self, directory: &Path) -> anyhow::Result<CertificateFiles> {
        let file = |name: &str, text: &str| {
            let path = directory.join(name);
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            anyhow::Ok(path)
        };
        Ok(CertificateFiles {
            certificate_pem: self.certificate.clone(),
            key_pem: self.key.clone(),
            certificate: file("tls.crt", &self.certificate)?,
            key: file("tls.key", &self.key)?,
            both: file("tls.pem", &format!("{}{}", self.certificate, self.key))?,
        })
    }

    /// A client that speaks one protocol, and resumes sessions or never does.
    pub(crate) fn client(&self, protocol: &str, resumes: bool) -> anyhow::Result<ClientTls> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS versions")?
            .with_root_certificates(self.trusted.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        if !resumes {
            config.resumption = Resumption::disabled();
        }
        Ok(ClientTls(TlsConnector::from(Arc::new(config))))
    }
}

impl ClientTls {
    /// Makes the handshake, which has to verify the certificate for the host.
    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.0.connect(name, stream).await
    }
}
