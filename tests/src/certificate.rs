//! Certificates for tests, made on the spot.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, GeneralSubtree, IsCa, Issuer, KeyPair, NameConstraints, date_time_ymd,
};

/// A certificate with its key, both as PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The chain, the leaf first.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// An authority that issues certificates.
pub struct Authority {
    /// Its own certificate as PEM.
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificate {
    /// A self-signed certificate for names. The first is its common name too.
    #[must_use]
    pub fn self_signed(names: &[&str]) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = parameters(names).self_signed(&key).unwrap();
        Self { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// The same with an end, in seconds since 1970.
    #[must_use]
    pub fn valid_until(names: &[&str], end: u64) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = parameters(names);
        parameters.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(end);
        let certificate = parameters.self_signed(&key).unwrap();
        Self { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A certificate of the first of these authorities, with the certificates of all of them behind it.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn issued_below(authorities: &[Authority], names: &[&str]) -> Self {
        let mut issued = authorities[0].issue(names);
        issued.certificate.extend(authorities.iter().map(|authority| authority.certificate.as_str()));
        issued
    }

    /// A Secret of type kubernetes.io/tls that holds it.
    #[must_use]
    pub fn secret(&self, name: &str) -> String {
        secret(name, &[("tls.crt", self.certificate.as_bytes()), ("tls.key", self.key.as_bytes())])
    }
}

impl Authority {
    /// A new authority.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::self_signed(authority(name))
    }

    /// A new authority whose certificates are good for names below these domains only.
    #[must_use]
    pub fn for_domains(name: &str, domains: &[String]) -> Self {
        let permitted_subtrees = domains.iter().cloned().map(GeneralSubtree::DnsName).collect();
        let mut parameters = authority(name);
        parameters.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        Self::self_signed(parameters)
    }

    fn self_signed(parameters: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Self { certificate: certificate.pem(), issuer: Issuer::new(parameters, key) }
    }

    /// An authority that this one vouches for.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        let (key, parameters) = (KeyPair::generate().unwrap(), authority(name));
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Self { certificate: certificate.pem(), issuer: Issuer::new(parameters, key) }
    }

    /// So many authorities below this one, each below the one that follows it.
    #[must_use]
    pub fn descendants(&self, n: usize) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for number in 0..n {
            let next = found.first().unwrap_or(self).below(&format!("descendant {number}"));
            found.insert(0, next);
        }
        found
    }

    /// A certificate for names, issued by it. The first is its common name too.
    #[must_use]
    pub fn issue(&self, names: &[&str]) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let certificate = parameters(names).signed_by(&key, &self.issuer).unwrap();
        Certificate { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters
}

fn parameters(names: &[&str]) -> CertificateParams {
    let mut parameters =
        CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or_default());
    parameters
}

/// Names of three letters: ten thousand of them fit into the 64 KiB that a handshake takes.
pub fn short_names() -> impl Iterator<Item = String> {
    let letters = || (b'a'..=b'z').map(char::from);
    letters().flat_map(move |a| letters().flat_map(move |b| letters().map(move |c| String::from_iter([a, b, c]))))
}

/// A Secret with the keys and values given.
#[must_use]
pub fn secret(name: &str, data: &[(&str, &[u8])]) -> String {
    use std::fmt::Write as _;
    let mut text = format!("---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\ndata:\n");
    for (key, value) in data {
        writeln!(text, "  {key}: {}", STANDARD.encode(value)).unwrap();
    }
    text
}

/// Bytes as they stand in manifests.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
