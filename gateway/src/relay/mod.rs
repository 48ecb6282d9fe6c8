//! Requests to upstreams of HTTP/1, which is most of them: bodies and answers go on piece by piece.
//!
//! Pingora copies requests and answers by two tasks in one, through queues of four pieces of 64 KiB each. Here there is
//! one, and no queue: a client that reads slowly holds one piece, and so does an upstream. Everything else, so tunnels and
//! HTTP/2 to upstreams, is Pingora's. The phases are the same in both, in the same order, so what a request meets does not
//! depend on who carries it.

mod pool;
mod stream;
mod upload;

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Version, header};
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Stream;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::proxy::{ProxyHttp, Session};
use pingora::upstreams::peer::{HttpPeer, Peer as _};
use pingora::{Error, ErrorType};
use routing::Backend;
use tokio::io::AsyncWriteExt as _;

pub(crate) use self::pool::Pool;
use self::stream::InPieces;
use self::upload::Upload;
use crate::context::Context;
use crate::filter;
use crate::hop::{HOP_FIELDS, PROXY_FIELDS};
use crate::proxy::Gateway;
use crate::request_head::{HOST, RequestHead, field_value};
use crate::upstream;

/// Carries requests, and owns the connections that it does so on.
pub(crate) struct Relay {
    connector: TransportConnector,
    pool: Arc<Pool>,
    max_attempts: usize,
}

impl Relay {
    /// A relay that makes at most `max_attempts` for a request.
    pub(crate) fn new(pool: Arc<Pool>, max_attempts: usize) -> Self {
        // The pool of the connector stays empty.
        Self { connector: TransportConnector::new(Some(ConnectorOptions::new(1))), pool, max_attempts }
    }

    /// Carries a request to an endpoint and its answer to the client, by the phases of `gateway`.
    pub(crate) async fn carry(
        &self,
        gateway: &Gateway,
        session: &mut Session,
        context: &mut Context,
    ) -> pingora::Result<()> {
        let mut n_attempts = 1;
        loop {
            match self.attempt(gateway, session, context).await {
                Err(error) if error.retry() && n_attempts < self.max_attempts => n_attempts += 1,
                result => return result,
            }
        }
    }

    async fn attempt(&self, gateway: &Gateway, session: &mut Session, context: &mut Context) -> pingora::Result<()> {
        let peer = gateway.upstream_peer(session, context).await?;
        let key = peer.reuse_hash();
        let pooled = self.pool.take(key);
        let is_reused = pooled.is_some();
        let stream = match pooled {
            Some(stream) => stream,
            // Boxed, because connecting needs much room, and most requests none of it.
            None => match Box::pin(self.connector.new_stream(&*peer)).await {
                Ok(stream) => Box::new(InPieces(stream)) as Stream,
                Err(mut error) => {
                    error.as_up();
                    return Err(gateway.fail_to_connect(session, &peer, context, error).into_up());
                }
            },
        };
        match exchange(gateway, session, stream, is_reused, &peer, context).await {
            Ok(stream) => {
                if let (Some(stream), Some(idle_timeout)) = (stream, peer.idle_timeout()) {
                    self.pool.put(key, stream, idle_timeout);
                }
                Ok(())
            }
            Err(error) => Err(gateway.error_while_proxy(&peer, session, error, context, is_reused)),
        }
    }
}

/// Whether a request is for upstreams of HTTP/1 only, and remains one of HTTP.
pub(crate) fn is_for_relay(session: &Session, context: &Context) -> bool {
    let Context { rule: Some(rule), route: Some(route), client: Some(client), .. } = context else { return false };
    let policy = &rule.rule.upstream;
    let is_http1 =
        |backend: &Arc<Backend>| upstream::protocol(policy, backend.state().protocol, client.scheme).is_http1();
    let has_hop_fields = |request: &RequestHeader| {
        let names_only_itself = |value: &HeaderValue| {
            value.as_bytes().eq_ignore_ascii_case(b"keep-alive") || value.as_bytes().eq_ignore_ascii_case(b"close")
        };
        let headers = &request.headers;
        headers.contains_key(header::UPGRADE) || !headers.get_all(header::CONNECTION).iter().all(names_only_itself)
    };
    !has_hop_fields(session.req_header()) && is_http1(&route.backend) && rule.fallback.as_ref().is_none_or(is_http1)
}

/// One attempt: a request, and its answer as far as the client takes it. Returns the connection if another request may
/// follow on it.
async fn exchange(
    gateway: &Gateway,
    session: &mut Session,
    stream: Stream,
    is_reused: bool,
    peer: &HttpPeer,
    context: &mut Context,
) -> pingora::Result<Option<Stream>> {
    gateway.connected_to_upstream(session, is_reused, peer, stream.id(), None, context).await?;
    let mut upload = Upload::of(session, peer, context);
    let mut upstream = send_head(gateway, session, stream, &upload, peer, context).await?;
    let outcome = converse(gateway, session, &mut upstream, &mut upload, context).await;
    if let Some(route) = &mut context.route {
        route.relayed = Some(upstream.body_bytes_received());
    }
    outcome?;
    if !upload.is_complete() {
        return Ok(None);
    }
    upstream.respect_keepalive();
    Ok(upstream.reuse().await)
}

/// Begins to speak HTTP on a connection.
async fn send_head(
    gateway: &Gateway,
    session: &mut Session,
    mut stream: Stream,
    upload: &Upload,
    peer: &HttpPeer,
    context: &mut Context,
) -> pingora::Result<HttpSession> {
    let head = request_head(session.req_header(), !upload.is_over(), context)?;
    // Pingora's own writer knows how a body is framed, and that the answer to `HEAD` has none.
    let with_writer = if upload.is_over() && session.req_header().method != Method::HEAD {
        send(&mut stream, &head.to_http1()?, peer.options.write_timeout).await?;
        None
    } else {
        let mut request = Box::new(head.to_pingora()?);
        request.set_version(Version::HTTP_11);
        Some(request)
    };
    let mut upstream = HttpSession::new(stream);
    upstream.read_timeout = upload.read_timeout();
    upstream.write_timeout = peer.options.write_timeout;
    if let Some(request) = with_writer {
        upstream.write_request_header(request).await.map_err(Error::into_up)?;
    }
    if upload.is_over() {
        gateway.request_body_filter(session, &mut None, true, context).await?;
    }
    Ok(upstream)
}

/// Passes a body and an answer on, piece by piece.
async fn converse(
    gateway: &Gateway,
    session: &mut Session,
    upstream: &mut HttpSession,
    upload: &mut Upload,
    context: &mut Context,
) -> pingora::Result<()> {
    upload.repeat(gateway, session, upstream, context).await?;
    let mut is_answered = false;
    while !is_answered || !upload.is_over() {
        match next(session, upstream, upload, is_answered).await? {
            Event::Body(piece) => upload.pass(gateway, session, upstream, piece, context).await?,
            Event::Answer(Ok(piece)) => is_answered = answer(gateway, session, upstream, piece, context).await?,
            Event::Answer(Err(error)) => return Err(upload.cause_of(error)),
        }
    }
    session.as_mut().finish_body().await.map_err(Error::into_down)?;
    Ok(())
}

/// Passes a piece of an answer on, and what came with it. Returns whether that was the end of it.
async fn answer(
    gateway: &Gateway,
    session: &mut Session,
    upstream: &mut HttpSession,
    first: HttpTask,
    context: &mut Context,
) -> pingora::Result<bool> {
    let mut failure = None;
    let mut is_end = first.is_end();
    let is_head = matches!(first, HttpTask::Header(..));
    let mut pieces = Vec::with_capacity(2);
    pieces.push(client_piece(gateway, session, first, context).await?);
    // What came with the head of an answer leaves with it.
    if is_head && !is_end {
        match if_ready(pin!(upstream.read_response_task())).await {
            Some(Ok(piece)) => {
                is_end = piece.is_end();
                pieces.push(client_piece(gateway, session, piece, context).await?);
            }
            Some(Err(error)) => failure = Some(error.into_up()),
            None => {}
        }
    }
    session.write_response_tasks(pieces).await?;
    failure.map_or(Ok(is_end), Err)
}

/// The head that goes to the upstream: the one that was received, without what is for its hop, as the phases edit it.
fn request_head<'r>(
    received: &'r RequestHeader,
    has_body: bool,
    context: &Context,
) -> pingora::Result<RequestHead<'r>> {
    let mut head = RequestHead::of(received);
    head.remove_all(&HOP_FIELDS);
    head.remove_all(&PROXY_FIELDS);
    if let Some(authority) = received.uri.authority() {
        head.insert(HOST, field_value(authority.as_str())?);
    }
    filter::prepare_request(received, &mut head, context)?;
    if has_body && head.get(&header::CONTENT_LENGTH).is_none() {
        head.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    #[cfg(debug_assertions)]
    context.assert_same_path(head.target());
    Ok(head)
}

/// Sends a head. It fits into the buffer of the connection but for the longest ones, so that there is seldom a wait.
async fn send(stream: &mut Stream, head: &[u8], limit: Option<Duration>) -> pingora::Result<()> {
    let mut sending = pin!(async {
        stream.write_all(head).await?;
        stream.flush().await
    });
    let sent = match (if_ready(sending.as_mut()).await, limit) {
        (Some(sent), _) => sent,
        (None, Some(limit)) => match tokio::time::timeout(limit, sending).await {
            Ok(sent) => sent,
            Err(_) => return Err(Error::explain(ErrorType::WriteTimedout, "request head").into_up()),
        },
        (None, None) => sending.await,
    };
    sent.map_err(|error| {
        let kind = if error.kind() == ErrorKind::TimedOut { ErrorType::WriteTimedout } else { ErrorType::WriteError };
        Error::because(kind, "request head", error).into_up()
    })
}

/// What comes next.
enum Event {
    /// A piece of the body; `None` at its end.
    Body(Option<Bytes>),
    /// A piece of the answer.
    Answer(pingora::Result<HttpTask>),
}

/// Waits for what comes next; an error when the client goes, or breaks off. An answer goes before a body: an upstream that
/// wants no more of it says so.
async fn next(
    session: &mut Session,
    upstream: &mut HttpSession,
    upload: &Upload,
    is_answered: bool,
) -> pingora::Result<Event> {
    let client = async {
        if !upload.is_over() {
            return upload.read(session).await.map(Event::Body);
        }
        // To see whether a client is still there, a byte is read, which must not be one of a body: it may be sent again.
        if session.as_mut().is_body_done()
            && let Err(gone) = session.as_mut().read_body_or_idle(true).await
        {
            return Err(gone.into_down());
        }
        std::future::pending().await
    };
    tokio::select! {
        biased;
        piece = upstream.read_response_task(), if !is_answered => Ok(Event::Answer(piece.map_err(Error::into_up))),
        event = client => event,
    }
}

/// What the client gets of a piece.
async fn client_piece(
    gateway: &Gateway,
    session: &mut Session,
    piece: HttpTask,
    context: &mut Context,
) -> pingora::Result<HttpTask> {
    match piece {
        HttpTask::Header(mut head, is_end) => {
            gateway.upstream_response_filter(session, &mut head, context).await?;
            if !is_end && is_of_unknown_length(&head) {
                head.set_version(Version::HTTP_11);
                head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
            }
            gateway.response_filter(session, &mut head, context).await?;
            Ok(HttpTask::Header(head, is_end))
        }
        HttpTask::Body(mut body, is_end) => {
            gateway.response_body_filter(session, &mut body, is_end, context)?;
            Ok(HttpTask::Body(body, is_end))
        }
        other => Ok(other),
    }
}

/// Whether the end of the connection ends the body of an answer (RFC 9112 section 6.3), so that the client is to get
/// chunks.
fn is_of_unknown_length(head: &ResponseHeader) -> bool {
    let has_body = !matches!(head.status.as_u16(), 100..=199 | 204 | 304);
    let framing = [header::TRANSFER_ENCODING, header::CONTENT_LENGTH];
    has_body && !framing.iter().any(|name| head.headers.contains_key(name))
}

/// What a future has at once, if it has.
async fn if_ready<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn what_an_upstream_does_not_take_of_a_body_is_there_for_the_next_one() {
        let (mut client, server) = duplex(1024);
        client.write_all(b"PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbo").await.unwrap();
        let mut session = Session::new_h1(Box::new(server));
        assert!(session.read_request().await.unwrap());
        session.as_mut().set_pipelining_enabled(true);
        let (_server, silent) = duplex(1024);
        let mut upstream = HttpSession::new(Box::new(silent));
        let upload = Upload::failed();
        assert_eq!(session.as_mut().read_request_body().await.unwrap().unwrap(), "bo");
        client.write_all(b"dy").await.unwrap();
        assert!(if_ready(pin!(next(&mut session, &mut upstream, &upload, false))).await.is_none());
        assert_eq!(session.as_mut().read_request_body().await.unwrap().unwrap(), "dy");
        // When it has all been read, the client may go.
        assert!(if_ready(pin!(next(&mut session, &mut upstream, &upload, false))).await.is_none());
        drop(client);
        assert!(next(&mut session, &mut upstream, &upload, false).await.is_err());
    }
}
