//! How ingress-nginx names endpoints and backends in session cookies: `<endpoint key>|<backend key>`.
//!
//! The keys are MD5 sums as it makes them, so that a cookie which it has set is understood. They hide addresses; nothing
//! depends on their being hard to forge: a client may ask for any endpoint of the backend.

use std::net::SocketAddr;

use http::HeaderMap;
use md5::{Digest, Md5};

use crate::cookie::cookies;
use crate::model::BackendRef;

/// A key in hexadecimal digits.
pub(crate) type SessionKey = [u8; 32];

/// What a request says of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionCookie<'h> {
    /// The key of the endpoint, or what is hashed to find it.
    pub endpoint: &'h str,
    /// The key of the backend; `None` in cookies of old versions.
    pub backend: Option<&'h str>,
}

impl<'h> SessionCookie<'h> {
    /// Reads the cookie of this name; of several the last one, as ingress-nginx does.
    #[must_use]
    pub fn read(headers: &'h HeaderMap, name: &str) -> Option<Self> {
        let (_, value) = cookies(headers).filter(|(other, _)| *other == name).last()?;
        let mut parts = value.split('|');
        let endpoint = parts.next().filter(|endpoint| !endpoint.is_empty())?;
        Some(Self { endpoint, backend: parts.next() })
    }
}

/// What ingress-nginx calls a backend.
pub(crate) fn upstream_name(backend: &BackendRef) -> String {
    format!("{}-{}-{}", backend.namespace, backend.service, backend.port)
}

/// The key of a backend: the sum of the sum of its name and its name.
pub(crate) fn backend_key(name: &str) -> SessionKey {
    let inner = digits(name.as_bytes());
    digits(&[&inner[..], name.as_bytes()].concat())
}

/// The key of an endpoint of a backend with this name.
pub(crate) fn endpoint_key(name: &str, address: SocketAddr) -> SessionKey {
    digits(format!("{name}{address}").as_bytes())
}

fn digits(text: &[u8]) -> SessionKey {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let sum = Md5::digest(text);
    let mut digits = sum.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    std::array::from_fn(|_| DIGITS[usize::from(digits.next().unwrap_or_default())])
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::model::PortRef;

    #[test]
    fn keys_are_those_of_ingress_nginx() {
        // By md5sum: of "default-web-80" and what follows from it, and of "default-web-8010.0.0.1:8080".
        let reference = BackendRef { namespace: "default".into(), service: "web".into(), port: PortRef::Number(80) };
        let name = upstream_name(&reference);
        assert_eq!(name, "default-web-80");
        assert_eq!(std::str::from_utf8(&backend_key(&name)), Ok("6cde5721ec2c7e2bce07cff7d0e4ac37"));
        let key = endpoint_key(&name, ([10, 0, 0, 1], 8080).into());
        assert_eq!(std::str::from_utf8(&key), Ok("0aa3b49d3795ad62718deaa56ec75fae"));
        let named = BackendRef { port: PortRef::Name("http".into()), ..reference };
        assert_eq!(upstream_name(&named), "default-web-http");
    }

    #[test]
    fn a_session_cookie_has_two_parts() {
        let mut headers = HeaderMap::new();
        let mut read = |line: &'static str| {
            headers.insert("cookie", HeaderValue::from_static(line));
            SessionCookie::read(&headers, "route")
                .map(|cookie| (cookie.endpoint.to_owned(), cookie.backend.map(str::to_owned)))
        };
        let pair = |endpoint: &str, backend: Option<&str>| Some((endpoint.to_owned(), backend.map(str::to_owned)));
        assert_eq!(read("route=a|b"), pair("a", Some("b")));
        assert_eq!(read("x=1; route=1700000000.1.77.5"), pair("1700000000.1.77.5", None));
        assert_eq!(read("route=old|b; route=new|b"), pair("new", Some("b")));
        assert_eq!(read("ROUTE=a|b"), None, "the name is compared with case");
        assert_eq!(read("route="), None);
    }
}
