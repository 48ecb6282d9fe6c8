//! Backends at run time: their endpoints change beside the snapshot, so that a pod that comes or goes recompiles
//! nothing and a retry sees the newest set.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::{ArcSwap, Guard};

use crate::index::EndpointIndex;
use crate::model::{
    AppProtocol, BackendKey, BackendModel, BackendRef, EndpointAddress, EndpointCondition, EndpointKey, HealthCheck,
};
use crate::session::{SessionKey, backend_key, upstream_name};
use crate::slot::Slot;

/// A backend that routes refer to. There is one for each reference, and it lives as long as one route refers to it.
pub struct Backend {
    reference: BackendRef,
    /// What ingress-nginx calls it.
    name: Box<str>,
    session_key: SessionKey,
    state: ArcSwap<BackendState>,
    cursor: AtomicUsize,
    /// Whether a rule looks for endpoints by a key.
    is_indexed: AtomicBool,
    /// Room for what the data plane keeps for the backend.
    pub slot: Slot,
}

/// What is known about a backend at one moment.
#[derive(Debug, Default)]
pub struct BackendState {
    /// Its identity; `None` when there is no such Service or no such port.
    pub key: Option<Arc<BackendKey>>,
    /// The protocol that the Service itself names.
    pub protocol: Option<AppProtocol>,
    /// The endpoints that take requests: the ready ones, or, when there are none, those that are on their way out and
    /// still answer (KEP-1669).
    pub endpoints: Box<[Arc<Endpoint>]>,
    /// How its endpoints are asked whether they are well.
    pub health_check: Option<Arc<HealthCheck>>,
    /// How endpoints are found by a key; `None` where no rule does so.
    pub index: Option<EndpointIndex>,
}

/// One address of a backend. It is the same object for as long as its key is known, so what is learnt about it stays.
#[derive(Debug)]
pub struct Endpoint {
    /// Its identity.
    pub key: EndpointKey,
    /// Room for what the data plane learns about the endpoint.
    pub slot: Slot,
}

/// The addresses of names (Service type `ExternalName`), as a resolver last saw them.
pub(crate) type Addresses = BTreeMap<Box<str>, Box<[IpAddr]>>;

// === impl Backend ===

impl Backend {
    pub(crate) fn new(reference: BackendRef) -> Self {
        let name = upstream_name(&reference);
        Self {
            reference,
            session_key: backend_key(&name),
            name: name.into(),
            state: ArcSwap::default(),
            cursor: AtomicUsize::new(0),
            is_indexed: AtomicBool::new(false),
            slot: Slot::default(),
        }
    }

    /// How routes name it.
    #[must_use]
    pub fn reference(&self) -> &BackendRef {
        &self.reference
    }

    /// What names it in session cookies.
    #[must_use]
    pub fn session_key(&self) -> &str {
        std::str::from_utf8(&self.session_key).unwrap_or_default()
    }

    /// What is known about it now. Hold it for one choice only.
    #[must_use]
    pub fn state(&self) -> Guard<Arc<BackendState>> {
        self.state.load()
    }

    /// A number that grows by one with each call, for round robin.
    #[must_use]
    pub fn next_turn(&self) -> usize {
        self.cursor.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes endpoints findable by a key from now on, for as long as the backend lives.
    pub(crate) fn require_index(&self) {
        if !self.is_indexed.swap(true, Ordering::Relaxed) {
            let BackendState { key, protocol, endpoints, health_check, index: _ } = &**self.state.load();
            self.set_state(BackendState {
                key: key.clone(),
                protocol: *protocol,
                endpoints: endpoints.clone(),
                health_check: health_check.clone(),
                index: None,
            });
        }
    }

    pub(crate) fn set_state(&self, mut state: BackendState) {
        // Only the publisher gets here, so nobody asks for the index in between.
        if self.is_indexed.load(Ordering::Relaxed) {
            let addresses = state.endpoints.iter().map(|endpoint| endpoint.key.address);
            state.index = Some(EndpointIndex::new(&self.name, addresses));
        }
        self.state.store(Arc::new(state));
    }
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Backend({})", self.reference)
    }
}

// === impl BackendState ===

impl BackendState {
    /// Makes the state of `model`, with endpoints out of `intern`.
    pub(crate) fn new(
        model: &BackendModel,
        addresses: &Addresses,
        mut intern: impl FnMut(EndpointKey) -> Arc<Endpoint>,
    ) -> Self {
        let BackendModel { key, protocol, health_check, endpoints } = model;
        let Some(key) = key else { return Self::default() };
        let usable = [EndpointCondition::Ready, EndpointCondition::Draining]
            .into_iter()
            .find(|condition| endpoints.iter().any(|endpoint| endpoint.condition == *condition));
        let mut interned = Vec::new();
        for endpoint in endpoints.iter().filter(|endpoint| Some(endpoint.condition) == usable) {
            let mut add = |address: SocketAddr| {
                let pod_uid = endpoint.pod_uid.clone();
                interned.push(intern(EndpointKey { backend: Arc::clone(key), address, pod_uid }));
            };
            match &endpoint.address {
                EndpointAddress::Socket(address) => add(*address),
                EndpointAddress::Name { name, port } => {
                    let found = addresses.get(name).map(|found| &**found).unwrap_or_default();
                    found.iter().for_each(|address| add(SocketAddr::new(*address, *port)));
                }
            }
        }
        Self {
            key: Some(Arc::clone(key)),
            protocol: *protocol,
            endpoints: interned.into(),
            health_check: health_check.clone(),
            index: None,
        }
    }
}
