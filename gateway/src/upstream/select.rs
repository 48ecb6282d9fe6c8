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

#[cfg(test)]
mod tests {
    use routing::Slot;
    use routing::model::{BackendKey, EndpointKey};

    use super::*;

    const WINDOW: Duration = Duration::from_secs(100);
    const START: Duration = Duration::from_secs(1000);
    const N_REQUESTS: usize = 30_000;

    /// An endpoint that was first seen at a time.
    fn endpoint(port: u16, since: Duration) -> Arc<Endpoint> {
        let backend = BackendKey { namespace: "ns".into(), service: "a".into(), uid: "u".into(), port: 80 };
        let address = ([10, 0, 0, 1], port).into();
        let key = EndpointKey { backend: Arc::new(backend), address, pod_uid: "p".into() };
        let endpoint = Arc::new(Endpoint { key, slot: Slot::default() });
        endpoint.slot.get_or_init(|| EndpointState::new(since)).unwrap();
        endpoint
    }

    /// Two endpoints that have long been there, and one that is new at [`START`].
    fn with_newcomer() -> [Arc<Endpoint>; 3] {
        [endpoint(1, Duration::ZERO), endpoint(2, Duration::ZERO), endpoint(3, START)]
    }

    fn slowly() -> Balance {
        Balance { slow_start: Some(WINDOW), ..Balance::default() }
    }

    /// The share of the requests that the last endpoint gets when they take turns, at a time after [`START`].
    fn share_by_turns(endpoints: &[Arc<Endpoint>], balance: &Balance, after: Duration) -> f64 {
        share(endpoints, balance, after, |choice, turn| choice.first(from(endpoints, turn)))
    }

    /// The same when the one of two with fewer requests gets them.
    fn share_of_two(endpoints: &[Arc<Endpoint>], balance: &Balance, after: Duration) -> f64 {
        let n_requests = |state: &EndpointState| (None, state.n_requests() as f32);
        share(endpoints, balance, after, |choice, _| choice.better_of_two(endpoints, n_requests))
    }

    fn share<'e>(
        endpoints: &'e [Arc<Endpoint>],
        balance: &Balance,
        after: Duration,
        pick: impl Fn(&Choice<'_>, usize) -> Option<&'e Arc<Endpoint>>,
    ) -> f64 {
        // Chance is the same in every run.
        fastrand::seed(7);
        let choice = Choice { balance, hash: 0, failed: &[], now: START + after };
        let last = endpoints.last().unwrap();
        let n_last = (0..N_REQUESTS).filter(|turn| Arc::ptr_eq(pick(&choice, *turn).unwrap(), last)).count();
        n_last as f64 / N_REQUESTS as f64
    }

    #[test]
    fn a_new_endpoint_gets_a_share_that_grows_to_a_whole_one() {
        let endpoints = with_newcomer();
        for (percent, expected) in [(0, 0.1), (5, 0.1), (25, 0.25), (50, 0.5), (75, 0.75), (100, 1.0), (500, 1.0)] {
            let share = share_by_turns(&endpoints, &slowly(), WINDOW * percent / 100);
            assert!((share - expected / 3.0).abs() < 0.01, "after {percent} % of its time it gets {share}");
        }
    }

    #[test]
    fn whatever_chooses_leaves_a_new_endpoint_time() {
        let endpoints = with_newcomer();
        let shares = [0, 40, 70, 100].map(|percent| share_of_two(&endpoints, &slowly(), WINDOW * percent / 100));
        assert!(shares.is_sorted_by(|one, next| next - one > 0.03), "{shares:?}");
        assert!((shares[3] - 1.0 / 3.0).abs() < 0.02, "{shares:?}");
    }

    #[test]
    fn an_endpoint_that_is_back_starts_slowly_again() {
        let down = with_newcomer();
        state(&down[2]).set_up(false, START + 2 * WINDOW);
        state(&down[2]).set_up(true, START + 3 * WINDOW);
        let ejected = with_newcomer();
        state(&ejected[2]).outlier.eject(START + 3 * WINDOW - Duration::from_secs(10)).unwrap();
        let away = share_by_turns(&ejected, &Balance::default(), 3 * WINDOW - Duration::from_secs(1));
        assert!(away.abs() < f64::EPSILON, "ejected, it gets nothing: {away}");
        for (what, endpoints) in [("found up again", down), ("back from its ejection", ejected)] {
            let back = share_by_turns(&endpoints, &slowly(), 3 * WINDOW);
            assert!((back - 0.1 / 3.0).abs() < 0.01, "{what}: {back}");
            let later = share_by_turns(&endpoints, &slowly(), 4 * WINDOW);
            assert!((later - 1.0 / 3.0).abs() < 0.01, "{what}: {later}");
        }
    }

    #[test]
    fn without_slow_start_a_new_endpoint_has_a_whole_share_at_once() {
        let share = share_by_turns(&with_newcomer(), &Balance::default(), Duration::ZERO);
        assert!((share - 1.0 / 3.0).abs() < 0.01, "{share}");
    }

    #[test]
    fn where_all_are_new_nobody_is_turned_away() {
        let endpoints = [endpoint(1, START), endpoint(2, START), endpoint(3, START)];
        let share = share_by_turns(&endpoints, &slowly(), Duration::ZERO);
        assert!((share - 1.0 / 3.0).abs() < 0.02, "{share}");
    }
}
