//! Publishing: one writer turns changes of the model into snapshots, many readers pin them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;

use crate::authority::Authority;
use crate::certificate::Certificate;
use crate::compile::Linker;
use crate::credentials::Credentials;
use crate::endpoint::{Addresses, Backend, BackendState, Endpoint};
use crate::host_table::{HostChange, HostTable};
use crate::lane::Lane;
use crate::model::{
    AuthorityRef, BackendModel, BackendRef, CertificateRef, CredentialsRef, Delta, EndpointAddress, EndpointKey, Model,
};
use crate::packed::Wear;
use crate::snapshot::{ListenerTable, Snapshot};

/// The state that the gateway works by, swapped as a whole.
pub struct LiveRouting {
    snapshot: ArcSwap<Snapshot>,
    /// Those whose endpoints are asked whether they are well.
    checked_backends: ArcSwap<Vec<Arc<Backend>>>,
}

/// The only writer of a [`LiveRouting`].
pub struct Publisher {
    live: Arc<LiveRouting>,
    model: Model,
    backends: HashMap<BackendRef, Arc<Backend>>,
    certificates: Lane<CertificateRef, Certificate>,
    credentials: Lane<CredentialsRef, Credentials>,
    authorities: Lane<AuthorityRef, Authority>,
    endpoints: EndpointRegistry,
    addresses: Addresses,
    wear: Wear,
}

/// What a publication did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The generation that is live now.
    pub generation: u64,
    /// How many hosts were compiled: those that changed, and no others.
    pub recompiled_hosts: usize,
    /// How many backends got another set of endpoints.
    pub changed_backends: usize,
}

/// The hosts of a listener before and after its changes. Listeners that share their hosts share them after the same
/// changes, too, so that each host is compiled and held once.
struct Step<'d> {
    last: Arc<HostTable>,
    changes: &'d [HostChange<'d>],
    next: Arc<HostTable>,
}

/// Endpoints by identity, so that what is learnt about one outlives every set that it is in.
#[derive(Default)]
struct EndpointRegistry {
    known: HashMap<EndpointKey, Weak<Endpoint>>,
    wear: Wear,
}

// === impl LiveRouting ===

impl LiveRouting {
    /// Nothing is configured yet.
    #[must_use]
    pub fn new() -> Self {
        Self { snapshot: ArcSwap::from_pointee(Snapshot::empty()), checked_backends: ArcSwap::default() }
    }

    /// Pins the current state. Call it once for a request or a connection, never twice.
    #[must_use]
    pub fn pin(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The backends whose endpoints are asked whether they are well.
    #[must_use]
    pub fn checked_backends(&self) -> Arc<Vec<Arc<Backend>>> {
        self.checked_backends.load_full()
    }
}

impl Default for LiveRouting {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Publisher ===

impl Publisher {
    /// A publisher that starts from the empty model.
    #[must_use]
    pub fn new(live: Arc<LiveRouting>) -> Self {
        Self {
            live,
            model: Model::default(),
            backends: HashMap::new(),
            certificates: Lane::default(),
            credentials: Lane::default(),
            authorities: Lane::default(),
            endpoints: EndpointRegistry::default(),
            addresses: Addresses::new(),
            wear: Wear::default(),
        }
    }

    /// The model that is live.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The endpoints that are known, each once.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.endpoints.known.values().filter_map(Weak::upgrade).collect()
    }

    /// Makes a change live. Only the hosts in it are compiled; endpoints and certificates are swapped in place.
    pub fn publish(&mut self, delta: &Delta) -> Published {
        self.model.apply(delta);
        let Delta { settings, listeners, hosts, backends, certificates, credentials, authorities } = delta;
        self.certificates.set(certificates);
        self.credentials.set(credentials);
        self.authorities.set(authorities);
        // Endpoints first: a new route must not be seen before its backend can answer.
        for (reference, model) in backends {
            if let Some(model) = model {
                self.set_backend(reference, model);
            }
        }
        let mut published = Published { changed_backends: backends.len(), ..Published::default() };
        let old = self.live.pin();
        published.generation = old.generation;
        if settings.is_some() || !listeners.is_empty() || !hosts.is_empty() {
            let (snapshot, recompiled_hosts) = self.next_snapshot(&old, delta);
            published.generation = snapshot.generation;
            published.recompiled_hosts = recompiled_hosts;
            self.live.snapshot.store(Arc::new(snapshot));
        }
        self.publish_checked_backends(backends);
        // Requests that pinned an older state keep what it refers to.
        self.backends.retain(|reference, _| self.model.backends.contains_key(reference));
        self.certificates.retain(&self.model.certificates);
        self.credentials.retain(&self.model.credentials);
        self.authorities.retain(&self.model.authorities);
        if self.wear.is_due(hosts.len() + backends.len(), self.model.hosts.len() + self.model.backends.len()) {
            self.model.repack();
            self.backends.shrink_to_fit();
            self.endpoints.sweep();
        }
        published
    }

    /// Tells the addresses of a name that backends refer to. Nothing happens when they are what they were.
    pub fn set_addresses(&mut self, name: &str, addresses: &[IpAddr]) {
        if self.addresses.get(name).is_some_and(|known| **known == *addresses) {
            return;
        }
        self.addresses.insert(name.into(), addresses.into());
        let affected: Vec<_> = self
            .model
            .backends
            .iter()
            .filter(|(_, model)| names(model).any(|other| other == name))
            .map(|(reference, model)| (reference.clone(), Arc::clone(model)))
            .collect();
        for (reference, model) in affected {
            self.set_backend(&reference, &model);
        }
    }

    fn set_backend(&mut self, reference: &BackendRef, model: &BackendModel) {
        let state = BackendState::new(model, &self.addresses, |key| self.endpoints.intern(key));
        backend(&mut self.backends, reference).set_state(state);
    }

    fn publish_checked_backends(&self, changed: &BTreeMap<BackendRef, Option<Arc<BackendModel>>>) {
        let is_checked =
            |model: &Option<Arc<BackendModel>>| model.as_ref().is_some_and(|model| model.health_check.is_some());
        // Nearly always nobody is asked, and there is nothing to gather.
        if changed.is_empty() || !changed.values().any(is_checked) && self.live.checked_backends.load().is_empty() {
            return;
        }
        let known = self.model.backends.iter().filter(|(_, model)| model.health_check.is_some());
        let checked = known.filter_map(|(reference, _)| self.backends.get(reference).map(Arc::clone)).collect();
        self.live.checked_backends.store(Arc::new(checked));
    }

    fn next_snapshot(&mut self, old: &Snapshot, delta: &Delta) -> (Snapshot, usize) {
        let mut tables = old.listeners.clone();
        let no_hosts = Arc::default();
        let Self { backends, certificates, credentials, authorities, .. } = self;
        let backends = &mut |reference: &BackendRef| backend(backends, reference);
        let mut linker = Linker { backends, certificates, credentials, authorities };
        for (key, listener) in &delta.listeners {
            let place = tables.binary_search_by(|table| table.key.cmp(key));
            match (place, listener.as_ref().map(Arc::clone)) {
                (Ok(at), Some(listener)) => tables[at].set_listener(listener, &mut linker),
                (Err(at), Some(listener)) => {
                    let hosts = Arc::clone(&no_hosts);
                    tables.insert(at, ListenerTable::new(*key, listener, hosts, &mut linker));
                }
                (Ok(at), None) => drop(tables.remove(at)),
                (Err(_), None) => {}
            }
        }
        let changes: Vec<_> = delta.hosts.iter().collect();
        let mut steps: Vec<Step<'_>> = Vec::new();
        let mut recompiled_hosts = 0;
        for changes in changes.chunk_by(|(a, _), (b, _)| a.listener == b.listener) {
            let Ok(at) = tables.binary_search_by(|table| table.key.cmp(&changes[0].0.listener)) else { continue };
            let last = &mut tables[at].hosts;
            let next = match steps.iter().find(|step| step.is_for(last, changes)) {
                Some(step) => Arc::clone(&step.next),
                None => {
                    let next = Arc::new(last.with(changes, &mut linker));
                    recompiled_hosts += changes.iter().filter(|(_, host)| host.is_some()).count();
                    steps.push(Step { last: Arc::clone(last), changes, next: Arc::clone(&next) });
                    next
                }
            };
            *last = next;
        }
        let settings = Arc::clone(&self.model.settings);
        let default_certificate =
            settings.default_certificate.as_ref().map(|reference| linker.certificates.cell(reference));
        let snapshot = Snapshot { generation: old.generation + 1, settings, listeners: tables, default_certificate };
        (snapshot, recompiled_hosts)
    }
}

fn backend(backends: &mut HashMap<BackendRef, Arc<Backend>>, reference: &BackendRef) -> Arc<Backend> {
    if let Some(known) = backends.get(reference) {
        return Arc::clone(known);
    }
    let new = Arc::new(Backend::new(reference.clone()));
    backends.insert(reference.clone(), Arc::clone(&new));
    new
}

fn names(model: &BackendModel) -> impl Iterator<Item = &str> {
    model.endpoints.iter().filter_map(|endpoint| match &endpoint.address {
        EndpointAddress::Name { name, .. } => Some(&**name),
        EndpointAddress::Socket(_) => None,
    })
}

// === impl Step ===

impl Step<'_> {
    fn is_for(&self, last: &Arc<HostTable>, changes: &[HostChange<'_>]) -> bool {
        let is_same = |((a, new_a), (b, new_b)): (&HostChange<'_>, &HostChange<'_>)| {
            a.host == b.host && new_a.as_ref().map(Arc::as_ptr) == new_b.as_ref().map(Arc::as_ptr)
        };
        Arc::ptr_eq(&self.last, last)
            && self.changes.len() == changes.len()
            && self.changes.iter().zip(changes).all(is_same)
    }
}

// === impl EndpointRegistry ===

impl EndpointRegistry {
    fn intern(&mut self, key: EndpointKey) -> Arc<Endpoint> {
        if let Some(known) = self.known.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        if self.wear.is_due(1, self.known.len()) {
            self.sweep();
        }
        let endpoint = Arc::new(Endpoint { key: key.clone(), slot: crate::slot::Slot::default() });
        self.known.insert(key, Arc::downgrade(&endpoint));
        endpoint
    }

    /// Gives back the memory of endpoints that nobody has.
    fn sweep(&mut self) {
        self.known.retain(|_, endpoint| endpoint.strong_count() > 0);
        self.known.shrink_to_fit();
    }
}
