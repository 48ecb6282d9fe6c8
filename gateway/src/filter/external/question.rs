//! The request that an authentication server gets: the headers of the client, and what they are worth.

use http::HeaderName;
use pingora::http::RequestHeader;
use routing::Question;

use crate::filter::access::Visitor;
use crate::filter::client_tls;
use crate::filter::copy::copy_request;
use crate::filter::forwarded::set_forwarded_headers;
use crate::request_head::{HOST, RequestHead, field_value};

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
    let request = copy_request(received, method.clone(), target)?;
    // Told as upstreams are told, for the host that the client asked for.
    let mut head = RequestHead::of(&request);
    head.insert(HOST, field_value(visitor.view.authority)?);
    let Visitor { client, connection, request_id, settings, .. } = *visitor;
    set_forwarded_headers(&mut head, visitor.view.authority, connection, client, request_id, settings)?;
    head.remove_all(&OF_THE_GATEWAY);
    client_tls::tell(visitor.rule, connection, &mut head);
    head.insert(HOST, field_value(&**host)?);
    for (name, value) in headers {
        match value {
            Some(value) => head.insert(name.clone(), value.clone()),
            None => head.remove(name),
        }
    }
    head.to_pingora()
}
