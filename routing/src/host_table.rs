//! The hosts of a listener, and which of them a name belongs to.

use std::sync::Arc;

use crate::compile::{CompiledHost, CompiledTls, Linker};
use crate::host::{HostPattern, WildcardDepth};
use crate::model::{Host, HostKey};
use crate::table::HostMap;

/// The hosts of a listener. Listeners with the same hosts share one.
#[derive(Clone, Default)]
pub(crate) struct HostTable {
    exact: HostMap,
    /// Wildcards for one label, by what follows the `*.`.
    one_label: HostMap,
    /// Wildcards for one or more labels.
    many_labels: HostMap,
    any: Option<CompiledHost>,
}

/// A host of a listener that is new or changed, or gone.
pub(crate) type HostChange<'d> = (&'d HostKey, &'d Option<Arc<Host>>);

impl HostTable {
    /// The table after these changes, each of which is for another host.
    pub(crate) fn with(&self, changes: &[HostChange<'_>], linker: &mut Linker<'_>) -> Self {
        let mut next = self.clone();
        for (key, host) in changes {
            match host {
                None => next.remove(&key.host),
                Some(host) => next.insert(CompiledHost::compile(key.host.clone(), host, linker)),
            }
        }
        next
    }

    /// The most specific host for a normalised name: exact, then the longest wildcard, then any.
    pub(crate) fn find(&self, name: &str) -> Option<&CompiledHost> {
        self.exact.get(name).or_else(|| self.find_wildcard(name)).or(self.any.as_ref())
    }

    /// Whether a certificate is configured for a name, be it the default one: by its own host, or by a wildcard.
    pub(crate) fn has_certificate(&self, name: &str) -> bool {
        self.tls_hosts(name).any(|host| matches!(host.tls(), CompiledTls::Terminate(_)) && !host.is_any())
    }

    /// The hosts whose TLS a name can have: ingress-nginx looks for its own, then for the wildcard's, although the
    /// routes of the wildcard are shadowed by a host that has none.
    pub(crate) fn tls_hosts(&self, name: &str) -> impl Iterator<Item = &CompiledHost> {
        self.exact.get(name).into_iter().chain(self.find_wildcard(name)).chain(self.any.as_ref())
    }

    fn find_wildcard(&self, name: &str) -> Option<&CompiledHost> {
        let (_, mut suffix) = name.split_once('.').filter(|(label, _)| !label.is_empty())?;
        if let Some(host) = self.one_label.get(suffix) {
            return Some(host);
        }
        if self.many_labels.is_empty() {
            return None;
        }
        loop {
            if let Some(host) = self.many_labels.get(suffix) {
                return Some(host);
            }
            suffix = suffix.split_once('.')?.1;
        }
    }

    fn insert(&mut self, host: CompiledHost) {
        match host.pattern() {
            HostPattern::Exact(_) => self.exact.insert(host),
            HostPattern::Wildcard { depth: WildcardDepth::One, .. } => self.one_label.insert(host),
            HostPattern::Wildcard { depth: WildcardDepth::OneOrMore, .. } => self.many_labels.insert(host),
            HostPattern::Any => self.any = Some(host),
        }
    }

    fn remove(&mut self, pattern: &HostPattern) {
        match pattern {
            HostPattern::Exact(name) => self.exact.remove(name),
            HostPattern::Wildcard { suffix, depth: WildcardDepth::One } => self.one_label.remove(suffix),
            HostPattern::Wildcard { suffix, depth: WildcardDepth::OneOrMore } => self.many_labels.remove(suffix),
            HostPattern::Any => self.any = None,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &CompiledHost> {
        self.exact.iter().chain(self.one_label.iter()).chain(self.many_labels.iter()).chain(self.any.iter())
    }
}
