//! Which endpoint of a backend takes a request.

use std::sync::Arc;

use routing::{Backend, Endpoint};

/// Picks the endpoint whose turn it is, but none that failed for this request before. `None` when there is none left.
#[must_use]
pub(crate) fn select(backend: &Backend, failed: &[Arc<Endpoint>]) -> Option<Arc<Endpoint>> {
    // Loaded anew for each attempt: a retry sees the newest endpoints.
    let state = backend.state();
    let endpoints = &state.endpoints;
    if endpoints.is_empty() {
        return None;
    }
    let turn = backend.next_turn() % endpoints.len();
    let (after, before) = (endpoints.get(turn..)?, endpoints.get(..turn)?);
    let is_new = |endpoint: &&Arc<Endpoint>| !failed.iter().any(|other| Arc::ptr_eq(other, endpoint));
    after.iter().chain(before).find(is_new).cloned()
}
