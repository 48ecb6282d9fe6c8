//! What happens when an attempt at an endpoint fails.

use serde::Serialize;

/// What happens when an attempt fails before the upstream has seen the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Retries {
    /// How many endpoints are tried, the first included.
    pub tries: u32,
}

impl Default for Retries {
    /// `proxy-next-upstream-tries` of ingress-nginx.
    fn default() -> Self {
        Self { tries: 3 }
    }
}
