//! The request that an authentication server gets: the headers of the client, and what they are worth.

use http::{HeaderName, HeaderValue, Method, header};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};
use routing::Question;

use crate::filter::access::Visitor;
use crate::filter::client_tls;
use crate::filter::forwarded::set_forwarded_headers;

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
/// Headers that would be taken for the gateway's own word, where the question does not set them.
const OF_THE_GATEWAY: [HeaderName; 8] = [
    HeaderName::from_static("x-auth-request-redirect"),
    HeaderName::from_static("x-forwarded-method"),
    // ingress-nginx clears it.
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-uri"),
    HeaderName::from_static("x-original-method"),
    HeaderName::from_static("x-original-uri"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-scheme"),
];
const SENT_FROM: &str = "x-sent-from";

/// Whether a request is itself a question about another one.
pub(super) fn is_question(request: &RequestHeader) -> bool {
    request.headers.contains_key(SENT_FROM)
}

/// Makes the request of a question.
pub(super) fn request(question: &Question<'_>, visitor: &Visitor<'_>) -> pingora::Result<RequestHeader> {
    let received = visitor.request;
    let Question { host, target, method, headers, cache_key: _ } = question;
    let mut request = RequestHeader::build(method.clone(), target.as_bytes(), Some(received.headers.len() + 8))?;
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
    // Told as upstreams are told, for the host that the client asked for.
    request.insert_header(header::HOST, visitor.view.authority)?;
    let Visitor { client, connection, request_id, settings, .. } = *visitor;
    set_forwarded_headers(&mut request, connection, client, request_id, settings)?;
    for name in &OF_THE_GATEWAY {
        request.remove_header(name);
    }
    client_tls::tell(visitor.rule, connection, &mut request)?;
    request.insert_header(header::HOST, &**host)?;
    for (name, value) in headers {
        match value {
            Some(value) => request.insert_header(name, value.clone())?,
            None => drop(request.remove_header(name)),
        }
    }
    if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        request.insert_header(header::CONTENT_LENGTH, "0")?;
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

/// The error of a question that nobody can be asked.
pub(super) fn unanswerable<T>(why: &'static str) -> pingora::Result<T> {
    Error::e_explain(ErrorType::InternalError, why)
}
