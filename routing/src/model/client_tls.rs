//! Certificates that clients must show (nginx `ssl_verify_client`).

use std::fmt;

use serde::{Serialize, Serializer};

use crate::settings::TextPattern;
use crate::template::Template;

/// Authorities by reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuthorityRef {
    /// The namespace of the Secret.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
}

/// What the clients of a host must show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientTls {
    /// Who must vouch for them. While there is nobody, nobody gets through.
    pub authority: AuthorityRef,
    /// What is demanded.
    pub demand: CertificateDemand,
    /// How many certificates may stand between that of a client and an authority.
    pub depth: u8,
    /// What the subject of the certificate must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<TextPattern>,
    /// Where clients are sent that do not show what is demanded; `None` answers 400.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_page: Option<Template>,
    /// What upstreams are told.
    pub told: CertificateDetail,
}

/// What is demanded of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateDemand {
    /// A certificate that an authority vouches for.
    Verified,
    /// No certificate, or one that an authority vouches for.
    Optional,
    /// No certificate, or one with which nothing is wrong but that the authorities have nothing to do with it.
    OptionalUnknown,
}

/// What upstreams are told of a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CertificateDetail {
    /// Its names, and whether it was verified.
    #[default]
    Names,
    /// The same, and all of it.
    Whole,
}

impl fmt::Display for AuthorityRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Serialize for AuthorityRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
