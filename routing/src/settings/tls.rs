//! Settings of TLS towards clients.

use http::HeaderValue;
use serde::{Serialize, Serializer};

/// How TLS is spoken to clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TlsSettings {
    /// `ssl-protocols`.
    pub versions: TlsVersions,
    /// `ssl-ciphers`: the suites of TLS 1.2, the preferred one first. Those of TLS 1.3 are always offered, as OpenSSL
    /// does.
    pub ciphers: Vec<CipherSuite>,
    /// `ssl-reject-handshake`: refuses clients that ask for a name which no host has.
    pub reject_unknown_names: bool,
    /// `ssl-session-cache`: sessions can be resumed from the memory of the gateway.
    pub session_cache: bool,
    /// `ssl-session-tickets`: sessions can be resumed from what the client keeps.
    pub session_tickets: bool,
    /// `hsts`, `hsts-max-age`, `hsts-include-subdomains`, `hsts-preload`: the value of `Strict-Transport-Security` on
    /// answers over TLS.
    #[serde(serialize_with = "optional_header")]
    pub strict_transport_security: Option<HeaderValue>,
}

/// Versions of TLS. There is none below 1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum TlsVersions {
    /// TLS 1.2 only.
    #[serde(rename = "TLSv1.2")]
    Tls12,
    /// TLS 1.3 only.
    #[serde(rename = "TLSv1.3")]
    Tls13,
    /// Both.
    #[serde(rename = "TLSv1.2 TLSv1.3")]
    Both,
}

/// A cipher suite of TLS 1.2, with forward secrecy and authenticated encryption: there are no others here. Serialised
/// under OpenSSL's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE")]
#[expect(missing_docs, reason = "the names say it")]
pub enum CipherSuite {
    EcdheEcdsaAes128GcmSha256,
    EcdheEcdsaAes256GcmSha384,
    EcdheEcdsaChacha20Poly1305,
    EcdheRsaAes128GcmSha256,
    EcdheRsaAes256GcmSha384,
    EcdheRsaChacha20Poly1305,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            versions: TlsVersions::Both,
            ciphers: CipherSuite::ALL.map(|(_, suite)| suite).to_vec(),
            reject_unknown_names: false,
            session_cache: true,
            session_tickets: false,
            strict_transport_security: Some(HeaderValue::from_static("max-age=31536000; includeSubDomains")),
        }
    }
}

impl CipherSuite {
    /// All of them under OpenSSL's names, in the order that ingress-nginx prefers.
    pub const ALL: [(&'static str, Self); 6] = [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", Self::EcdheEcdsaAes128GcmSha256),
        ("ECDHE-RSA-AES128-GCM-SHA256", Self::EcdheRsaAes128GcmSha256),
        ("ECDHE-ECDSA-AES256-GCM-SHA384", Self::EcdheEcdsaAes256GcmSha384),
        ("ECDHE-RSA-AES256-GCM-SHA384", Self::EcdheRsaAes256GcmSha384),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", Self::EcdheEcdsaChacha20Poly1305),
        ("ECDHE-RSA-CHACHA20-POLY1305", Self::EcdheRsaChacha20Poly1305),
    ];

    /// The suite that OpenSSL calls by this name.
    #[must_use]
    pub fn from_openssl_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, suite)| *suite)
    }
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn optional_header<S: Serializer>(value: &Option<HeaderValue>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(&String::from_utf8_lossy(value.as_bytes())),
        None => serializer.serialize_none(),
    }
}
