//! A client's request as the gateway sends it on by itself: without a body, and without what belongs to its connection.

use http::{HeaderName, Method, header};
use pingora::http::RequestHeader;

use crate::hop::{HOP_FIELDS, nominations};

/// Headers of a body that is not sent along, and the host: a copy has its own.
const LEFT_OUT: [HeaderName; 3] = [header::CONTENT_LENGTH, header::EXPECT, header::HOST];

/// A request with the headers of a client, but for its host.
pub(crate) fn copy_request(received: &RequestHeader, method: Method, target: &str) -> pingora::Result<RequestHeader> {
    let mut request = RequestHeader::build(method, target.as_bytes(), Some(received.headers.len() + 8))?;
    for (name, value) in &received.headers {
        if !HOP_FIELDS.contains(name) && !LEFT_OUT.contains(name) {
            request.append_header(name.clone(), value.clone())?;
        }
    }
    for name in nominations(&received.headers) {
        request.remove_header(&name);
    }
    Ok(request)
}
