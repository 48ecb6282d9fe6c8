//! TLS towards upstreams: the name that is asked for, who must vouch for it, and what the gateway shows of itself.

use serde::Serialize;

use super::client_tls::AuthorityRef;
use super::rule::CertificateRef;

/// TLS towards the upstream. The default verifies nothing, as ingress-nginx's does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct UpstreamTls {
    /// The name to send as SNI; `None` sends none.
    pub server_name: Option<Box<str>>,
    /// Where the certificates are; `None` for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<CertificateRef>,
    /// Whether an authority in the Secret must vouch for the upstream, and for its name.
    #[serde(skip_serializing_if = "ServerVerification::is_default")]
    pub verification: ServerVerification,
}

/// Whether somebody must vouch for an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerVerification {
    /// Every upstream will do.
    #[default]
    Nobody,
    /// An authority must.
    Authority,
}

impl UpstreamTls {
    /// The authorities that are in the Secret.
    #[must_use]
    pub fn authority(&self) -> Option<AuthorityRef> {
        let CertificateRef { namespace, name } = self.secret.clone()?;
        Some(AuthorityRef { namespace, name })
    }
}

impl ServerVerification {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
