//! TLS of a rule towards its upstreams, with the values of the lanes that it refers to.

use std::sync::Arc;

use super::{CertificateCell, Linker};
use crate::authority::Authority;
use crate::certificate::Certificate;
use crate::lane::LaneCell;
use crate::model::{AuthorityRef, ServerVerification, UpstreamTls};

/// What a Secret holds of TLS towards upstreams: at least one of the two.
#[derive(Debug)]
pub struct CompiledUpstreamTls {
    verification: ServerVerification,
    has_name: bool,
    authority: Arc<LaneCell<AuthorityRef, Authority>>,
    certificate: Arc<CertificateCell>,
}

/// What connections to an upstream are made with.
#[derive(Debug)]
pub struct UpstreamTrust {
    /// Who must vouch for it; `None` for nobody.
    pub authority: Option<Arc<Authority>>,
    /// What the gateway shows of itself.
    pub certificate: Option<Arc<Certificate>>,
}

impl CompiledUpstreamTls {
    /// `None` where the rule names no Secret.
    pub(super) fn compile(tls: &UpstreamTls, linker: &mut Linker<'_>) -> Option<Self> {
        let (secret, authority) = (tls.secret.as_ref()?, tls.authority()?);
        Some(Self {
            verification: tls.verification,
            has_name: tls.server_name.is_some(),
            authority: linker.authorities.cell(&authority),
            certificate: linker.certificates.cell(secret),
        })
    }

    /// What connections are made with now; `None` while the Secret does not hold what is asked for: without it, nobody
    /// would be vouched for, or the wrong one.
    #[must_use]
    pub fn trust(&self) -> Option<UpstreamTrust> {
        let authority = self.authority.load().clone();
        let certificate = self.certificate.load().clone();
        match self.verification {
            ServerVerification::Authority if authority.is_none() || !self.has_name => None,
            ServerVerification::Authority => Some(UpstreamTrust { authority, certificate }),
            ServerVerification::Nobody if authority.is_none() && certificate.is_none() => None,
            ServerVerification::Nobody => Some(UpstreamTrust { authority: None, certificate }),
        }
    }
}
