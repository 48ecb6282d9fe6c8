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
use crate::relay::{self, Relay};
use crate::request_head::RequestHead;
use crate::telemetry::{AccessLog, Metrics};

/// The gateway as Pingora's proxy logic. One object serves all requests; what belongs to one is in its [`Context`].
pub(crate) struct Gateway {
    intake: Intake,
    metrics: Arc<Metrics>,
    access_log: Option<Arc<AccessLog>>,
    pages: PageServer,
    mirrors: Mirrors,
    relay: Relay,
}

impl Gateway {
    /// A gateway that routes by the state of the moment.
    #[must_use]
    pub(crate) fn new(
        live: Arc<LiveRouting>,
        metrics: Arc<Metrics>,
        access_log: Option<Arc<AccessLog>>,
        gatekeeper: Gatekeeper,
        relay: Relay,
    ) -> Self {
        let intake = Intake::new(live, Arc::clone(&metrics), gatekeeper);
        let mirrors = Mirrors::new(Arc::clone(&metrics));
        Self { intake, metrics, access_log, pages: PageServer::new(), mirrors, relay }
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
            Some(reply) => Box::pin(answer::give(session, context, reply, &self.pages)).await.map(|()| true),
            None => {
                self.mirrors.begin(session, context);
                Ok(false)
            }
        }
    }

    /// Carries what the relay is for; the rest is Pingora's.
    async fn proxy_upstream_filter(&self, session: &mut Session, context: &mut Context) -> pingora::Result<bool> {
        if !relay::is_for_relay(session, context) {
            return Ok(true);
        }
        self.relay.carry(self, session, context).await.map(|()| false)
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
        let mut head = RequestHead::of(request);
        filter::prepare_request(session.req_header(), &mut head, context)?;
        #[cfg(debug_assertions)]
        context.assert_same_path(head.target());
        *request = head.to_pingora()?;
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
            let _ = Box::pin(answer::replace(session, context, *status, &self.pages)).await;
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
        let _ = Box::pin(answer::fail(session, context, failure, &self.pages)).await;
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

#[cfg(test)]
mod tests {
    use http::Method;
    use pingora::ErrorType::InternalError;

    use super::*;
    use crate::connections::Connections;
    use crate::relay::Pool;
    use crate::telemetry::PodIdentity;

    fn gateway() -> Gateway {
        let live = Arc::new(LiveRouting::new());
        let identity = PodIdentity { class: String::new(), namespace: String::new(), pod: String::new() };
        let metrics = Metrics::new(&identity, Arc::clone(&live), Arc::new(Connections::new()), None).unwrap();
        Gateway::new(
            live,
            Arc::new(metrics),
            None,
            Gatekeeper::new(1).unwrap(),
            Relay::new(Arc::new(Pool::new(1, 1)), 1),
        )
    }

    /// Pingora moves the future of each phase to the heap, whole, for every request: what a phase seldom does belongs
    /// into a box of its own.
    #[tokio::test]
    async fn no_phase_is_carried_about_for_what_it_seldom_does() {
        const ROOM: usize = 4096;
        let (_client, server) = tokio::io::duplex(1);
        let mut session = Session::new_h1(Box::new(server));
        let (gateway, mut context) = (gateway(), Context::new());
        let mut request = RequestHeader::build(Method::GET, b"/", None).unwrap();
        let mut response = ResponseHeader::build(200, None).unwrap();
        let error = Error::new(InternalError);
        let peer = HttpPeer::new("127.0.0.1:1", false, String::new());
        let mut sizes = Vec::new();
        sizes.push(("request_filter", size_of_val(&*gateway.request_filter(&mut session, &mut context))));
        let filter = gateway.proxy_upstream_filter(&mut session, &mut context);
        sizes.push(("proxy_upstream_filter", size_of_val(&*filter)));
        drop(filter);
        sizes.push(("upstream_peer", size_of_val(&*gateway.upstream_peer(&mut session, &mut context))));
        let connected = gateway.connected_to_upstream(&mut session, true, &peer, 0, None, &mut context);
        sizes.push(("connected_to_upstream", size_of_val(&*connected)));
        drop(connected);
        let filter = gateway.upstream_request_filter(&mut session, &mut request, &mut context);
        sizes.push(("upstream_request_filter", size_of_val(&*filter)));
        drop(filter);
        let mut body = None;
        let filter = gateway.request_body_filter(&mut session, &mut body, true, &mut context);
        sizes.push(("request_body_filter", size_of_val(&*filter)));
        drop(filter);
        let filter = gateway.upstream_response_filter(&mut session, &mut response, &mut context);
        sizes.push(("upstream_response_filter", size_of_val(&*filter)));
        drop(filter);
        let filter = gateway.response_filter(&mut session, &mut response, &mut context);
        sizes.push(("response_filter", size_of_val(&*filter)));
        drop(filter);
        sizes.push(("fail_to_proxy", size_of_val(&*gateway.fail_to_proxy(&mut session, &error, &mut context))));
        sizes.push(("logging", size_of_val(&*gateway.logging(&mut session, None, &mut context))));
        let large: Vec<_> = sizes.iter().filter(|(_, size)| *size > ROOM).collect();
        assert!(large.is_empty(), "{large:?} of {sizes:?}");
    }
}
