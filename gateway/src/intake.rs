//! What happens to a request before it goes anywhere: the gate, who sent it, which rule takes it, and who guards that.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use routing::{
    Answer, Backend, CompiledRule, Decision, LiveRouting, Redirection, Scheme, Settings, Snapshot, decide, origin_form,
};

use crate::answer::Reply;
use crate::connection::ConnectionInfo;
use crate::context::{Context, Proxied};
use crate::failure::Failure;
use crate::filter::{self, Gatekeeper, Refusal, Visitor};
use crate::gate;
use crate::request_head::REQUEST_ID;
use crate::telemetry::{Metrics, RuleMetrics};

/// Takes requests in.
pub(crate) struct Intake {
    live: Arc<LiveRouting>,
    metrics: Arc<Metrics>,
    gatekeeper: Gatekeeper,
}

impl Intake {
    /// Takes requests in by the state of the moment.
    pub(crate) fn new(live: Arc<LiveRouting>, metrics: Arc<Metrics>, gatekeeper: Gatekeeper) -> Self {
        Self { live, metrics, gatekeeper }
    }

    /// Takes a request as far as to its route in the context, or to an answer that needs no upstream.
    pub(crate) async fn take(&self, session: &mut Session, context: &mut Context) -> pingora::Result<Option<Reply>> {
        let Some(connection) = ConnectionInfo::of(session).map(Arc::clone) else {
            return Error::e_explain(ErrorType::InternalError, "connection without info");
        };
        let snapshot = self.live.pin();
        let settings = snapshot.settings();
        begin(session, &connection, settings);
        let admitted = match connection.refusal.get() {
            Some(refusal) => Err(refusal.failure),
            None => gate::admit(session.req_header_mut(), settings),
        };
        let request = session.req_header();
        let client = filter::client_of(&connection, &request.headers, settings);
        context.client = Some(client);
        context.request_id = request_id(request, settings.generate_request_id);
        let reply = match admitted {
            Err(failure) => Some(Reply::Refusal(Refusal::of(failure))),
            Ok(_) if !connection.handle.admits() => Some(Reply::Refusal(Refusal::of(Failure::Overloaded))),
            Ok(_) if settings.blocks.contain(client.address, &request.headers) => {
                Some(Reply::Refusal(Refusal::of(Failure::Forbidden)))
            }
            Ok(received_target) => {
                context.received_target = received_target;
                self.route(&snapshot, request, &connection, context).await
            }
        };
        context.connection = Some(connection);
        context.snapshot = Some(snapshot);
        Ok(reply)
    }

    /// Finds the rule, and takes the request past its guards.
    async fn route(
        &self,
        snapshot: &Snapshot,
        request: &RequestHeader,
        connection: &ConnectionInfo,
        context: &mut Context,
    ) -> Option<Reply> {
        // The view of it lasts while the context is written.
        let received = context.received_target.clone();
        let (mut view, connection_view) = context.views(request, connection);
        view.received = received.as_deref().map(origin_form);
        #[cfg(debug_assertions)]
        {
            context.matched_path = view.path.into();
        }
        let decision = decide(snapshot, &view, &connection_view);
        let is_guarded = decision.is_guarded();
        let reply = self.follow(decision, context);
        let (Some(rule), Some(client)) = (&context.rule, context.client) else { return reply };
        // On a connection in plain text this is for what goes on: who is sent to HTTPS shows it there.
        if let Some(tls) = rule.client_tls.as_ref().filter(|_| is_guarded || connection.scheme == Scheme::Https)
            && let Err(refusal) = filter::admit_certificate(tls, connection, &view, &connection_view)
        {
            return Some(Reply::Refusal(refusal));
        }
        if let Err(failure) = filter::admit_body(&rule.rule.sizes, &request.headers) {
            return Some(Reply::Refusal(Refusal::of(failure)));
        }
        let (Some(guards), true) = (&rule.guards, is_guarded) else { return reply };
        let (settings, request_id) = (snapshot.settings(), context.request_id.as_ref());
        let visitor = Visitor { client, request, connection, view, connection_view, request_id, settings, rule };
        match Box::pin(self.gatekeeper.admit(guards, &visitor)).await {
            Ok(admission) => {
                context.admission = admission;
                reply
            }
            Err(refusal) => Some(Reply::Refusal(refusal)),
        }
    }

    /// Writes a decision into the context; an answer is given back.
    fn follow(&self, decision: Decision<'_>, context: &mut Context) -> Option<Reply> {
        match decision {
            Decision::Proxy(plan) => {
                self.take_rule(plan.rule, plan.is_canary, context);
                let has_endpoints = |backend: &Arc<Backend>| !backend.state().endpoints.is_empty();
                let is_served = has_endpoints(plan.backend) || plan.rule.fallback.as_ref().is_some_and(has_endpoints);
                context.route = Some(Proxied::new(plan));
                if is_served { None } else { Some(Reply::Refusal(Refusal::of(Failure::NoEndpoints))) }
            }
            Decision::Redirect(Redirection { status, location, rule }) => {
                self.take_rule(rule, false, context);
                Some(Reply::Response { status, body: Bytes::new(), location: Some(location) })
            }
            Decision::Answer(Answer { status, reason, body, rule }) => {
                if let Some(rule) = rule {
                    self.take_rule(rule, false, context);
                }
                context.failure = Failure::of_reason(reason);
                Some(Reply::Response { status, body: Bytes::copy_from_slice(body.as_bytes()), location: None })
            }
        }
    }

    fn take_rule(&self, rule: &Arc<CompiledRule>, is_canary: bool, context: &mut Context) {
        context.metrics = RuleMetrics::of(rule, &self.metrics).map(|metrics| metrics.counters(is_canary));
        context.rule = Some(Arc::clone(rule));
    }
}

/// What the settings say about the connection that a request came on.
fn begin(session: &mut Session, connection: &ConnectionInfo, settings: &Settings) {
    // Requests that a client sends without waiting are answered one after the other (RFC 9112 section 9.3.2).
    session.set_pipelining_enabled(true);
    session.set_read_timeout(Some(settings.client_body_timeout));
    if connection.handle.begin_request() >= settings.keep_alive_requests {
        session.set_keepalive(None);
    }
}

/// `X-Request-ID`: the client's own, else 32 random hexadecimal digits.
fn request_id(request: &RequestHeader, is_generated: bool) -> Option<HeaderValue> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    if let Some(known) = request.headers.get(&REQUEST_ID.name) {
        return Some(known.clone());
    }
    if !is_generated {
        return None;
    }
    let random = fastrand::u128(..);
    let digits: [u8; 32] = std::array::from_fn(|place| DIGITS[(random >> (4 * place)) as usize & 0xf]);
    HeaderValue::from_bytes(&digits).ok()
}
