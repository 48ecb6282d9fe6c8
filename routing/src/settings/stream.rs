//! Settings of what is neither HTTP nor TLS of ours.

use std::time::Duration;

use serde::Serialize;

use super::whole_seconds;

/// How streams of TCP and sessions of UDP are passed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamSettings {
    /// `proxy-stream-timeout`: how long nothing may pass in either direction.
    #[serde(serialize_with = "whole_seconds")]
    pub timeout: Duration,
    /// `proxy-connect-timeout`: for a connection to an endpoint.
    #[serde(serialize_with = "whole_seconds")]
    pub connect_timeout: Duration,
    /// `proxy-stream-next-upstream`: tries another endpoint where one cannot be connected to.
    pub next_upstream: bool,
    /// `proxy-stream-next-upstream-timeout`: no further endpoint is tried after this time; `None` for no limit.
    pub next_upstream_timeout: Option<Duration>,
    /// `proxy-stream-next-upstream-tries`: endpoints that are tried at most; 0 for no limit.
    pub next_upstream_tries: u32,
    /// `penstock-passive-ejection`: endpoints that cannot be reached are left out for a while.
    pub ejects: bool,
    /// `proxy-stream-responses`: datagrams that answer one of a client: a session ends with the last.
    pub responses: u32,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(600),
            connect_timeout: Duration::from_secs(5),
            next_upstream: true,
            next_upstream_timeout: Some(Duration::from_secs(600)),
            next_upstream_tries: 3,
            ejects: true,
            responses: 1,
        }
    }
}
