//! What a decision may look at: borrowed views of one request and of the connection that it came on.

use std::net::IpAddr;

use http::{HeaderMap, Method};
use serde::Serialize;

use crate::model::ListenerKey;

/// The scheme that the client used, as far as the gateway believes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain text.
    Http,
    /// TLS, terminated here or in front of a trusted proxy.
    Https,
}

/// One request, after the strict request gate.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The method; compared with case (RFC 9110 section 9.1).
    pub method: &'a Method,
    /// The authority as received: `host[:port]`; empty when an HTTP/1.0 request names none.
    pub authority: &'a str,
    /// The normalised path, see [`normalize_path`](crate::normalize_path).
    pub path: &'a str,
    /// What follows the `?`, as received; empty when there is none.
    pub query: &'a str,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// A random number, for the choice between weighted backends: randomness is an argument here.
    pub entropy: u32,
}

/// The connection that a request came on.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionView<'a> {
    /// The listener that accepted it.
    pub listener: &'a ListenerKey,
    /// The scheme of the client.
    pub scheme: Scheme,
    /// The address of the client, behind trusted proxies if there are any.
    pub client: IpAddr,
    /// The host that the TLS client asked for (RFC 6066 section 3).
    pub server_name: Option<&'a str>,
}

impl Scheme {
    /// The scheme as it stands in a URI.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}
