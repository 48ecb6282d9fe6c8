//! Client certificates of a host, with the authorities that the policy refers to.

use std::sync::Arc;

use http::HeaderValue;

use super::Linker;
use crate::authority::Authority;
use crate::host::HostName;
use crate::lane::LaneCell;
use crate::model::{AuthorityRef, ClientTls};
use crate::request::{ConnectionView, RequestView};
use crate::template::Values;

/// What the clients of a host must show, with who vouches for it.
#[derive(Debug)]
pub struct CompiledClientTls {
    /// What was asked for.
    pub policy: Arc<ClientTls>,
    /// The authorities; none while the Secret is missing or broken.
    pub authority: Arc<LaneCell<AuthorityRef, Authority>>,
}

impl CompiledClientTls {
    pub(super) fn compile(policy: &Arc<ClientTls>, linker: &mut Linker<'_>) -> Self {
        Self { policy: Arc::clone(policy), authority: linker.authorities.cell(&policy.authority) }
    }

    /// Where a client is sent that does not show what is demanded.
    #[must_use]
    pub fn error_page(&self, request: &RequestView<'_>, connection: &ConnectionView<'_>) -> Option<HeaderValue> {
        let page = self.policy.error_page.as_ref()?;
        let host = HostName::new(request.authority)?;
        HeaderValue::try_from(page.render(&Values { request, connection, host: &host, pattern: None })).ok()
    }
}
