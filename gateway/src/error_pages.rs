//! Pages in place of errors: asks who serves them, and holds the answer until it is whole.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType};
use routing::Backend;

use crate::context::Context;
use crate::exchange::{Answer, exchange};
use crate::filter;
use crate::gate;
use crate::request_head::{HOST, RequestHead, field_value};
use crate::upstream::{self, Protocol};

/// Idle connections that are kept, over all backends.
const POOL: usize = 128;
/// A page longer than this is none.
const MAX_PAGE: usize = 1 << 20;
/// Endpoints that are tried.
const MAX_ATTEMPTS: usize = 3;

/// Marks the error of an answer that is replaced; it has the status of the answer.
pub(crate) const REPLACED: &str = "replaced by an error page";

/// Asks for error pages.
pub(crate) struct PageServer(Connector);

/// An answer in place of an error.
pub(crate) struct Page {
    /// Its head; the length of the body is in it.
    pub(crate) head: ResponseHeader,
    /// Its body.
    pub(crate) body: Bytes,
}

impl PageServer {
    pub(crate) fn new() -> Self {
        Self(Connector::new(Some(ConnectorOptions::new(POOL))))
    }

    /// The page for an error of the rule of a request; `None` where the error stays as it is: because the rule says so,
    /// or because nobody gives a page for it.
    pub(crate) async fn page(&self, received: &RequestHeader, context: &Context, status: u16) -> Option<Page> {
        let rule = context.rule.as_ref()?;
        rule.rule.error_pages.as_ref().filter(|pages| pages.cover(status))?;
        let backend = backend_of(context)?;
        let timeouts = &rule.rule.upstream.timeouts;
        let asking = async { self.ask(backend, &request(received, context, status)?, context).await };
        match tokio::time::timeout(timeouts.connect + timeouts.read, asking).await {
            Ok(Ok(page)) => Some(page),
            Ok(Err(error)) => {
                // One line for each would let clients flood the log.
                tracing::debug!(backend = %backend.reference(), %error, "no error page");
                None
            }
            Err(_) => None,
        }
    }

    async fn ask(&self, backend: &Backend, request: &RequestHeader, context: &Context) -> pingora::Result<Page> {
        let (Some(rule), Some(snapshot)) = (&context.rule, &context.snapshot) else { return none("no rule") };
        let mut endpoints = upstream::candidates(backend, MAX_ATTEMPTS);
        if let [only] = &*endpoints {
            // A connection that was kept may have died.
            endpoints.push(Arc::clone(only));
        }
        let mut last = none("no endpoint");
        for endpoint in endpoints {
            let peer = upstream::peer(&endpoint, Protocol::Http1, &rule.rule.upstream, snapshot.settings());
            last = exchange(&self.0, &peer, request, &Bytes::new(), MAX_PAGE)
                .await
                .and_then(|answer| page(answer, request));
            if last.is_ok() {
                break;
            }
        }
        last
    }
}

/// Whether an answer of the upstream is replaced: where nobody serves pages, it passes.
pub(crate) fn replaces(context: &Context, status: u16) -> bool {
    let pages = context.rule.as_ref().and_then(|rule| rule.rule.error_pages.as_ref());
    pages.is_some_and(|pages| pages.cover_upstream(status)) && backend_of(context).is_some()
}

/// Who serves the pages of the rule of a request.
fn backend_of(context: &Context) -> Option<&Backend> {
    let backends = &context.rule.as_ref()?.error_pages;
    backends.iter().find(|backend| !backend.state().endpoints.is_empty()).map(|backend| &**backend)
}

/// The request for a page: the client's, for `/` with its query and without its body, and with what is to be known of
/// the error.
fn request(received: &RequestHeader, context: &Context, status: u16) -> pingora::Result<RequestHeader> {
    let Context {
        rule: Some(rule), client: Some(client), connection: Some(connection), snapshot: Some(snapshot), ..
    } = context
    else {
        return none("no rule");
    };
    let target = received.uri.query().map_or(Cow::Borrowed("/"), |query| Cow::Owned(format!("/?{query}")));
    let request = filter::copy_request(received, received.method.clone(), &target)?;
    let mut head = RequestHead::of(&request);
    let authority = gate::authority(received);
    head.insert(HOST, field_value(authority)?);
    if rule.guards.as_ref().is_some_and(|guards| guards.basic.is_some()) {
        head.remove(&header::AUTHORIZATION);
    }
    let request_id = context.request_id.as_ref();
    filter::set_forwarded_headers(&mut head, authority, connection, *client, request_id, snapshot.settings())?;
    filter::tell_error(rule, status, received.headers.get(header::ACCEPT), request_id, &mut head)?;
    let target = context.received_target.as_deref().map_or(received.raw_path(), str::as_bytes);
    head.set_or_remove(filter::ORIGINAL_URI, HeaderValue::from_bytes(target).ok());
    head.to_pingora()
}

fn page(answer: Answer, request: &RequestHeader) -> pingora::Result<Page> {
    let Answer { head: received, body } = answer;
    let Some(body) = body else { return none("too long, or not whole") };
    Ok(Page { head: head(&received, request, body.len())?, body })
}

fn none<T>(why: &'static str) -> pingora::Result<T> {
    Error::e_explain(ErrorType::InternalError, why)
}

/// The head of the answer that the client gets.
fn head(received: &ResponseHeader, request: &RequestHeader, length: usize) -> pingora::Result<ResponseHeader> {
    let mut head = ResponseHeader::build(received.status, Some(received.headers.len()))?;
    for (name, value) in &received.headers {
        if *name != header::CONTENT_LENGTH {
            head.append_header(name.clone(), value.clone())?;
        }
    }
    filter::drop_hop_headers(&mut head);
    head.remove_header(&header::TRANSFER_ENCODING);
    let has_length = !matches!(received.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    match received.headers.get(header::CONTENT_LENGTH) {
        Some(length) if request.method == Method::HEAD => head.insert_header(header::CONTENT_LENGTH, length.clone())?,
        _ if has_length && request.method != Method::HEAD => head.insert_header(header::CONTENT_LENGTH, length)?,
        _ => {}
    }
    Ok(head)
}
