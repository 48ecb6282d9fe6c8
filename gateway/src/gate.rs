//! The strict request gate: what is ambiguous is refused before anything looks at it, and what passes has one meaning.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, Version, header};
use pingora::http::RequestHeader;
use routing::{Settings, normalize_path};

use crate::failure::Failure;
use crate::head;
use crate::hop::nominated;

/// The longest authority that is looked at: a host of DNS, a colon and a port.
const MAX_AUTHORITY: usize = 253 + 1 + 5;
/// Fields that `Connection` cannot name, in Pingora's eyes.
const FOREIGN_NOMINATIONS: &[&[u8]] = &[b"host", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"];

/// Checks a request and gives it its one form: the path is normalised, headers that could be mistaken for others are
/// dropped. What is matched later is what is forwarded. Returns the target as it was received, where it is another now.
// Profiles tell by its name what the gate costs.
#[inline(never)]
pub(crate) fn admit(request: &mut RequestHeader, settings: &Settings) -> Result<Option<Arc<str>>, Failure> {
    head::check(request, &settings.head)?;
    if request.method == Method::TRACE || request.method == Method::CONNECT {
        return Err(Failure::MethodNotAllowed);
    }
    check_authority(request)?;
    check_length(request)?;
    drop_ambiguous_headers(request, settings);
    drop_unasked_upgrade(request);
    drop_foreign_nominations(request)?;
    join_cookies(request)?;
    normalize_target(request)
}

/// The authority that a request is for; empty when an HTTP/1.0 request names none.
#[must_use]
pub(crate) fn authority(request: &RequestHeader) -> &str {
    // Pingora has refused requests whose Host and :authority (or absolute-form target) differ.
    match request.uri.authority() {
        Some(authority) => authority.as_str(),
        None => request.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
    }
}

/// RFC 9112 section 3.2: exactly one Host, which HTTP/1.0 may leave out, of the form `uri-host [ ":" port ]`.
fn check_authority(request: &RequestHeader) -> Result<(), Failure> {
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Failure::RequestMalformed);
    }
    if let Some(host) = host
        && !is_authority(host.as_bytes())
    {
        return Err(Failure::RequestMalformed);
    }
    match request.uri.authority() {
        Some(authority) if is_authority(authority.as_str().as_bytes()) => Ok(()),
        Some(_) => Err(Failure::RequestMalformed),
        None if host.is_none() && request.version != Version::HTTP_10 => Err(Failure::RequestMalformed),
        None => Ok(()),
    }
}

/// RFC 9110 section 8.6: a body has one length. HTTP/1 does not get here without, but the frames of HTTP/2 say it anyway,
/// so that nobody has looked.
fn check_length(request: &RequestHeader) -> Result<(), Failure> {
    let is_repeated = request.headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some();
    if is_repeated { Err(Failure::RequestMalformed) } else { Ok(()) }
}

/// Whether the bytes are a host, with or without a port. An empty host is legal (RFC 9110 section 7.2).
pub(crate) fn is_authority(bytes: &[u8]) -> bool {
    if bytes.len() > MAX_AUTHORITY {
        return false;
    }
    let (host, rest) = match bytes.first() {
        Some(b'[') => match bytes.iter().position(|byte| *byte == b']') {
            Some(end) => bytes.split_at(end + 1),
            None => return false,
        },
        _ => bytes.split_at(bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len())),
    };
    let is_host = match host {
        [b'[', inner @ .., b']'] => {
            !inner.is_empty() && inner.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
        }
        name => name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~')),
    };
    let is_port = match rest {
        [] => true,
        [b':', digits @ ..] => {
            digits.iter().all(u8::is_ascii_digit)
                && std::str::from_utf8(digits).is_ok_and(|port| port.is_empty() || port.parse::<u16>().is_ok())
        }
        _ => false,
    };
    is_host && is_port
}

/// Puts the normalised path in place of the received one, and returns that where they differ.
fn normalize_target(request: &mut RequestHeader) -> Result<Option<Arc<str>>, Failure> {
    if request.method == Method::OPTIONS && request.raw_path() == b"*" {
        return Ok(None);
    }
    if !request.raw_path_is_utf8() {
        return Err(Failure::RequestMalformed);
    }
    let path = request.uri.path();
    let normalized = normalize_path(path).map_err(|_| Failure::RequestMalformed)?;
    let is_origin_form = request.raw_path().first() == Some(&b'/');
    if is_origin_form && *normalized == *path {
        return Ok(None);
    }
    let mut target = normalized.into_owned();
    if let Some(query) = request.uri.query() {
        target.push('?');
        target.push_str(query);
    }
    // The absolute form of a target becomes the origin form, for which the authority has to be in Host. There it is with
    // HTTP/1, and Pingora compared them; HTTP/2 has it in the target alone.
    if let Some(authority) = request.uri.authority().cloned() {
        replace(request, header::HOST, authority.as_str().as_bytes())?;
    }
    let received = str::from_utf8(request.raw_path()).map_err(|_| Failure::RequestMalformed)?.into();
    request.set_raw_path(target.as_bytes()).map_err(|_| Failure::RequestMalformed)?;
    Ok(Some(received))
}

/// Drops headers whose names nginx takes for invalid: those with an underscore, because behind a CGI-like interface
/// `X_Real_IP` and `X-Real-IP` are the same variable, and those with other characters than letters, digits and dashes.
fn drop_ambiguous_headers(request: &mut RequestHeader, settings: &Settings) {
    if !settings.ignore_invalid_headers {
        return;
    }
    let is_valid =
        |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || (byte == b'_' && settings.underscores_in_headers);
    let is_ambiguous = |name: &HeaderName| !name.as_str().bytes().all(is_valid);
    if !request.headers.keys().any(is_ambiguous) {
        return;
    }
    let names: Vec<_> = request.headers.keys().filter(|name| is_ambiguous(name)).cloned().collect();
    for name in &names {
        request.remove_header(name);
    }
}

/// RFC 9110 section 7.8: who wants to switch protocols says so in `Connection` too, and speaks HTTP/1.1.
fn drop_unasked_upgrade(request: &mut RequestHeader) {
    let is_asked = request.version == Version::HTTP_11
        && nominated(&request.headers).any(|name| name.eq_ignore_ascii_case(b"upgrade"));
    if !is_asked {
        request.remove_header(&header::UPGRADE);
    }
}

/// Forgets fields that a client names in `Connection` although they are not of its hop (RFC 9110 section 7.6.1): they are
/// set anew on the way. Pingora drops the other ones with the header itself, and would refuse the request for these.
fn drop_foreign_nominations(request: &mut RequestHeader) -> Result<(), Failure> {
    let is_foreign = |name: &[u8]| FOREIGN_NOMINATIONS.iter().any(|foreign| name.eq_ignore_ascii_case(foreign));
    if !nominated(&request.headers).any(is_foreign) {
        return Ok(());
    }
    let kept: Vec<&[u8]> = nominated(&request.headers).filter(|name| !is_foreign(name)).collect();
    let kept = kept.join(&b", "[..]);
    replace(request, header::CONNECTION, &kept)
}

/// Makes one field of the pieces in which HTTP/2 may send a cookie (RFC 9113 section 8.2.3).
fn join_cookies(request: &mut RequestHeader) -> Result<(), Failure> {
    let cookies = request.headers.get_all(header::COOKIE);
    if cookies.iter().nth(1).is_none() {
        return Ok(());
    }
    let pieces: Vec<&[u8]> = cookies.iter().map(HeaderValue::as_bytes).collect();
    let joined = pieces.join(&b"; "[..]);
    replace(request, header::COOKIE, &joined)
}

fn replace(request: &mut RequestHeader, name: HeaderName, value: &[u8]) -> Result<(), Failure> {
    request.insert_header(name, value).map_err(|_| Failure::RequestMalformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, target: &str, headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build(method, target.as_bytes(), None).unwrap();
        request.set_version(Version::HTTP_11);
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    #[test]
    fn a_normalised_request_of_http2_is_for_the_same_authority() {
        let mut request = request("GET", "/", &[]);
        request.set_version(Version::HTTP_2);
        request.set_uri("https://a.example:8443/%41/../b?c".parse().unwrap());
        let received = admit(&mut request, &Settings::default()).unwrap();
        assert!(received.is_some());
        assert_eq!((request.raw_path(), authority(&request)), (&b"/b?c"[..], "a.example:8443"));
    }

    #[test]
    fn the_host_of_a_request_is_one_host_with_or_without_a_port() {
        for host in ["a", "a.b:80", "a_b.c", "[::1]:8080", "[::1]", "a:", "", "A.", "192.0.2.1:1"] {
            assert_eq!(admit(&mut request("GET", "/", &[("Host", host)]), &Settings::default()), Ok(None), "{host}");
        }
        let long = "a".repeat(300);
        for host in ["a, b", "u@a", "a/x", "a b", "a:99999", "a:b", "[::1", "[]", "[a]x", "a:80:80", long.as_str()] {
            let refused = admit(&mut request("GET", "/", &[("Host", host)]), &Settings::default());
            assert_eq!(refused, Err(Failure::RequestMalformed), "{host}");
        }
        assert!(admit(&mut request("GET", "/", &[]), &Settings::default()).is_err());
        assert!(admit(&mut request("GET", "/", &[("Host", "a"), ("Host", "a")]), &Settings::default()).is_err());
        let mut old = request("GET", "/", &[]);
        old.set_version(Version::HTTP_10);
        assert_eq!(admit(&mut old, &Settings::default()), Ok(None));
        assert_eq!(authority(&old), "");
    }

    #[test]
    fn a_body_has_one_length() {
        let with_lengths = |lengths: &[&str]| {
            let lengths = lengths.iter().map(|length| ("Content-Length", *length));
            let headers: Vec<_> = [("Host", "a")].into_iter().chain(lengths).collect();
            admit(&mut request("POST", "/", &headers), &Settings::default())
        };
        assert_eq!(with_lengths(&["4"]), Ok(None));
        assert_eq!(with_lengths(&["4", "4"]), Err(Failure::RequestMalformed));
    }

    #[test]
    fn the_path_that_is_matched_is_the_path_that_is_forwarded() {
        for (target, forwarded) in [
            ("/a/../b?x=/../y", "/b?x=/../y"),
            ("/%61", "/a"),
            ("/a%2Fb", "/a%2Fb"),
            ("http://a/x/./y?q", "/x/y?q"),
            ("*", "*"),
        ] {
            let method = if target == "*" { "OPTIONS" } else { "GET" };
            let mut request = request(method, target, &[("Host", "a")]);
            let received = (target != forwarded).then(|| target.into());
            assert_eq!(admit(&mut request, &Settings::default()), Ok(received), "{target}");
            assert_eq!(request.raw_path(), forwarded.as_bytes(), "{target}");
        }
        for target in ["/a%00", "/a%5cb", "/pub/..;/admin", "*"] {
            assert!(admit(&mut request("GET", target, &[("Host", "a")]), &Settings::default()).is_err(), "{target}");
        }
    }

    #[test]
    fn headers_with_an_underscore_and_tunnels_do_not_pass() {
        let mut with_underscore = request("GET", "/", &[("Host", "a"), ("X_Real_IP", "1"), ("X-Y", "2")]);
        assert_eq!(admit(&mut with_underscore, &Settings::default()), Ok(None));
        assert!(!with_underscore.headers.contains_key("x_real_ip"));
        assert!(with_underscore.headers.contains_key("x-y"));
        for method in ["TRACE", "CONNECT"] {
            assert_eq!(
                admit(&mut request(method, "/", &[("Host", "a")]), &Settings::default()),
                Err(Failure::MethodNotAllowed)
            );
        }
    }
    #[test]
    fn a_client_names_fields_of_its_own_hop_only() {
        for (named, kept) in [
            ("close", "close"),
            ("close, X-Forwarded-For,x-hop", "close, x-hop"),
            ("Upgrade,host", "Upgrade"),
            ("X-Forwarded-Proto", ""),
        ] {
            let mut request = request("GET", "/", &[("Host", "a"), ("Connection", named)]);
            assert_eq!(admit(&mut request, &Settings::default()), Ok(None), "{named}");
            assert_eq!(request.headers["connection"], kept);
        }
    }

    #[test]
    fn pieces_of_a_cookie_become_one_field() {
        let mut request = request("GET", "/", &[("Host", "a"), ("Cookie", "a=1"), ("Cookie", "b=2")]);
        assert_eq!(admit(&mut request, &Settings::default()), Ok(None));
        let cookies: Vec<_> = request.headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2"]);
    }
    #[test]
    fn an_upgrade_is_asked_for_in_full() {
        for (version, connection, is_kept) in [
            (Version::HTTP_11, "keep-alive, Upgrade", true),
            (Version::HTTP_11, "keep-alive", false),
            (Version::HTTP_10, "Upgrade", false),
        ] {
            let mut request =
                request("GET", "/", &[("Host", "a"), ("Connection", connection), ("Upgrade", "websocket")]);
            request.set_version(version);
            assert_eq!(admit(&mut request, &Settings::default()), Ok(None));
            assert_eq!(request.headers.contains_key("upgrade"), is_kept, "{version:?} {connection}");
        }
    }
}
