//! The life of a request, in the order of Pingora's phases.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};
use routing::LiveRouting;

use crate::answer;
use crate::attempts::{self, NO_ENDPOINTS, NO_TRUST, Progress};
use crate::context::Context;
use crate::error_pages::{self, PageServer, REPLACED};
use crate::failure::Failure;
use crate::filter::{self, Gatekeeper, Mirrors};
use crate::intake::Intake;
use crate::telemetry::{AccessLog, Metrics};

/// The gateway as Pingora's proxy logic. One object serves all requests; what belongs to one is in its [`Context`].
pub(crate) struct Gateway {
    intake: Intake,
    metrics: Arc<Metrics>,
    access_log: Option<Arc<AccessLog>>,
    pages: PageServer,
    mirrors: Mirrors,
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
        let intake = Intake::new(live, Arc::clone(&metrics), gatekeeper);
        let mirrors = Mirrors::new(Arc::clone(&metrics));
        Self { intake, metrics, access_log, pages: PageServer::new(), mirrors }
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
        match self.intake.take(session, context).await? {
            Some(reply) => answer::give(session, context, reply, &self.pages).await.map(|()| true),
            None => {
                self.mirrors.begin(session, context);
                Ok(false)
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
            answer::expectation(session).await?;
            request.remove_header(&header::EXPECT);
        }
        filter::prepare_request(session.req_header(), request, context)?;
        #[cfg(debug_assertions)]
        context.assert_same_path(request);
        Ok(())
    }

    /// Counts the body as it passes.
    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        context: &mut Context,
    ) -> pingora::Result<()> {
        filter::count_body(context, body.as_ref())?;
        self.mirrors.gather(context, body.as_ref(), end_of_stream);
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Context,
    ) -> pingora::Result<()> {
        let status = response.status;
        if status == StatusCode::SWITCHING_PROTOCOLS && !session.req_header().headers.contains_key(header::UPGRADE) {
            // What follows would be taken for answers to requests that come later.
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "unasked 101").into_up());
        }
        if !status.is_informational() && attempts::answered(session, context, status.as_u16(), &self.metrics) {
            let mut error = Error::create(ErrorType::HTTPStatus(status.as_u16()), ErrorSource::Upstream, None, None);
            error.set_retry(true);
            return Err(error);
        }
        if error_pages::replaces(context, status.as_u16()) {
            return Err(Error::explain(ErrorType::CustomCode(REPLACED, status.as_u16()), "").into_up());
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
        if response.status == StatusCode::SWITCHING_PROTOCOLS
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
        if let Some(grant) = &context.admission.grant {
            grant.mark_answer(response)?;
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
        // Pingora gives the connection up after an error that came this far: the client is to know.
        if let ErrorType::CustomCode(REPLACED, status) = error.etype() {
            let _ = answer::replace(session, context, *status, &self.pages).await;
            return FailToProxy { error_code: *status, can_reuse_downstream: false };
        }
        let refusal = context.connection.as_ref().and_then(|connection| connection.refusal.get());
        let failure = match (refusal, error.etype()) {
            (Some(refusal), _) => refusal.failure,
            (None, kind) if *kind == NO_ENDPOINTS => Failure::NoEndpoints,
            (None, kind) if *kind == NO_TRUST => Failure::Denied,
            (None, kind) if *kind == filter::BODY_TOO_LARGE => Failure::BodyTooLarge,
            (None, kind) if *kind == filter::RESPONSE_HEAD_TOO_LARGE => Failure::UpstreamHeadTooLarge,
            (None, _) => Failure::of_error(error),
        };
        context.failure = Some(failure);
        let is_answered = session.response_written().is_some_and(|response| !response.status.is_informational());
        if is_answered || failure == Failure::ClientClosed {
            return FailToProxy { error_code: failure.status(), can_reuse_downstream: false };
        }
        let _ = answer::fail(session, context, failure, &self.pages).await;
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
