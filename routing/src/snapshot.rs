//! One immutable compiled state. A request pins one for its whole life.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::certificate::Certificate;
use crate::compile::{CertificateCell, CompiledClientTls, CompiledStream, CompiledTls, Linker};
use crate::host::{HostName, HostPattern, WildcardDepth};
use crate::host_table::HostTable;
use crate::model::{CertificateRef, Listener, ListenerKey, StreamRoute};
use crate::settings::Settings;

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
    pub(crate) hosts: Arc<HostTable>,
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
        self.listeners.iter().map(|table| table.hosts.iter().count()).sum()
    }

    /// Chooses the certificate for a TLS client that asks for `server_name` (SNI) on `listener`.
    #[must_use]
    pub fn certificate(&self, listener: &ListenerKey, server_name: Option<&str>) -> CertificateChoice {
        let default =
            || CertificateChoice::Default(self.default_certificate.as_ref().and_then(|cell| cell.load().clone()));
        let Some(table) = self.listener(listener) else { return default() };
        let name = server_name.and_then(HostName::new);
        let name = name.as_ref().map_or("", HostName::as_str);
        for host in table.hosts.tls_hosts(name) {
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
        let host = self.listener(listener)?.hosts.find(name.as_ref().map_or("", HostName::as_str))?;
        host.client_tls()
    }

    /// Whether a host of the listener has this name: by itself or by a wildcard, not by standing for every name.
    #[must_use]
    pub fn has_host(&self, listener: &ListenerKey, server_name: Option<&str>) -> bool {
        let Some(name) = server_name.and_then(HostName::new) else { return false };
        let Some(table) = self.listener(listener) else { return false };
        table.hosts.tls_hosts(name.as_str()).any(|host| !host.is_any())
    }

    /// The certificates that hosts present, each host once, sorted by host.
    #[must_use]
    pub fn certificates(&self) -> Vec<(HostPattern, &CertificateRef, Arc<Certificate>)> {
        let mut found = BTreeMap::new();
        for host in self.listeners.iter().flat_map(|table| table.hosts.iter()) {
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
    pub(crate) fn new(
        key: ListenerKey,
        listener: Arc<Listener>,
        hosts: Arc<HostTable>,
        linker: &mut Linker<'_>,
    ) -> Self {
        Self { key, stream: Self::compile(&listener, linker), listener, hosts }
    }

    /// Makes it listen otherwise, for the same hosts.
    pub(crate) fn set_listener(&mut self, listener: Arc<Listener>, linker: &mut Linker<'_>) {
        self.stream = Self::compile(&listener, linker);
        self.listener = listener;
    }

    fn compile(listener: &Listener, linker: &mut Linker<'_>) -> Option<Arc<CompiledStream>> {
        listener.stream().map(|route| Arc::new(CompiledStream::compile(route, linker)))
    }
}
