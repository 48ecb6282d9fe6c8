//! The upstream side: which endpoint takes a request, and how to connect to it.

mod budget;
mod endpoint;
mod latency;
mod memory;
mod outlier;
mod peer;
mod select;
mod session;
mod trust;
mod tunnel;

pub(crate) use endpoint::InFlight;
pub use memory::{EndpointNews, export_endpoints, import_endpoints};
pub(crate) use peer::{Protocol, peer, protocol};
pub(crate) use select::{Choice, candidates, select};
pub(crate) use session::{Seat, SetCookie, seat};
pub(crate) use trust::prepare as prepare_trust;
pub(crate) use tunnel::prepare as prepare_tunnel;

use std::time::Duration;

use routing::{Backend, Endpoint};

use crate::clock;

/// The group of connections that lead to no endpoint.
pub(crate) const NO_GROUP: u64 = 0;

/// The group of an endpoint, which none of its connections leaves.
pub(crate) fn group(endpoint: &Endpoint) -> u64 {
    endpoint::state(endpoint).number
}

/// Pays into the retry budget of a backend, once for each request.
pub(crate) fn pay_in(backend: &Backend) {
    budget::budget(backend).pay_in();
}

/// Takes one retry out of the budget, if there is as much.
pub(crate) fn take_retry(backend: &Backend, now: Duration) -> bool {
    budget::budget(backend).take(now)
}

/// Notes that an endpoint did what it should.
pub(crate) fn succeed(endpoint: &Endpoint, now: Duration) {
    endpoint::state(endpoint).outlier.succeed(now);
}

/// Whether an endpoint has not failed since it last did what it should.
pub(crate) fn is_well(endpoint: &Endpoint) -> bool {
    endpoint::state(endpoint).outlier.is_well()
}

/// Notes that an endpoint failed. Returns until when it is ejected, if this was one failure too many.
pub(crate) fn fail(backend: &Backend, endpoint: &Endpoint, now: Duration) -> Option<Duration> {
    let outlier = &endpoint::state(endpoint).outlier;
    if !outlier.fail() {
        return None;
    }
    let state = backend.state();
    let n_ejected = state.endpoints.iter().filter(|other| endpoint::state(other).outlier.is_ejected(now)).count();
    if outlier::may_eject(n_ejected, state.endpoints.len()) { outlier.eject(now) } else { None }
}

/// Notes what active checks found.
pub(crate) fn set_up(endpoint: &Endpoint, is_up: bool) {
    endpoint::state(endpoint).set_up(is_up, clock::now());
}

/// Whether active checks have nothing against an endpoint.
pub(crate) fn is_up(endpoint: &Endpoint) -> bool {
    endpoint::state(endpoint).is_up()
}

/// Notes how soon an endpoint answered.
pub(crate) fn observe_latency(endpoint: &Endpoint, sample: Duration, now: Duration) {
    endpoint::state(endpoint).latency.observe(sample, now);
}
