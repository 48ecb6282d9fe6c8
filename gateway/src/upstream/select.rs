//! Which endpoint of a backend takes a request. Nothing here locks, and nothing is allocated.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{Algorithm, Balance};
use routing::{Backend, BackendState, Endpoint};

use super::endpoint::{EndpointState, state};
use crate::clock;

/// The least share that slow start leaves an endpoint: without requests nobody would learn that it is there.
const LEAST_SHARE: f32 = 0.1;

/// What a choice depends on.
pub(crate) struct Choice<'a> {
    /// How to choose.
    pub(crate) balance: &'a Balance,
    /// The sum of the request's key, for consistent hashing.
    pub(crate) hash: u32,
    /// Endpoints that failed for this request before.
    pub(crate) failed: &'a [Arc<Endpoint>],
    /// The time of now.
    pub(crate) now: Duration,
}

/// Picks an endpoint, but none that failed for this request before. `None` when there is none left.
#[must_use]
pub(crate) fn select(backend: &Backend, choice: &Choice<'_>) -> Option<Arc<Endpoint>> {
    // Loaded anew for each attempt: a retry sees the newest endpoints.
    let state = backend.state();
    let endpoints = &state.endpoints;
    if endpoints.is_empty() {
        return None;
    }
    let found = match &choice.balance.algorithm {
        Algorithm::RoundRobin if choice.failed.is_empty() => choice.first(from(endpoints, backend.next_turn())),
        // A request has one turn, however often it is tried: else the next one would start where this one did.
        Algorithm::RoundRobin => choice.any(endpoints),
        Algorithm::Ewma => choice.better_of_two(endpoints, |state| {
            // Those that never answered are compared by their load alone, so that the first to answer gets no rush.
            let load = (state.n_requests() + 1) as f32;
            (state.latency.average().map(|average| average * load), load)
        }),
        Algorithm::LeastRequests => choice.better_of_two(endpoints, |state| (None, state.n_requests() as f32)),
        Algorithm::Hash { subset, .. } => choice.by_hash(&state, subset.map_or(1, std::num::NonZeroU32::get)),
    };
    found.cloned()
}

/// The endpoints that a request of the gateway's own tries, `limit` at most, in this order.
pub(crate) fn candidates(backend: &Backend, limit: usize) -> Vec<Arc<Endpoint>> {
    let (balance, mut found) = (Balance::default(), Vec::new());
    while found.len() < limit
        && let Some(endpoint) =
            select(backend, &Choice { balance: &balance, hash: 0, failed: &found, now: clock::now() })
    {
        found.push(endpoint);
    }
    found
}

/// All endpoints, from one of them on.
fn from(endpoints: &[Arc<Endpoint>], start: usize) -> impl Iterator<Item = &Arc<Endpoint>> + Clone {
    let (before, after) = endpoints.split_at(start % endpoints.len().max(1));
    after.iter().chain(before)
}

impl Choice<'_> {
    /// Any of them, without an order.
    pub(super) fn any<'e>(&self, endpoints: &'e [Arc<Endpoint>]) -> Option<&'e Arc<Endpoint>> {
        if endpoints.is_empty() { None } else { self.first(from(endpoints, fastrand::usize(..endpoints.len()))) }
    }

    /// The first that is well and past its slow start, as far as chance has it; else the first that is well; else, when
    /// nobody is well, the first.
    fn first<'e>(&self, mut order: impl Iterator<Item = &'e Arc<Endpoint>> + Clone) -> Option<&'e Arc<Endpoint>> {
        let mut usable = order.clone().filter(|endpoint| self.is_usable(endpoint));
        let admitted = usable.clone().find(|endpoint| self.admits(endpoint));
        admitted.or_else(|| usable.next()).or_else(|| order.find(|endpoint| self.is_new(endpoint)))
    }

    /// Of two at random the one that costs less: by the first number where both have it, else by the second.
    fn better_of_two<'e>(
        &self,
        endpoints: &'e [Arc<Endpoint>],
        cost: impl Fn(&EndpointState) -> (Option<f32>, f32),
    ) -> Option<&'e Arc<Endpoint>> {
        let one = self.any(endpoints)?;
        let others = from(endpoints, fastrand::usize(..endpoints.len())).filter(|other| !Arc::ptr_eq(other, one));
        let Some(other) = self.first(others) else { return Some(one) };
        let (first, second) = (cost(state(one)), cost(state(other)));
        let is_better = match (first.0, second.0) {
            (Some(first), Some(second)) => second < first,
            _ => second.1 < first.1,
        };
        Some(if is_better { other } else { one })
    }

    /// One of the first `n` endpoints that the key meets on the ring.
    fn by_hash<'e>(&self, state: &'e BackendState, n: u32) -> Option<&'e Arc<Endpoint>> {
        // The index is there since the rule was compiled.
        let members = state.index.as_ref().into_iter().flat_map(|index| index.ring.walk(self.hash));
        let mut walk = members.filter_map(|member| state.endpoints.get(member));
        let mut usable = walk.clone().filter(|endpoint| self.is_usable(endpoint));
        let n = usize::try_from(n).unwrap_or(usize::MAX).min(state.endpoints.len());
        if n <= 1 {
            return usable.next().or_else(|| walk.find(|endpoint| self.is_new(endpoint)));
        }
        let mut met: smallvec::SmallVec<[&Arc<Endpoint>; 8]> = smallvec::SmallVec::new();
        for endpoint in usable {
            if !met.iter().any(|other| Arc::ptr_eq(other, endpoint)) {
                met.push(endpoint);
            }
            if met.len() == n {
                break;
            }
        }
        fastrand::choice(met).or_else(|| walk.find(|endpoint| self.is_new(endpoint)))
    }

    pub(super) fn is_new(&self, endpoint: &Arc<Endpoint>) -> bool {
        !self.failed.iter().any(|other| Arc::ptr_eq(other, endpoint))
    }

    pub(super) fn is_usable(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.is_new(endpoint) && state(endpoint).is_available(self.now)
    }

    /// Whether active checks have nothing against the endpoint.
    pub(super) fn is_up(&self, endpoint: &Endpoint) -> bool {
        state(endpoint).is_up()
    }

    /// Whether slow start lets the endpoint take this one of its requests.
    fn admits(&self, endpoint: &Endpoint) -> bool {
        let Some(window) = self.balance.slow_start else { return true };
        let age = state(endpoint).age(self.now);
        age >= window || fastrand::f32() < (age.as_secs_f32() / window.as_secs_f32()).max(LEAST_SHARE)
    }
}
