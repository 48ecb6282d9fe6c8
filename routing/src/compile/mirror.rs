//! Mirrors of a rule: from a request to what is sent as its copy. Sending is for others.

use std::borrow::Cow;
use std::sync::Arc;

use super::Linker;
use super::url::resolve;
use crate::endpoint::Backend;
use crate::host::HostName;
use crate::model::{Filter, Mirror};
use crate::request::{ConnectionView, RequestView};
use crate::slot::Slot;
use crate::template::Values;

/// A mirror, ready to send to.
#[derive(Debug)]
pub struct CompiledMirror {
    /// What was asked for.
    pub mirror: Mirror,
    /// The backend that gets the copies, where it is one.
    pub backend: Option<Arc<Backend>>,
    /// Room for what the data plane keeps of the mirror.
    pub slot: Slot,
}

/// What differs between a request and its copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyTarget<'a> {
    /// Who gets the copy: a name, or an address.
    pub server: Cow<'a, str>,
    /// The path and the query.
    pub target: String,
    /// The host that the copy is for.
    pub host: Cow<'a, str>,
}

impl CompiledMirror {
    /// `None` where a rule has no mirror.
    pub(super) fn of(filters: &[Filter], linker: &mut Linker<'_>) -> Option<Self> {
        let mirror =
            filters.iter().find_map(|filter| if let Filter::Mirror(mirror) = filter { Some(mirror) } else { None })?;
        let backend = mirror.url.server.backend().map(&mut *linker.backends);
        Some(Self { mirror: mirror.clone(), backend, slot: Slot::default() })
    }

    /// Where the copy of a request goes; `None` for a request that is not copied, or whose URL comes out as none.
    #[must_use]
    pub fn target(&self, request: &RequestView<'_>, connection: &ConnectionView<'_>) -> Option<CopyTarget<'_>> {
        let Mirror { url, host, body: _, share } = &self.mirror;
        if request.entropy % share.denominator >= share.numerator {
            return None;
        }
        let name = HostName::new(request.authority)?;
        let (server, target) = resolve(url, &Values { request, connection, host: &name, pattern: None })?;
        let host = host.as_deref().map_or_else(|| server.clone(), Cow::Borrowed);
        Some(CopyTarget { server, target, host })
    }
}
