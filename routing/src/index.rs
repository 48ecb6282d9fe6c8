//! How the endpoints of a backend are found by a key of the request: prepared with each set of endpoints, for backends of
//! which a rule wants it.

use std::net::SocketAddr;

use crate::ring::HashRing;
use crate::session::{SessionKey, endpoint_key};

/// How endpoints are found by a key. They are told by their places in the set.
#[derive(Debug)]
pub struct EndpointIndex {
    /// By the sum of any key.
    pub ring: HashRing,
    /// By the key that a session cookie names.
    session_keys: Box<[SessionKey]>,
}

impl EndpointIndex {
    /// Prepares a set of endpoints of the backend with this name.
    pub(crate) fn new(name: &str, endpoints: impl Iterator<Item = SocketAddr> + Clone) -> Self {
        let session_keys = endpoints.clone().map(|address| endpoint_key(name, address)).collect();
        Self { ring: HashRing::new(endpoints), session_keys }
    }

    /// The endpoint with this key.
    #[must_use]
    pub fn endpoint_of(&self, key: &str) -> Option<usize> {
        self.session_keys.iter().position(|known| known == key.as_bytes())
    }

    /// The key of an endpoint.
    #[must_use]
    pub fn key_of(&self, endpoint: usize) -> Option<&str> {
        self.session_keys.get(endpoint).and_then(|key| std::str::from_utf8(key).ok())
    }
}
