//! The life of a request, in the order of Pingora's phases.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};
use routing::model::BackendRef;
use routing::{Answer, Backend, CompiledRule, ConnectionView, Decision, LiveRouting, Redirection, RequestView, decide};

use crate::attempts::{self, NO_ENDPOINTS, Progress};
use crate::connection::ConnectionInfo;
use crate::context::{Client, Context, Proxied};
use crate::failure::Failure;
use crate::filter;
use crate::gate;
use crate::telemetry::{AccessLog, Metrics, RouteLabels, RouteMetrics};

/// The gateway as Pingora's proxy logic. One object serves all requests; what belongs to one is in its [`Context`].
pub(crate) struct Gateway {
    live: Arc<LiveRouting>,
    metrics: Arc<Metrics>,
    access_log: Option<Arc<AccessLog>>,
}

impl Gateway {
    /// A gateway that routes by the state of the moment.
    #[must_use]
    pub(crate) fn new(live: Arc<LiveRouting>, metrics: Arc<Metrics>, access_log: Option<Arc<AccessLog>>) -> Self {
        Self { live, metrics, access_log }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Self::CTX {
        Context::new()
    }

    /// No modules: what they do is done by rules.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    /// Admits the request, decides, and answers what needs no upstream.
    async fn request_filter(&self, session: &mut Session, context: &mut Context) -> pingora::Result<bool> {
        let Some(connection) = ConnectionInfo::of(session).map(Arc::clone) else {
            return Error::e_explain(ErrorType::InternalError, "connection without info");
        };
        connection.handle.begin_request();
        // Requests that a client sends without waiting are answered one after the other (RFC 9112 section 9.3.2).
        session.set_pipelining_enabled(true);
        let snapshot = self.live.pin();
        session.set_read_timeout(Some(snapshot.settings().client_body_timeout));
        context.connection = Some(Arc::clone(&connection));
        let received = session.req_header().raw_path().to_vec();
        let admitted = match connection.refusal.get() {
            Some(refusal) => Err(refusal.failure),
            None => gate::admit(session.req_header_mut()),
        };
        if *session.req_header().raw_path() != *received {
            context.received_target = Some(received.into());
        }
        let client = filter::client_of(&connection, &session.req_header().headers, snapshot.settings());
        context.client = Some(client);
        context.request_id = request_id(session.req_header(), snapshot.settings().generate_request_id);
        let outcome = match admitted {
            Err(failure) => Step::Fail(failure),
            Ok(()) => {
                let (step, is_guarded) = self.decide(&snapshot, session.req_header(), &connection, client, context);
                let guards = context.rule.as_ref().and_then(|rule| rule.rule.guards.as_ref()).filter(|_| is_guarded);
                match guards.map_or(Ok(()), |guards| filter::admit(&guards.access, client)) {
                    Ok(()) => step,
                    Err(failure) => Step::Fail(failure),
                }
            }
        };
        context.snapshot = Some(snapshot);
        match outcome {
            Step::Proxy => Ok(false),
            Step::Fail(failure) => {
                context.failure = Some(failure);
                respond(session, failure.status(), failure_body(failure), failure.keeps_connection()).await?;
                Ok(true)
            }
            Step::Respond { status, body, location } => {
                let header = answer_header(status, body.len(), location)?;
                write_answer(session, header, body).await?;
                Ok(true)
            }
        }
    }

    /// Picks an endpoint, another one for each attempt.
    async fn upstream_peer(&self, session: &mut Session, context: &mut Context) -> pingora::Result<Box<HttpPeer>> {
        attempts::next(session, context)
    }

    /// Nothing was sent yet, so another endpoint may take the request, whatever its method.
    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        context: &mut Context,
        mut error: Box<Error>,
    ) -> Box<Error> {
        attempts::failed(session, context, &mut error, Progress::Unsent, false, &self.metrics);
        error
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        #[cfg(unix)] _fd: std::os::unix::io::RawFd,
        #[cfg(windows)] _sock: std::os::windows::io::RawSocket,
        _digest: Option<&Digest>,
        context: &mut Context,
    ) -> pingora::Result<()> {
        let connections = &self.metrics.upstream_connections;
        if reused {
            connections.reused.inc()
        } else {
            connections.new.inc()
        }
        if let Some(route) = &mut context.route {
            route.connect_time = Some(route.attempt_began.elapsed());
        }
        Ok(())
    }

    /// Makes the request that the upstream gets.
    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        context: &mut Context,
    ) -> pingora::Result<()> {
        let Context {
            connection: Some(connection),
            snapshot: Some(snapshot),
            client: Some(client),
            rule: Some(rule),
            route: Some(route),
            request_id,
            ..
        } = context
        else {
            return Error::e_explain(ErrorType::InternalError, "request without a route");
        };
        if request.version == Version::HTTP_2 {
            // Pingora passes no interim answer on from HTTP/2, which the client would wait for.
            answer_expectation(session).await?;
            request.remove_header(&header::EXPECT);
        }
        filter::set_forwarded_headers(request, connection, *client, request_id.as_ref(), snapshot.settings())?;
        filter::edit_request(rule, request)?;
        if let Some(path) = &route.path {
            let target = match request.uri.query() {
                Some(query) => format!("{path}?{query}"),
                None => path.clone(),
            };
            request.set_raw_path(target.as_bytes())?;
        }
        if let Some(host) = &route.host {
            request.insert_header(header::HOST, &**host)?;
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Context,
    ) -> pingora::Result<()> {
        let status = response.status;
        if !status.is_informational() && attempts::answered(session, context, status.as_u16(), &self.metrics) {
            let mut error = Error::create(ErrorType::HTTPStatus(status.as_u16()), ErrorSource::Upstream, None, None);
            error.set_retry(true);
            return Err(error);
        }
        Ok(())
    }

    /// Makes the answer that the client gets.
    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Context,
    ) -> pingora::Result<()> {
        if response.status == http::StatusCode::SWITCHING_PROTOCOLS
            && let Some(connection) = &context.connection
        {
            connection.handle.begin_tunnel();
        }
        if session.req_header().version == Version::HTTP_10 && response.headers.contains_key(header::TRANSFER_ENCODING)
        {
            // HTTP/1.0 knows no chunks (RFC 9112 section 6.1): the end of the connection ends the body.
            response.remove_header(&header::TRANSFER_ENCODING);
            session.set_keepalive(None);
        }
        filter::drop_hop_headers(response);
        // `server-tokens` and `allow-backend-server-header` are off by default: nobody need know what runs here.
        response.remove_header(&header::SERVER);
        let is_last = context.connection.as_ref().is_some_and(|connection| connection.handle.is_draining());
        if is_last && !response.status.is_informational() {
            // Pingora asks when a request begins, and this one may have begun before the drain.
            session.set_keepalive(None);
        }
        if !response.status.is_informational()
            && let Some(cookie) = context.route.as_mut().and_then(|route| route.set_cookie.take())
        {
            response.append_header(header::SET_COOKIE, cookie)?;
        }
        match &context.rule {
            Some(rule) => filter::edit_response(rule, response),
            None => Ok(()),
        }
    }

    /// The upstream may have acted upon the request.
    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        context: &mut Context,
        reused: bool,
    ) -> Box<Error> {
        attempts::failed(session, context, &mut error, Progress::Sent, reused, &self.metrics);
        error
    }

    /// Answers what went wrong, once and for all.
    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, context: &mut Context) -> FailToProxy {
        let refusal = context.connection.as_ref().and_then(|connection| connection.refusal.get());
        let failure = match (refusal, error.etype()) {
            (Some(refusal), _) => refusal.failure,
            (None, kind) if *kind == NO_ENDPOINTS => Failure::NoEndpoints,
            (None, _) => Failure::of_error(error),
        };
        context.failure = Some(failure);
        let is_answered = session.response_written().is_some_and(|response| !response.status.is_informational());
        if is_answered || failure == Failure::ClientClosed {
            return FailToProxy { error_code: failure.status(), can_reuse_downstream: false };
        }
        // Pingora gives the connection up after an error that came this far: the client is to know.
        let _ = respond(session, failure.status(), failure_body(failure), false).await;
        FailToProxy { error_code: failure.status(), can_reuse_downstream: false }
    }

    /// The last phase of every request: counts it and writes its line.
    async fn logging(&self, session: &mut Session, _error: Option<&Error>, context: &mut Context) {
        self.metrics.count_request();
        if let Some(failure) = context.failure {
            self.metrics.count_failure(failure);
        }
        crate::record::record(session, context, self.access_log.as_deref());
        if let Some(connection) = &context.connection {
            connection.handle.end_request();
        }
    }

    /// The access log and the counters tell it; a line for each would let a client flood the log.
    fn suppress_error_log(&self, _session: &Session, _context: &Context, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _context: &Context,
        _error: &Error,
        _kind: pingora::proxy::ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// What to do after the decision.
enum Step {
    Proxy,
    Fail(Failure),
    Respond { status: u16, body: Bytes, location: Option<String> },
}

impl Gateway {
    /// What to do, and whether the guards of the rule stand before it.
    fn decide(
        &self,
        snapshot: &routing::Snapshot,
        request: &RequestHeader,
        connection: &ConnectionInfo,
        client: Client,
        context: &mut Context,
    ) -> (Step, bool) {
        let view = RequestView {
            method: &request.method,
            authority: gate::authority(request),
            path: request.uri.path(),
            query: request.uri.query().unwrap_or_default(),
            headers: &request.headers,
            entropy: fastrand::u32(..),
        };
        let connection = ConnectionView {
            listener: &connection.listener,
            scheme: client.scheme,
            client: client.address,
            server_name: connection.server_name.as_deref(),
        };
        let decision = decide(snapshot, &view, &connection);
        let is_guarded = decision.is_guarded();
        let step = match decision {
            Decision::Proxy(plan) => {
                self.take_rule(plan.rule, plan.is_canary, context);
                let has_endpoints = |backend: &Arc<Backend>| !backend.state().endpoints.is_empty();
                let is_served = has_endpoints(plan.backend) || plan.rule.fallback.as_ref().is_some_and(has_endpoints);
                context.route = Some(Proxied::new(plan));
                if is_served { Step::Proxy } else { Step::Fail(Failure::NoEndpoints) }
            }
            Decision::Redirect(Redirection { status, location, rule }) => {
                self.take_rule(rule, false, context);
                Step::Respond { status, body: Bytes::new(), location: Some(location) }
            }
            Decision::Answer(Answer { status, reason, body, rule }) => {
                if let Some(rule) = rule {
                    self.take_rule(rule, false, context);
                }
                context.failure = Failure::of_reason(reason);
                Step::Respond { status, body: Bytes::copy_from_slice(body.as_bytes()), location: None }
            }
        };
        (step, is_guarded)
    }

    fn take_rule(&self, rule: &Arc<CompiledRule>, is_canary: bool, context: &mut Context) {
        let metrics = rule.slot.get_or_init(|| RuleMetrics::new(rule, &self.metrics));
        context.metrics = metrics.map(|metrics| Arc::clone(if is_canary { &metrics.canary } else { &metrics.own }));
        context.rule = Some(Arc::clone(rule));
    }
}

/// What a rule keeps in its slot.
struct RuleMetrics {
    own: Arc<RouteMetrics>,
    /// Of requests that went to the canary; without one, the same.
    canary: Arc<RouteMetrics>,
}

impl RuleMetrics {
    fn new(rule: &CompiledRule, metrics: &Metrics) -> Self {
        let own = metrics.route(labels(rule));
        let canary = rule.rule.upstream.canary.as_ref().map(|canary| {
            let BackendRef { namespace, service, port } = &canary.backend;
            metrics.route(RouteLabels { canary: format!("{namespace}-{service}-{port}").into(), ..labels(rule) })
        });
        Self { canary: canary.unwrap_or_else(|| Arc::clone(&own)), own }
    }
}

fn labels(rule: &CompiledRule) -> RouteLabels {
    let rule = &rule.rule;
    let service = rule.backends.first().and_then(|weighted| weighted.backend.as_ref());
    RouteLabels {
        namespace: rule.origin.namespace.clone(),
        ingress: rule.origin.name.clone(),
        service: service.map(|backend| backend.service.clone()).unwrap_or_default(),
        path: rule.path.clone(),
        host: rule.host.clone(),
        canary: "".into(),
    }
}

/// `X-Request-ID`: the client's own, else 32 random hexadecimal digits.
fn request_id(request: &RequestHeader, is_generated: bool) -> Option<HeaderValue> {
    if let Some(known) = request.headers.get("x-request-id") {
        return Some(known.clone());
    }
    if !is_generated {
        return None;
    }
    HeaderValue::try_from(format!("{:032x}", fastrand::u128(..))).ok()
}

// === answers of the gateway itself ===

fn failure_body(failure: Failure) -> Bytes {
    let status = http::StatusCode::from_u16(failure.status()).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    Bytes::from(format!("{} {}\n", status.as_u16(), status.canonical_reason().unwrap_or_default()))
}

fn answer_header(status: u16, length: usize, location: Option<String>) -> pingora::Result<ResponseHeader> {
    let mut header = ResponseHeader::build(status, Some(4))?;
    if status != 204 {
        header.insert_header("Content-Length", length)?;
    }
    if length > 0 {
        header.insert_header("Content-Type", "text/plain; charset=utf-8")?;
    }
    if let Some(location) = location {
        header.insert_header("Location", location)?;
    }
    Ok(header)
}

async fn respond(session: &mut Session, status: u16, body: Bytes, keeps_connection: bool) -> pingora::Result<()> {
    if !keeps_connection {
        session.set_keepalive(None);
    }
    let header = answer_header(status, body.len(), None)?;
    write_answer(session, header, body).await
}

async fn write_answer(session: &mut Session, header: ResponseHeader, body: Bytes) -> pingora::Result<()> {
    let has_body = !body.is_empty() && session.req_header().method != http::Method::HEAD;
    session.write_response_header(Box::new(header), !has_body).await?;
    if has_body {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

/// Tells a client of HTTP/1.1 that waits with its body to send it (RFC 9110 section 10.1.1), once.
async fn answer_expectation(session: &mut Session) -> pingora::Result<()> {
    let request = session.req_header_mut();
    let is_waiting = request.remove_header(&header::EXPECT).is_some_and(|expectation| {
        request.version == Version::HTTP_11 && expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")
    });
    if is_waiting { session.write_continue_response().await } else { Ok(()) }
}

/// The protocol of a request as logs write it.
pub(crate) fn protocol_name(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/0.9",
    }
}
