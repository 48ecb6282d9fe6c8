//! Values of flags: durations, objects, services.

use std::net::SocketAddr;
use std::time::Duration;

use routing::model::PortRef;
use translate::ServiceRef;

/// `10s`, `1m30s`, `500ms`, or a number of seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let parsed = text.parse::<jiff::SignedDuration>().map_err(|error| error.to_string())?;
    Duration::try_from(parsed).map_err(|_| "a duration cannot be negative".to_owned())
}

/// How long a lease holds: whole seconds, as the API has them, and long enough to be renewed in time.
pub(crate) fn election_ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration(text)?;
    if ttl < Duration::from_secs(3) { Err("a lease must hold for 3 s at least".to_owned()) } else { Ok(ttl) }
}

/// `address:port`, or `:port` for all addresses, as Go has it.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let whole = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    whole.parse().map_err(|_| "expected address:port, or :port".to_owned())
}

/// `namespace/name`.
pub(crate) fn object(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("expected namespace/name".to_owned()),
    }
}

/// `namespace/name`, with `:port` for another than the first port.
pub(crate) fn service(text: &str) -> Result<ServiceRef, String> {
    let (object_text, port) = match text.rsplit_once(':') {
        Some((object, port)) => (object, Some(port)),
        None => (text, None),
    };
    let (namespace, name) = object(object_text)?;
    let port = port.map(|port| match port.parse::<u16>() {
        Ok(number) => PortRef::Number(number),
        Err(_) => PortRef::Name(port.into()),
    });
    Ok(ServiceRef { namespace, name, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_and_without_a_unit() {
        for (text, millis) in [("10", 10_000), ("10s", 10_000), ("1m30s", 90_000), ("500ms", 500), ("0", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "-1s", "fast", "10 lightyears"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_alone_is_that_of_all_addresses() {
        assert_eq!(listen_address(":8443"), listen_address("0.0.0.0:8443"));
        assert_eq!(listen_address("127.0.0.1:8443"), Ok("127.0.0.1:8443".parse().unwrap()));
        for text in ["", "8443", ":", ":a", "localhost:8443"] {
            assert!(listen_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn objects_are_named_with_their_namespace() {
        assert_eq!(object("a/b"), Ok(("a".to_owned(), "b".to_owned())));
        for text in ["a", "/b", "a/", "a/b/c"] {
            assert!(object(text).is_err(), "{text}");
        }
        assert_eq!(service("a/b:http").unwrap().port, Some(PortRef::Name("http".into())));
        assert_eq!(service("a/b").unwrap().port, None);
    }
}
