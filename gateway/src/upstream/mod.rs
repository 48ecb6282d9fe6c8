//! The upstream side: which endpoint takes a request, and how to connect to it.

mod endpoint;
mod latency;
mod peer;
mod select;

pub(crate) use endpoint::InFlight;
pub(crate) use peer::{peer, protocol};
pub(crate) use select::{Choice, select};

use std::time::Duration;

use routing::Endpoint;

/// Notes how soon an endpoint answered.
pub(crate) fn observe_latency(endpoint: &Endpoint, sample: Duration, now: Duration) {
    endpoint::state(endpoint).latency.observe(sample, now);
}
