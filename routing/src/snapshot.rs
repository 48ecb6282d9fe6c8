//! One immutable compiled state. A request pins one for its whole life.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::certificate::Certificate;
use crate::compile::{CertificateCell, CompiledClientTls, CompiledHost, CompiledStream, CompiledTls, Linker};
use crate::host::{HostName, HostPattern, WildcardDepth};
use crate::model::{CertificateRef, Listener, ListenerKey, StreamRoute};
use crate::settings::Settings;
use crate::table::HostMap;

/// One immutable compiled state of the whole configuration.
pub struct Snapshot {
    pub(crate) generation: u64,
    pub(crate) settings: Arc<Settings>,
    /// Sorted by key.
    pub(crate) listeners: Vec<ListenerTable>,
    pub(crate) default_certificate: Option<Arc<CertificateCell>>,
}

/// A listener and its hosts.
#[derive(Clone)]
pub(crate) struct ListenerTable {
    pub(crate) key: ListenerKey,
    pub(crate) listener: Arc<Listener>,
    /// Where its connections go when they are not HTTP.
    stream: Option<Arc<CompiledStream>>,
    exact: HostMap,
    /// Wildcards for one label, by what follows the `*.`.
    one_label: HostMap,
    /// Wildcards for one or more labels.
    many_labels: HostMap,
    any: Option<CompiledHost>,
}

/// What to present to a TLS client.
pub enum CertificateChoice {
    /// The certificate of the host.
    Host(Arc<Certificate>),
    /// The default certificate; `None` for the gateway's own self-signed one.
    Default(Option<Arc<Certificate>>),
    /// Nothing: the bytes go on as they are.
    Passthrough(Arc<StreamRoute>),
}

// === impl Snapshot ===

impl Snapshot {
    /// A state in which nothing is configured.
    #[must_use]
    pub fn empty() -> Self {
        Self { generation: 0, settings: Arc::default(), listeners: Vec::new(), default_certificate: None }
    }

    /// The number of this state: it grows by one with each.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The global settings.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The listeners that should be bound.
    pub fn listeners(&self) -> impl Iterator<Item = (&ListenerKey, &Arc<Listener>)> {
        self.listeners.iter().map(|table| (&table.key, &table.listener))
    }

    /// Where the connections of a stream listener go; `None` when there is no such listener.
    #[must_use]
    pub fn stream(&self, listener: &ListenerKey) -> Option<&Arc<CompiledStream>> {
        self.listener(listener)?.stream.as_ref()
    }

    /// How many hosts all listeners have together.
    #[must_use]
    pub fn n_hosts(&self) -> usize {
        self.listeners.iter().map(|table| table.hosts().count()).sum()
    }

    /// Chooses the certificate for a TLS client that asks for `server_name` (SNI) on `listener`.
    #[must_use]
    pub fn certificate(&self, listener: &ListenerKey, server_name: Option<&str>) -> CertificateChoice {
        let default =
            || CertificateChoice::Default(self.default_certificate.as_ref().and_then(|cell| cell.load().clone()));
        let Some(table) = self.listener(listener) else { return default() };
        let name = server_name.and_then(HostName::new);
        let name = name.as_ref().map_or("", HostName::as_str);
        for host in table.tls_hosts(name) {
            match host.tls() {
                CompiledTls::Default => {}
                CompiledTls::Passthrough(route) => return CertificateChoice::Passthrough(Arc::clone(route)),
                CompiledTls::Terminate(cells) => {
                    if let Some(certificate) = covering(cells, name) {
                        return CertificateChoice::Host(certificate);
                    }
                }
            }
        }
        default()
    }

    /// What clients must show that ask for `server_name` (SNI) on `listener`. Without a name it is the host for every
    /// other name.
    #[must_use]
    pub fn client_tls(&self, listener: &ListenerKey, server_name: Option<&str>) -> Option<&Arc<CompiledClientTls>> {
        let name = server_name.and_then(HostName::new);
        let host = self.listener(listener)?.find(name.as_ref().map_or("", HostName::as_str))?;
        host.client_tls()
    }

    /// Whether a host of the listener has this name: by itself or by a wildcard, not by standing for every name.
    #[must_use]
    pub fn has_host(&self, listener: &ListenerKey, server_name: Option<&str>) -> bool {
        let Some(name) = server_name.and_then(HostName::new) else { return false };
        let Some(table) = self.listener(listener) else { return false };
        table.tls_hosts(name.as_str()).any(|host| !host.is_any())
    }

    /// The certificates that hosts present, each host once, sorted by host.
    #[must_use]
    pub fn certificates(&self) -> Vec<(HostPattern, &CertificateRef, Arc<Certificate>)> {
        let mut found = BTreeMap::new();
        for host in self.listeners.iter().flat_map(ListenerTable::hosts) {
            let CompiledTls::Terminate(cells) = host.tls() else { continue };
            for cell in cells {
                if let Some(certificate) = cell.load().clone() {
                    found.insert((host.pattern(), cell.key()), certificate);
                }
            }
        }
        found.into_iter().map(|((host, reference), certificate)| (host, reference, certificate)).collect()
    }

    pub(crate) fn listener(&self, key: &ListenerKey) -> Option<&ListenerTable> {
        self.listeners.binary_search_by(|table| table.key.cmp(key)).ok().map(|at| &self.listeners[at])
    }
}

/// The first certificate of the list that is there and for `name`.
fn covering(cells: &[Arc<CertificateCell>], name: &str) -> Option<Arc<Certificate>> {
    let host = HostPattern::parse(name, WildcardDepth::One).ok()?;
    cells.iter().find_map(|cell| cell.load().clone().filter(|certificate| certificate.names.cover(&host)))
}

// === impl ListenerTable ===

impl ListenerTable {
    pub(crate) fn new(key: ListenerKey, listener: Arc<Listener>, linker: &mut Linker<'_>) -> Self {
        Self {
            key,
            stream: Self::compile(&listener, linker),
            listener,
            exact: HostMap::default(),
            one_label: HostMap::default(),
            many_labels: HostMap::default(),
            any: None,
        }
    }

    /// Makes it listen otherwise, for the same hosts.
    pub(crate) fn set_listener(&mut self, listener: Arc<Listener>, linker: &mut Linker<'_>) {
        self.stream = Self::compile(&listener, linker);
        self.listener = listener;
    }

    fn compile(listener: &Listener, linker: &mut Linker<'_>) -> Option<Arc<CompiledStream>> {
        listener.stream().map(|route| Arc::new(CompiledStream::compile(route, linker)))
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
    fn tls_hosts(&self, name: &str) -> impl Iterator<Item = &CompiledHost> {
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

    pub(crate) fn insert(&mut self, host: CompiledHost) {
        match host.pattern() {
            HostPattern::Exact(_) => self.exact.insert(host),
            HostPattern::Wildcard { depth: WildcardDepth::One, .. } => self.one_label.insert(host),
            HostPattern::Wildcard { depth: WildcardDepth::OneOrMore, .. } => self.many_labels.insert(host),
            HostPattern::Any => self.any = Some(host),
        }
    }

    pub(crate) fn remove(&mut self, pattern: &HostPattern) {
        match pattern {
            HostPattern::Exact(name) => self.exact.remove(name),
            HostPattern::Wildcard { suffix, depth: WildcardDepth::One } => self.one_label.remove(suffix),
            HostPattern::Wildcard { suffix, depth: WildcardDepth::OneOrMore } => self.many_labels.remove(suffix),
            HostPattern::Any => self.any = None,
        }
    }

    pub(crate) fn hosts(&self) -> impl Iterator<Item = &CompiledHost> {
        self.exact.iter().chain(self.one_label.iter()).chain(self.many_labels.iter()).chain(self.any.iter())
    }
}
