//! A certificate with its key: parsed once, proven to fit together, ready to sign.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::host::{HostPattern, WildcardDepth};
use crate::slot::Slot;

/// The largest PEM text that is looked at, in bytes: a Secret cannot hold more than 1 MiB.
const MAX_PEM: usize = 1 << 20;

/// Why a certificate and a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The text has no PEM block of type `CERTIFICATE`, or a broken one.
    #[error("tls.crt holds no certificate in PEM form: {0}")]
    Chain(String),
    /// The text has no private key in PKCS#8, PKCS#1 or SEC1 form.
    #[error("tls.key holds no private key in PEM form: {0}")]
    Key(String),
    /// The first certificate is not X.509.
    #[error("tls.crt is not an X.509 certificate: {0}")]
    Leaf(String),
    /// The key's algorithm is not supported, or the key does not belong to the certificate.
    #[error("tls.key does not fit tls.crt: {0}")]
    Mismatch(String),
    /// More text than a Secret can hold.
    #[error("certificate is larger than {MAX_PEM} bytes")]
    TooLarge,
}

/// The names that a certificate is for: the subject alternative names, or the common name when there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateNames {
    dns: Box<[HostPattern]>,
    addresses: Box<[IpAddr]>,
}

/// A certificate chain with its private key.
///
/// `Debug` shows names only: a key never reaches a log.
pub struct Certificate {
    /// What rustls presents and signs with.
    pub key: Arc<CertifiedKey>,
    /// The key once more, for those who sign by themselves.
    private_key: PrivateKeyDer<'static>,
    /// Room for what the data plane derives from it.
    pub slot: Slot,
    /// The names that it is for.
    pub names: CertificateNames,
    /// End of validity, in seconds since 1970.
    pub not_after: i64,
    /// SHA-256 of the first certificate, in hexadecimal.
    pub fingerprint: Box<str>,
    /// Serial number of the first certificate, in decimal.
    pub serial_number: Box<str>,
    /// Organization of the issuer; empty when it has none.
    pub issuer_organization: Box<str>,
    /// Common name of the issuer; empty when it has none.
    pub issuer_common_name: Box<str>,
    /// `RSA`, `ECDSA`, `Ed25519`, or the object identifier of the key's algorithm.
    pub public_key_algorithm: Box<str>,
}

// === impl Certificate ===

impl Certificate {
    /// Reads a chain (leaf first) and its key, and checks that the key signs for the leaf.
    ///
    /// An expired certificate is accepted: whether it is valid now needs a clock, and clients refuse it by themselves.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        if chain.len() > MAX_PEM || key.len() > MAX_PEM {
            return Err(CertificateError::TooLarge);
        }
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|error| CertificateError::Chain(error.to_string()))?;
        let leaf = chain.first().ok_or_else(|| CertificateError::Chain("no CERTIFICATE block".to_owned()))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| CertificateError::Key(error.to_string()))?;
        let fields = LeafFields::read(leaf)?;
        let private_key = key.clone_key();
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|error| CertificateError::Mismatch(error.to_string()))?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|_| CertificateError::Mismatch("the public keys differ".to_owned()))?;
        let LeafFields {
            names,
            not_after,
            fingerprint,
            serial_number,
            issuer_organization,
            issuer_common_name,
            public_key_algorithm,
        } = fields;
        Ok(Self {
            key: Arc::new(key),
            private_key,
            slot: Slot::default(),
            names,
            not_after,
            fingerprint,
            serial_number,
            issuer_organization,
            issuer_common_name,
            public_key_algorithm,
        })
    }

    /// The private key, in the form that it was written in.
    #[must_use]
    pub fn private_key(&self) -> &[u8] {
        self.private_key.secret_der()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("names", &self.names)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.key.cert == other.key.cert
    }
}

impl Eq for Certificate {}

struct LeafFields {
    names: CertificateNames,
    not_after: i64,
    fingerprint: Box<str>,
    serial_number: Box<str>,
    issuer_organization: Box<str>,
    issuer_common_name: Box<str>,
    public_key_algorithm: Box<str>,
}

impl LeafFields {
    fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let (_, leaf) = X509Certificate::from_der(der).map_err(|error| CertificateError::Leaf(error.to_string()))?;
        let text = |value: Option<&x509_parser::x509::AttributeTypeAndValue<'_>>| -> Box<str> {
            value.and_then(|value| value.as_str().ok()).unwrap_or_default().into()
        };
        let algorithm = leaf.public_key().algorithm.algorithm.to_id_string();
        Ok(Self {
            names: CertificateNames::read(&leaf),
            not_after: leaf.validity().not_after.timestamp(),
            fingerprint: sha256_hex(der).into(),
            serial_number: leaf.tbs_certificate.serial.to_string().into(),
            issuer_organization: text(leaf.issuer().iter_organization().next()),
            issuer_common_name: text(leaf.issuer().iter_common_name().next()),
            public_key_algorithm: match algorithm.as_str() {
                "1.2.840.113549.1.1.1" => "RSA".into(),
                "1.2.840.10045.2.1" => "ECDSA".into(),
                "1.3.101.112" => "Ed25519".into(),
                _ => algorithm.into(),
            },
        })
    }
}

// === impl CertificateNames ===

impl CertificateNames {
    fn read(leaf: &X509Certificate<'_>) -> Self {
        let mut dns = Vec::new();
        let mut addresses = Vec::new();
        // RFC 6125 section 6.4.3: the `*` of a certificate stands for one label.
        let mut add = |name: &str| dns.extend(HostPattern::parse(name, WildcardDepth::One).ok());
        if let Ok(Some(extension)) = leaf.subject_alternative_name() {
            for name in &extension.value.general_names {
                match name {
                    GeneralName::DNSName(name) => add(name),
                    GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
                    _ => {}
                }
            }
        }
        if dns.is_empty() && addresses.is_empty() {
            for name in leaf.subject().iter_common_name().filter_map(|name| name.as_str().ok()) {
                dns.extend(HostPattern::parse(name, WildcardDepth::One).ok());
            }
        }
        // A certificate for the bare `*` is for no host: RFC 6125 wants a domain behind the wildcard.
        dns.retain(|name| *name != HostPattern::Any);
        dns.sort();
        dns.dedup();
        Self { dns: dns.into(), addresses: addresses.into() }
    }

    /// Whether the certificate is for `host`: a pattern that is a wildcard is covered by the same wildcard only.
    #[must_use]
    pub fn cover(&self, host: &HostPattern) -> bool {
        match host {
            HostPattern::Exact(name) => {
                self.dns.iter().any(|pattern| pattern.matches(name))
                    || name.parse().is_ok_and(|address| self.addresses.contains(&address))
            }
            HostPattern::Wildcard { suffix, .. } => self
                .dns
                .iter()
                .any(|pattern| matches!(pattern, HostPattern::Wildcard { suffix: covered, .. } if covered == suffix)),
            HostPattern::Any => false,
        }
    }

    /// The DNS names, sorted.
    #[must_use]
    pub fn dns(&self) -> &[HostPattern] {
        &self.dns
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    use std::sync::LazyLock;
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let mut text = String::with_capacity(64);
    if let Some(suite) = suite.tls13() {
        for byte in suite.common.hash_provider.hash(bytes).as_ref() {
            let _ = write!(text, "{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(names: &[&str]) -> (String, String) {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    fn exact(host: &str) -> HostPattern {
        HostPattern::parse(host, WildcardDepth::One).unwrap()
    }

    #[test]
    fn a_certificate_is_for_its_subject_alternative_names() {
        let (chain, key) = pem(&["a.example.com", "*.b.example.com", "192.0.2.1"]);
        let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        for (host, expected) in [
            ("a.example.com", true),
            ("x.b.example.com", true),
            ("x.y.b.example.com", false),
            ("b.example.com", false),
            ("*.b.example.com", true),
            ("*.example.com", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
        ] {
            assert_eq!(certificate.names.cover(&exact(host)), expected, "{host}");
        }
        assert!(!certificate.names.cover(&HostPattern::Any));
        assert_eq!(&*certificate.public_key_algorithm, "ECDSA");
        assert_eq!(certificate.fingerprint.len(), 64);
    }

    #[test]
    fn the_common_name_counts_when_there_is_no_alternative_name() {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "webapp.example.com");
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        let certificate = Certificate::from_pem(cert.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        assert!(certificate.names.cover(&exact("webapp.example.com")));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (chain, _) = pem(&["a"]);
        let (_, key) = pem(&["b"]);
        let error = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert!(matches!(error, CertificateError::Mismatch(_)), "{error}");
        assert!(matches!(
            Certificate::from_pem(b"base64 encoded cert", key.as_bytes()),
            Err(CertificateError::Chain(_))
        ));
        assert!(matches!(Certificate::from_pem(chain.as_bytes(), b"garbage"), Err(CertificateError::Key(_))));
        assert_eq!(Certificate::from_pem(&vec![b'a'; MAX_PEM + 1], b""), Err(CertificateError::TooLarge));
    }

    #[test]
    fn a_certificate_never_prints_its_key() {
        let (chain, key) = pem(&["a"]);
        let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        let text = format!("{certificate:?}");
        assert!(text.contains("fingerprint") && !text.contains("key"), "{text}");
    }
}
