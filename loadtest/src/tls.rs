//! The certificates that all peers show, and clients that trust them and nothing else.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
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

/// Certificates with keys of their own, one for each of many hosts, from one authority.
pub(crate) struct Certificates {
    pub(crate) files: Vec<CertificateFiles>,
    /// A client of HTTP/1.1 that never resumes a session.
    pub(crate) client: ClientTls,
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
        CertificateFiles::write(directory, "tls", self.certificate.clone(), self.key.clone())
    }

    /// A client that speaks one protocol, and resumes sessions or never does.
    pub(crate) fn client(&self, protocol: &str, resumes: bool) -> anyhow::Result<ClientTls> {
        ClientTls::new(self.trusted.clone(), protocol, resumes)
    }
}

impl Certificates {
    /// Issues and writes a certificate for each of the hosts.
    pub(crate) fn generate(hosts: impl Iterator<Item = String>, directory: &Path) -> anyhow::Result<Self> {
        let key = KeyPair::generate().context("make a key")?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "loadtest");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut trusted = RootCertStore::empty();
        let authority = params.self_signed(&key).context("make an authority")?;
        trusted.add(authority.der().clone()).context("trust the authority")?;
        let issuer = Issuer::new(params, key);
        let issue = |host: String| {
            let key = KeyPair::generate().context("make a key")?;
            let mut params = CertificateParams::new(vec![host.clone()])?;
            params.distinguished_name.push(DnType::CommonName, &host);
            let certificate = params.signed_by(&key, &issuer).context("make a certificate")?;
            CertificateFiles::write(directory, &host, certificate.pem(), key.serialize_pem())
        };
        let files = hosts.map(issue).collect::<anyhow::Result<_>>()?;
        Ok(Self { files, client: ClientTls::new(trusted, "http/1.1", false)? })
    }
}

impl CertificateFiles {
    fn write(directory: &Path, name: &str, certificate: String, key: String) -> anyhow::Result<Self> {
        let file = |ending: &str, text: &str| {
            let path = directory.join(format!("{name}.{ending}"));
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            anyhow::Ok(path)
        };
        Ok(Self {
            both: file("pem", &format!("{certificate}{key}"))?,
            certificate: file("crt", &certificate)?,
            key: file("key", &key)?,
            certificate_pem: certificate,
            key_pem: key,
        })
    }
}

impl ClientTls {
    fn new(trusted: RootCertStore, protocol: &str, resumes: bool) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS versions")?
            .with_root_certificates(trusted)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        if !resumes {
            config.resumption = Resumption::disabled();
        }
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Makes the handshake, which has to verify the certificate for the host.
    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.0.connect(name, stream).await
    }
}
