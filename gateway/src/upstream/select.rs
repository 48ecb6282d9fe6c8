//! Which endpoint of a backend takes a request. Nothing here locks, and nothing is allocated.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{Algorithm, Balance};
use routing::{Backend, BackendState, Endpoint};

use super::endpoint::{EndpointState, state};

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
        Algorithm::RoundRobin => choice.first(from(endpoints, backend.next_turn())),
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

/// All endpoints, from one of them on.
fn from(endpoints: &[Arc<Endpoint>], start: usize) -> impl Iterator<Item = &Arc<Endpoint>> + Clone {
    let (before, after) = endpoints.split_at(start % endpoints.len().max(1));
    after.iter().chain(before)
}

impl Choice<'_> {
    /// The first that may take the request and is past its slow start, as far as chance has it; else the first that may.
    fn first<'e>(&self, mut order: impl Iterator<Item = &'e Arc<Endpoint>> + Clone) -> Option<&'e Arc<Endpoint>> {
        let admitted = order.clone().find(|endpoint| self.is_new(endpoint) && self.admits(endpoint));
        admitted.or_else(|| order.find(|endpoint| self.is_new(endpoint)))
    }

    /// Of two at random the one that costs less: by the first number where both have it, else by the second.
    fn better_of_two<'e>(
        &self,
        endpoints: &'e [Arc<Endpoint>],
        cost: impl Fn(&EndpointState) -> (Option<f32>, f32),
    ) -> Option<&'e Arc<Endpoint>> {
        let one = self.first(from(endpoints, fastrand::usize(..endpoints.len())))?;
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
        // The ring is there since the rule was compiled.
        let walk = || {
            let members = state.ring.as_ref().into_iter().flat_map(|ring| ring.walk(self.hash));
            members.filter_map(|member| state.endpoints.get(member)).filter(|endpoint| self.is_new(endpoint))
        };
        let n = usize::try_from(n).unwrap_or(usize::MAX).min(state.endpoints.len());
        if n <= 1 {
            return walk().next();
        }
        let mut met: smallvec::SmallVec<[&Arc<Endpoint>; 8]> = smallvec::SmallVec::new();
        for endpoint in walk() {
            if !met.iter().any(|other| Arc::ptr_eq(other, endpoint)) {
                met.push(endpoint);
            }
            if met.len() == n {
                break;
            }
        }
        fastrand::choice(met)
    }

    fn is_new(&self, endpoint: &Arc<Endpoint>) -> bool {
        !self.failed.iter().any(|other| Arc::ptr_eq(other, endpoint))
    }

    /// Whether slow start lets the endpoint take this one of its requests.
    fn admits(&self, endpoint: &Endpoint) -> bool {
        let Some(window) = self.balance.slow_start else { return true };
        let age = state(endpoint).age(self.now);
        age >= window || fastrand::f32() < (age.as_secs_f32() / window.as_secs_f32()).max(LEAST_SHARE)
    }
}
