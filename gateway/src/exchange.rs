//! One request of the gateway's own, and its answer: HTTP/1.1, on connections that no request of a client uses.

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, header};
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};

/// What came back.
pub(crate) struct Answer {
    /// Its head.
    pub(crate) head: ResponseHeader,
    /// Its body; `None` when it is longer than it may be, or broke off.
    pub(crate) body: Option<Bytes>,
}

/// Sends a request and reads the answer, of which the body may have `max_body` bytes. The connection is kept when the
/// answer was read to its end.
pub(crate) async fn exchange(
    connector: &Connector,
    peer: &HttpPeer,
    request: &RequestHeader,
    body: &Bytes,
    max_body: usize,
) -> pingora::Result<Answer> {
    // Boxed, because connecting needs so much room that whatever may ask somebody would be carried about for it.
    let (mut session, _is_reused) = Box::pin(connector.get_http_session(peer)).await?;
    session.set_write_timeout(peer.options.write_timeout);
    session.set_read_timeout(peer.options.read_timeout);
    let mut request = Box::new(request.clone());
    if !body.is_empty() || !matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE) {
        request.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    session.write_request_header(request).await?;
    if !body.is_empty() {
        session.write_request_body(body.clone(), false).await?;
    }
    session.finish_request_body().await?;
    let head = loop {
        session.read_response_header().await?;
        match session.response_header() {
            // What follows would not be HTTP.
            Some(head) if head.status == StatusCode::SWITCHING_PROTOCOLS => return broken("unasked 101"),
            Some(head) if head.status.is_informational() => {}
            Some(head) => break head.clone(),
            None => return broken("answer without a head"),
        }
    };
    let body = whole_body(&mut session, max_body).await;
    if body.is_some() {
        if let HttpSession::H1(http1) = &mut session {
            http1.respect_keepalive();
        }
        connector.release_http_session(session, peer, peer.options.idle_timeout).await;
    }
    Ok(Answer { head, body })
}

async fn whole_body(session: &mut HttpSession, max_body: usize) -> Option<Bytes> {
    let mut body = BytesMut::new();
    while let Some(piece) = session.read_response_body().await.ok()? {
        body.extend_from_slice(&piece);
        if body.len() > max_body {
            return None;
        }
    }
    Some(body.freeze())
}

fn broken<T>(why: &'static str) -> pingora::Result<T> {
    Error::e_explain(ErrorType::InvalidHTTPHeader, why)
}
