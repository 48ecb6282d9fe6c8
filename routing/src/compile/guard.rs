//! Guards of a rule, with the values of the lanes that they refer to.

use std::sync::Arc;

use http::HeaderValue;

use super::{CompiledExternalAuth, Linker};
use crate::credentials::Credentials;
use crate::lane::LaneCell;
use crate::model::{AccessList, BasicAuth, CredentialsRef, Guards, LimitZone, Limits, Rule, Satisfy};

/// What a request must get past before it goes on.
#[derive(Debug)]
pub struct CompiledGuards {
    guards: Arc<Guards>,
    /// What one client may do at a time.
    pub limits: Option<CompiledLimits>,
    /// Who clients must be.
    pub basic: Option<CompiledBasicAuth>,
    /// Who else is asked about them.
    pub external: Option<CompiledExternalAuth>,
}

/// Limits, with the name of their zone as the tables of the data plane know it.
#[derive(Debug)]
pub struct CompiledLimits {
    /// The limits.
    pub limits: Arc<Limits>,
    /// A hash of the zone.
    pub zone: u64,
}

/// Basic authentication, ready to challenge.
#[derive(Debug)]
pub struct CompiledBasicAuth {
    /// The users; none while the Secret is missing.
    pub credentials: Arc<LaneCell<CredentialsRef, Credentials>>,
    /// The value of `WWW-Authenticate`.
    pub challenge: HeaderValue,
}

impl CompiledGuards {
    pub(super) fn compile(rule: &Rule, guards: &Arc<Guards>, linker: &mut Linker<'_>) -> Self {
        let basic = guards.access.basic.as_ref().map(|BasicAuth { realm, credentials }| CompiledBasicAuth {
            credentials: linker.credentials.cell(credentials),
            challenge: HeaderValue::try_from(format!("Basic realm=\"{realm}\""))
                .unwrap_or(HeaderValue::from_static("Basic realm=\"\"")),
        });
        let limits = guards.limits.as_ref().map(|limits| CompiledLimits::new(Arc::clone(limits)));
        let external = guards.access.external.as_ref();
        let external = external.map(|external| CompiledExternalAuth::compile(rule, external, linker));
        Self { guards: Arc::clone(guards), limits, basic, external }
    }

    /// Where clients must be.
    #[must_use]
    pub fn addresses(&self) -> &AccessList {
        &self.guards.access.addresses
    }

    /// Whether one fulfilled condition is enough.
    #[must_use]
    pub fn satisfy(&self) -> Satisfy {
        self.guards.access.satisfy
    }
}

impl CompiledLimits {
    /// Limits that are ready.
    #[must_use]
    pub fn new(limits: Arc<Limits>) -> Self {
        let LimitZone { namespace, name } = &limits.zone;
        // Neither has a slash in it.
        let zone = xxhash_rust::xxh3::xxh3_64(format_args!("{namespace}/{name}").to_string().as_bytes());
        Self { limits, zone }
    }
}
