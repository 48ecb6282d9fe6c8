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
    /// The target as received, in origin form; `None` where it is the path and the query. Nothing is decided by it but
    /// which endpoint a key leads to.
    pub received: Option<&'a str>,
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

/// A target without the scheme and the authority that its absolute form begins with (RFC 9112 section 3.2.2): nginx's
/// `$request_uri`.
#[must_use]
pub fn origin_form(target: &str) -> &str {
    match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => {
            rest.find(['/', '?']).and_then(|start| rest.get(start..)).unwrap_or("/")
        }
        _ => target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nginx 1.22 has them.
    #[test]
    fn the_origin_form_begins_behind_the_authority() {
        for (target, expected) in [
            ("/a/../b", "/a/../b"),
            ("//x", "//x"),
            ("/x?to=http://h/y", "/x?to=http://h/y"),
            ("*", "*"),
            ("http://h/b?x", "/b?x"),
            ("http://h", "/"),
            ("http://h?x", "?x"),
            ("HTTP://u.test:80/a//b", "/a//b"),
        ] {
            assert_eq!(origin_form(target), expected, "{target}");
        }
    }
}
