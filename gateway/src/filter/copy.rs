//! A client's request as the gateway sends it on by itself: without a body, and without what belongs to its connection.

use http::{HeaderName, HeaderValue, Method, header};
use pingora::http::RequestHeader;

/// Headers of the client's connection, and of a body that is not sent along.
const OF_THE_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// A request with the headers of a client, but for its host.
pub(crate) fn copy_request(received: &RequestHeader, method: Method, target: &str) -> pingora::Result<RequestHeader> {
    let mut request = RequestHeader::build(method, target.as_bytes(), Some(received.headers.len() + 8))?;
    let named = received.headers.get_all(header::CONNECTION).iter().filter_map(|field| field.to_str().ok());
    let named: Vec<&str> = named.flat_map(|field| field.split(',')).map(str::trim).collect();
    for (name, value) in &received.headers {
        let is_of_the_hop =
            OF_THE_HOP.contains(name) || named.iter().any(|other| other.eq_ignore_ascii_case(name.as_str()));
        if !is_of_the_hop && *name != header::HOST && *name != header::COOKIE {
            request.append_header(name.clone(), value.clone())?;
        }
    }
    if let Some(cookie) = joined_cookies(received) {
        request.insert_header(header::COOKIE, cookie)?;
    }
    Ok(request)
}

/// HTTP/2 lets a client send its cookies one by one; HTTP/1.1 has one field for all (RFC 9113 section 8.2.3).
fn joined_cookies(request: &RequestHeader) -> Option<HeaderValue> {
    let mut fields = request.headers.get_all(header::COOKIE).iter();
    let first = fields.next()?.clone();
    let rest: Vec<&HeaderValue> = fields.collect();
    if rest.is_empty() {
        return Some(first);
    }
    let mut joined = first.as_bytes().to_vec();
    for field in rest {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(field.as_bytes());
    }
    HeaderValue::from_bytes(&joined).ok()
}
