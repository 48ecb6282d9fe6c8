//! Guards of a rule, with the values of the lanes that they refer to.

use std::sync::Arc;

use http::HeaderValue;

use super::Linker;
use crate::credentials::Credentials;
use crate::lane::LaneCell;
use crate::model::{AccessList, BasicAuth, CredentialsRef, Guards, Satisfy};

/// What a request must get past before it goes on.
#[derive(Debug)]
pub struct CompiledGuards {
    guards: Arc<Guards>,
    /// Who clients must be.
    pub basic: Option<CompiledBasicAuth>,
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
    pub(super) fn compile(guards: &Arc<Guards>, linker: &mut Linker<'_>) -> Self {
        let basic = guards.access.basic.as_ref().map(|BasicAuth { realm, credentials }| CompiledBasicAuth {
            credentials: linker.credentials.cell(credentials),
            challenge: HeaderValue::try_from(format!("Basic realm=\"{realm}\""))
                .unwrap_or(HeaderValue::from_static("Basic realm=\"\"")),
        });
        Self { guards: Arc::clone(guards), basic }
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
