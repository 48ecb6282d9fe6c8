//! Annotations of client certificates.

use routing::model::{AuthorityRef, CertificateDemand, CertificateDetail, ClientTls};
use routing::{Template, TextPattern};

use super::value::{self, SecretName, ValueError};

/// What an Ingress says of the certificates of its clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTlsAnnotations {
    /// `auth-tls-secret`; without it the others say nothing.
    pub secret: Option<SecretName>,
    /// `auth-tls-verify-client`; `Some(None)` is off.
    pub demand: Option<Option<CertificateDemand>>,
    /// `auth-tls-verify-depth`.
    pub depth: Option<u8>,
    /// `auth-tls-error-page`.
    pub error_page: Option<Template>,
    /// `auth-tls-pass-certificate-to-upstream`.
    pub told: CertificateDetail,
    /// `auth-tls-match-cn`.
    pub subject: Option<TextPattern>,
}

/// How many certificates may stand in between where nothing is said.
const DEPTH: u8 = 1;

impl ClientTlsAnnotations {
    /// What clients must show; `None` for nothing.
    ///
    /// # Errors
    ///
    /// Why it cannot be known whether they do: the host is closed then.
    pub(crate) fn resolve(&self, namespace: &str) -> Result<Option<ClientTls>, String> {
        let (Some(secret), Some(demand)) = (&self.secret, self.demand.unwrap_or(Some(CertificateDemand::Verified)))
        else {
            return Ok(None);
        };
        let name = secret.within(namespace).map_err(|why| format!("auth-tls-secret: {why}"))?;
        Ok(Some(ClientTls {
            authority: AuthorityRef { namespace: namespace.into(), name: name.into() },
            demand,
            depth: self.depth.unwrap_or(DEPTH),
            subject: self.subject.clone(),
            error_page: self.error_page.clone(),
            told: self.told,
        }))
    }
}

pub(super) fn demand(text: &str) -> Result<Option<CertificateDemand>, ValueError> {
    Ok(match text {
        "on" => Some(CertificateDemand::Verified),
        "optional" => Some(CertificateDemand::Optional),
        "optional_no_ca" => Some(CertificateDemand::OptionalUnknown),
        "off" => None,
        _ => return Err(ValueError::OneOf(text.to_owned(), "on, off, optional, optional_no_ca")),
    })
}

/// A number of certificates; 0 is the default, as it is in ingress-nginx.
pub(super) fn depth(text: &str) -> Result<u8, ValueError> {
    let depth: u8 = value::number(text)?.try_into().map_err(|_| ValueError::Number(text.to_owned()))?;
    Ok(if depth == 0 { DEPTH } else { depth })
}

/// `CN=` and a regular expression. It is looked for where an attribute of the subject begins: nobody becomes another by
/// an organization with the name `CN=...`.
pub(super) fn subject(text: &str) -> Result<TextPattern, ValueError> {
    value::reject(value::short(text)?, |c| !(value::is_word(c) || r"^$[](){}*+?|&=\".contains(c)))?;
    if !text.starts_with("CN=") {
        return Err(ValueError::Subject(text.to_owned()));
    }
    // By itself first, so that no bracket of it closes the one around it.
    TextPattern::parse(&format!("~{text}"))?;
    Ok(TextPattern::parse(&format!(r"~(?:^|[^\\][,+])(?:{text})"))?)
}

/// Whether upstreams get the whole certificate.
pub(super) fn told(text: &str) -> Result<CertificateDetail, ValueError> {
    value::boolean(text).map(|is_whole| if is_whole { CertificateDetail::Whole } else { CertificateDetail::Names })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_is_that_of_an_attribute() {
        for (text, subject_of_client, expected) in [
            ("CN=alice", "CN=alice,O=x", true),
            ("CN=alice", "CN=alice2", true),
            ("CN=^alice$", "CN=alice", false),
            ("CN=(alice|bob)$", "O=x,CN=bob", true),
            ("CN=alice|CN=bob", "O=x,CN=bob", true),
            ("CN=alice", "CN=mallory,O=CN=alice", false),
            ("CN=alice", "CN=mallory\\,CN=alice", false),
            ("CN=alice", "CN=mallory+CN=alice", true),
            ("CN=alice", "", false),
            ("CN=", "CN=", true),
        ] {
            let found = subject(text).unwrap().matches(subject_of_client.as_bytes());
            assert_eq!(found, expected, "{text} {subject_of_client}");
        }
        assert!(subject("CN=a)|(?:x").is_err());
    }
}
