//! Annotations of TLS towards upstreams.

use routing::model::{CertificateRef, ServerVerification, UpstreamTls};
use routing::{HostPattern, WildcardDepth};

use super::sizes::switch;
use super::value::{SecretName, ValueError};

/// What an Ingress says of TLS towards upstreams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTlsAnnotations {
    /// `proxy-ssl-secret`.
    pub secret: Option<SecretName>,
    /// `proxy-ssl-verify`.
    pub verification: ServerVerification,
    /// `proxy-ssl-name`.
    pub name: Option<Box<str>>,
    /// `proxy-ssl-server-name`.
    pub sends_name: bool,
}

impl UpstreamTlsAnnotations {
    /// How connections are made.
    ///
    /// # Errors
    ///
    /// Why it cannot be known who is on their other end: the paths of the Ingress are closed then.
    pub(crate) fn resolve(&self, namespace: &str) -> Result<UpstreamTls, String> {
        let name = self.secret.as_ref().map(|secret| secret.within(namespace)).transpose();
        let name = name.map_err(|why| format!("proxy-ssl-secret: {why}"))?;
        let secret = name.map(|name| CertificateRef { namespace: namespace.into(), name: name.into() });
        let is_verified = self.verification == ServerVerification::Authority;
        if is_verified && secret.is_none() {
            return Err("proxy-ssl-verify: proxy-ssl-secret is missing".to_owned());
        }
        if is_verified && self.name.is_none() {
            return Err("proxy-ssl-verify: proxy-ssl-name is missing".to_owned());
        }
        // A name that is verified is the one that is asked for.
        let server_name = self.name.clone().filter(|_| self.sends_name || is_verified);
        Ok(UpstreamTls { server_name, secret, verification: self.verification })
    }
}

pub(super) fn verification(text: &str) -> Result<ServerVerification, ValueError> {
    switch(text).map(|is_on| if is_on { ServerVerification::Authority } else { ServerVerification::Nobody })
}

/// The name of a host.
pub(super) fn name(text: &str) -> Result<Box<str>, ValueError> {
    match HostPattern::parse(text, WildcardDepth::One) {
        Ok(HostPattern::Exact(name)) => Ok(name),
        Ok(_) => Err(ValueError::ServerName(text.to_owned())),
        Err(error) => Err(error.into()),
    }
}
