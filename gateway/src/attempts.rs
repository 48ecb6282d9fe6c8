//! The attempts of one request: which endpoint is next, what a failure says about it, and whether there is another one
//! after it (nginx `proxy_next_upstream`).

use std::sync::Arc;
use std::time::Instant;

use http::header;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, RetryType};
use routing::model::{CookieAffinity, Ejection, RetryCondition};
use routing::{Backend, Endpoint, Scheme, SessionCookie};

use crate::clock;
use crate::context::{Context, Proxied};
use crate::telemetry::Metrics;
use crate::upstream::{self, Choice, InFlight, Seat, SetCookie};

/// Marks the error of a request for which there is no endpoint.
pub(crate) const NO_ENDPOINTS: ErrorType = ErrorType::Custom("no endpoints");

/// Marks the error of a request whose upstream nobody could vouch for.
pub(crate) const NO_TRUST: ErrorType = ErrorType::Custom("no trust");

/// How far an attempt got before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The upstream has nothing of the request.
    Unsent,
    /// It may have acted upon it.
    Sent,
}

/// Picks the endpoint of the next attempt, which is never one that failed before.
pub(crate) fn next(session: &Session, context: &mut Context) -> pingora::Result<Box<HttpPeer>> {
    let Context { rule: Some(rule), route: Some(route), snapshot: Some(snapshot), client: Some(client), .. } = context
    else {
        return Error::e_explain(ErrorType::InternalError, "request without a route");
    };
    route.failed.extend(route.endpoint.take());
    context.body_bytes = 0;
    let policy = &rule.rule.upstream;
    let choice =
        Choice { balance: policy.balance(route.is_canary), hash: route.hash, failed: &route.failed, now: clock::now() };
    let mut endpoint = match policy.affinity(route.is_canary) {
        None => upstream::select(&route.backend, &choice),
        Some(affinity) => seat(session.req_header(), &route.backend, &choice, affinity).map(|seat| {
            route.is_seated = seat.is_kept && !affinity.changes_on_failure;
            let set_cookie = |key: String| {
                let set_cookie = SetCookie {
                    affinity,
                    backend: &route.backend,
                    key: &key,
                    path: &rule.rule.path,
                    is_https: client.scheme == Scheme::Https,
                    user_agent: text(session.req_header(), header::USER_AGENT),
                    unix_now: clock::unix_now(),
                };
                set_cookie.text()
            };
            route.set_cookie = seat.new_key.map(set_cookie).or(route.set_cookie.take());
            seat.endpoint
        }),
    };
    if endpoint.is_none()
        && route.failed.is_empty()
        && let Some(fallback) = &rule.fallback
    {
        endpoint = upstream::select(fallback, &choice);
        route.backend = Arc::clone(fallback);
        route.is_fallback = true;
    }
    let Some(endpoint) = endpoint else {
        return Error::e_explain(NO_ENDPOINTS, "no endpoint takes requests");
    };
    let now = Instant::now();
    if route.first_attempt.is_none() {
        route.first_attempt = Some(now);
        upstream::pay_in(&route.backend);
    }
    let protocol = upstream::protocol(policy, route.backend.state().protocol, client.scheme);
    let mut peer = upstream::peer(&endpoint, protocol, policy, snapshot.settings());
    if upstream::prepare_trust(rule, &mut peer).is_err() {
        return Error::e_explain(NO_TRUST, "nobody to vouch for the upstream");
    }
    if protocol.is_http1() && session.is_upgrade_req() {
        upstream::prepare_tunnel(&mut peer);
    }
    route.in_flight = Some(InFlight::begin(&endpoint));
    route.endpoint = Some(endpoint);
    route.attempt_began = now;
    Ok(peer)
}

fn seat(request: &RequestHeader, backend: &Backend, choice: &Choice<'_>, affinity: &CookieAffinity) -> Option<Seat> {
    let cookie = SessionCookie::read(&request.headers, &affinity.name);
    upstream::seat(backend, choice, affinity, cookie.map(|cookie| cookie.endpoint), clock::unix_now())
}

fn text(request: &RequestHeader, name: header::HeaderName) -> &str {
    request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Notes that the endpoint answered, and returns whether the answer is to be dropped for another endpoint's.
pub(crate) fn answered(session: &Session, context: &mut Context, status: u16, metrics: &Metrics) -> bool {
    let Context { rule: Some(rule), route: Some(route), .. } = context else { return false };
    let sample = route.attempt_began.elapsed();
    route.header_time = Some(sample);
    route.status = Some(status);
    let Some(endpoint) = &route.endpoint else { return false };
    let now = clock::now();
    upstream::observe_latency(endpoint, sample, now);
    if rule.rule.upstream.balance.ejection == Ejection::FailuresAndServerErrors && status >= 500 {
        fail(route, metrics);
    } else {
        upstream::succeed(endpoint, now);
    }
    let condition = RetryCondition::of_status(status);
    condition.is_some_and(|condition| may_repeat(session, context, condition, Progress::Sent, metrics))
}

/// Decides what an error of an attempt means for the request: the error says so to Pingora afterwards.
pub(crate) fn failed(
    session: &Session,
    context: &mut Context,
    error: &mut Error,
    progress: Progress,
    is_reused: bool,
    metrics: &Metrics,
) {
    if matches!(error.etype(), ErrorType::Custom(_) | ErrorType::CustomCode(..)) {
        // What we found wrong ourselves is wrong everywhere.
        error.set_retry(false);
        return;
    }
    if error.retry == RetryType::Decided(true) && matches!(error.etype(), ErrorType::HTTPStatus(_)) {
        // An answer that was dropped: `answered` has decided.
        return;
    }
    // HTTP/2 says of a request that it was not worked on (RFC 9113 section 8.7).
    let progress = if error.retry == RetryType::Decided(true) { Progress::Unsent } else { progress };
    let is_stale = is_reused && error.retry == RetryType::ReusedOnly;
    let Some(condition) = condition(error) else {
        error.set_retry(false);
        return;
    };
    if let Some(route) = &mut context.route {
        if is_stale && !std::mem::replace(&mut route.met_stale_connection, true) {
            // A kept connection that died says nothing about its endpoint, which may be asked again, once.
            route.endpoint = None;
        } else if context.rule.as_ref().is_some_and(|rule| rule.rule.upstream.balance.ejection != Ejection::Off) {
            fail(route, metrics);
        }
    }
    error.set_retry(may_repeat(session, context, condition, progress, metrics));
}

/// The condition of nginx that an error meets; `None` when the upstream is not to blame.
fn condition(error: &Error) -> Option<RetryCondition> {
    use ErrorType::{ConnectTimedout, InvalidHTTPHeader, ReadTimedout, TLSHandshakeTimedout, WriteTimedout};
    if *error.esource() != ErrorSource::Upstream {
        return None;
    }
    Some(match error.etype() {
        ConnectTimedout | TLSHandshakeTimedout | ReadTimedout | WriteTimedout => RetryCondition::Timeout,
        InvalidHTTPHeader => RetryCondition::InvalidHeader,
        _ => RetryCondition::Error,
    })
}

fn fail(route: &Proxied, metrics: &Metrics) {
    let Some(endpoint) = &route.endpoint else { return };
    if let Some(until) = upstream::fail(&route.backend, endpoint, clock::now()) {
        metrics.ejections.inc();
        let seconds = until.saturating_sub(clock::now()).as_secs();
        tracing::info!(endpoint = %endpoint.key.address, backend = %route.backend.reference(), seconds, "ejected");
    }
}

/// Whether another endpoint may get the request. The order of the questions matters: the last one costs something.
fn may_repeat(
    session: &Session,
    context: &Context,
    condition: RetryCondition,
    progress: Progress,
    metrics: &Metrics,
) -> bool {
    let (Some(rule), Some(route)) = (&context.rule, &context.route) else { return false };
    let retries = &rule.rule.upstream.retries;
    let is_wanted = retries.conditions.contain(condition);
    let is_harmless = progress == Progress::Unsent
        || retries.conditions.contain(RetryCondition::NonIdempotent)
        || session.req_header().method.is_idempotent();
    // What was read of the body has to be there still, and nothing of an answer may have gone out.
    let is_possible = !session.as_ref().retry_buffer_truncated()
        && session.response_written().is_none_or(|response| response.status.is_informational());
    let n_tried = route.failed.len() + usize::from(route.endpoint.is_some());
    let is_in_number = retries.tries == 0 || u32::try_from(n_tried).is_ok_and(|n_tried| n_tried < retries.tries);
    let is_in_time = retries
        .timeout
        .is_none_or(|timeout| route.first_attempt.is_none_or(|first_attempt| first_attempt.elapsed() < timeout));
    if !(is_wanted && is_harmless && is_possible && is_in_number && is_in_time && has_another(route)) {
        return false;
    }
    // A connection that was refused is no load, so that a request may look for the endpoint that is well; it is when
    // all of them refuse that looking has to be paid for.
    let is_free = progress == Progress::Unsent && has_another_that_is_well(route);
    let is_affordable = is_free || upstream::take_retry(&route.backend, clock::now());
    let counter = if is_affordable { &metrics.retries.made } else { &metrics.retries.over_budget };
    counter.inc();
    is_affordable
}

/// Whether the backend has an endpoint that did not fail for this request.
fn has_another(route: &Proxied) -> bool {
    !route.is_seated && others(route, |_| true)
}

/// Whether it has one that has not failed for others either.
fn has_another_that_is_well(route: &Proxied) -> bool {
    others(route, upstream::is_well)
}

fn others(route: &Proxied, is_wanted: impl Fn(&Endpoint) -> bool) -> bool {
    let did_fail = |endpoint: &Arc<Endpoint>| {
        route.failed.iter().chain(&route.endpoint).any(|failed| Arc::ptr_eq(failed, endpoint))
    };
    route.backend.state().endpoints.iter().any(|endpoint| !did_fail(endpoint) && is_wanted(endpoint))
}
