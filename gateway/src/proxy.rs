//! The life of a request, in the order of Pingora's phases.

use std::sync::Arc;
use std::time::Duration;

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
use routing::{Answer, Backend, CompiledRule, Decision, LiveRouting, Redirection, decide};

use crate::answer;
use crate::attempts::{self, NO_ENDPOINTS, Progress};
use crate::connection::ConnectionInfo;
use crate::context::{Client, Context, Proxied};
use crate::failure::Failure;
use crate::filter::{self, Gatekeeper, Refusal, Visitor};
use crate::gate;
use crate::telemetry::{AccessLog, Metrics, RouteLabels, RouteMetrics};

/// The gateway as Pingora's proxy logic. One object serves all requests; what belongs to one is in its [`Context`].
pub(crate) struct Gateway {
    live: Arc<LiveRouting>,
    metrics: Arc<Metrics>,
    access_log: Option<Arc<AccessLog>>,
    gatekeeper: Gatekeeper,
}

impl Gateway {
    /// A gateway that routes by the state of the moment.
    #[must_use]
    pub(crate) fn new(
        live: Arc<LiveRouting>,
        metrics: Arc<Metrics>,
        access_log: Option<Arc<AccessLog>>,
        gatekeeper: Gatekeeper,
    ) -> Self {
        Self { live, metrics, access_log, gatekeeper }
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
        let n_requests = connection.handle.begin_request();
        // Requests that a client sends without waiting are answered one after the other (RFC 9112 section 9.3.2).
        session.set_pipelining_enabled(true);
        let snapshot = self.live.pin();
        let settings = snapshot.settings();
        session.set_read_timeout(Some(settings.client_body_timeout));
        if n_requests >= settings.keep_alive_requests {
            session.set_keepalive(None);
        }
        context.connection = Some(Arc::clone(&connection));
        let received = session.req_header().raw_path().to_vec();
        let admitted = match connection.refusal.get() {
            Some(refusal) => Err(refusal.failure),
            None => gate::admit(session.req_header_mut(), settings),
        };
        if *session.req_header().raw_path() != *received {
            context.received_target = Some(received.into());
        }
        let client = filter::client_of(&connection, &session.req_header().headers, snapshot.settings());
        context.client = Some(client);
        context.request_id = request_id(session.req_header(), snapshot.settings().generate_request_id);
        let outcome = match admitted {
            Err(failure) => Step::Fail(failure),
            Ok(()) if settings.blocks.contain(client.address, &session.req_header().headers) => {
                Step::Fail(Failure::Forbidden)
            }
            Ok(()) => {
                let (step, is_guarded) = self.decide(&snapshot, session.req_header(), &connection, client, context);
                let headers = &session.req_header().headers;
                let sizes = context.rule.as_ref().map_or(Ok(()), |rule| filter::admit_body(&rule.rule.sizes, headers));
                let rule = context.rule.as_ref().filter(|_| is_guarded);
                let visitor = Visitor { client, headers };
                match (sizes, rule.and_then(|rule| rule.guards.as_ref())) {
                    (Err(failure), _) => Step::Fail(failure),
                    (Ok(()), Some(guards)) => match self.gatekeeper.admit(guards, &visitor).await {
                        Ok(counted) => {
                            context.counted = counted;
                            step
                        }
                        Err(refusal) => Step::Refuse(refusal),
                    },
                    (Ok(()), None) => step,
                }
            }
        };
        context.snapshot = Some(snapshot);
        match outcome {
            Step::Proxy => Ok(false),
            Step::Fail(failure) => {
                context.failure = Some(failure);
                answer::fail(session, context, failure, failure.keeps_connection()).await?;
                Ok(true)
            }
            Step::Refuse(refusal) => {
                let (failure, challenge) = match refusal {
                    Refusal::Failure(failure) => (failure, None),
                    Refusal::Challenge(challenge) => (Failure::Unauthorized, Some(challenge)),
                };
                context.failure = Some(failure);
                answer::refuse(session, context, failure, challenge).await?;
                Ok(true)
            }
            Step::Respond { status, body, location } => {
                answer::write(session, context, status, body, location).await?;
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
        if request.version == Version::HTTP_2 {
            // Pingora passes no interim answer on from HTTP/2, which the client would wait for.
            answer_expectation(session).await?;
            request.remove_header(&header::EXPECT);
        }
        filter::prepare_request(session.req_header(), request, context)
    }

    /// Counts the body as it passes.
    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        context: &mut Context,
    ) -> pingora::Result<()> {
        filter::count_body(context, body.as_ref())
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
        match &context.rule {
            Some(rule) => filter::check_response_head(&rule.rule.sizes, response),
            None => Ok(()),
        }
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
        if let Some(snapshot) = &context.snapshot {
            filter::hide_headers(snapshot.settings(), response);
        }
        if let Some(rule) = &context.rule {
            filter::edit_response(rule, response)?;
            filter::mark_for_origin(rule, &session.req_header().headers, response)?;
        }
        filter::mark_answer(context, session.req_header(), response)?;
        if let Some(compression) = context.snapshot.as_ref().map(|snapshot| &snapshot.settings().compression)
            && compression.is_on()
        {
            context.compressor = filter::compressor(compression, session.req_header(), response)?;
        }
        Ok(())
    }

    /// Compresses the answer where that was decided.
    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        context: &mut Context,
    ) -> pingora::Result<Option<Duration>> {
        match &mut context.compressor {
            Some(compressor) => compressor.compress(body, end_of_stream).map(|()| None),
            None => Ok(None),
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
            (None, kind) if *kind == filter::BODY_TOO_LARGE => Failure::BodyTooLarge,
            (None, kind) if *kind == filter::RESPONSE_HEAD_TOO_LARGE => Failure::UpstreamHeadTooLarge,
            (None, _) => Failure::of_error(error),
        };
        context.failure = Some(failure);
        let is_answered = session.response_written().is_some_and(|response| !response.status.is_informational());
        if is_answered || failure == Failure::ClientClosed {
            return FailToProxy { error_code: failure.status(), can_reuse_downstream: false };
        }
        // Pingora gives the connection up after an error that came this far: the client is to know.
        let _ = answer::fail(session, context, failure, false).await;
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
    Refuse(Refusal),
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
        context.client = Some(client);
        let (view, connection) = context.views(request, connection);
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
