//! The one decision function. The proxy, `explain` and every later front end are adapters of it.

use std::sync::Arc;

use http::Method;
use serde::{Deserialize, Serialize};

use crate::canary::{Candidate, takes};
use crate::compile::{CompiledHost, CompiledRoute, CompiledRule};
use crate::endpoint::Backend;
use crate::host::HostName;
use crate::model::{Algorithm, Filter};
use crate::path::PathMatch;
use crate::redirect::{applies, location};
use crate::request::{ConnectionView, RequestView};
use crate::rewrite::RewrittenRequest;
use crate::snapshot::Snapshot;
use crate::template::Values;

/// What cloud load balancers ask the catch-all host for, as they ask ingress-nginx.
const HEALTH_PATH: &str = "/healthz";
/// What nobody claims is answered with this, as ingress-nginx's default backend answers.
const NOT_FOUND: &str = "default backend - 404";

/// What to do with a request.
#[derive(Debug)]
pub enum Decision<'s> {
    /// Answer it.
    Answer(Answer<'s>),
    /// Send the client elsewhere.
    Redirect(Redirection<'s>),
    /// Send it to an upstream.
    Proxy(Plan<'s>),
}

/// An answer of the gateway itself.
#[derive(Debug)]
pub struct Answer<'s> {
    /// The status.
    pub status: u16,
    /// Why.
    pub reason: Reason,
    /// The body.
    pub body: &'s str,
    /// The rule that decided; `None` when none was found.
    pub rule: Option<&'s Arc<CompiledRule>>,
}

/// A redirect.
#[derive(Debug)]
pub struct Redirection<'s> {
    /// The status.
    pub status: u16,
    /// The value of `Location`.
    pub location: String,
    /// The rule that decided.
    pub rule: &'s Arc<CompiledRule>,
}

/// A request on its way to an upstream.
#[derive(Debug)]
pub struct Plan<'s> {
    /// The rule. Its filters on headers, and mirrors, are still to be run.
    pub rule: &'s Arc<CompiledRule>,
    /// The backend that was picked.
    pub backend: &'s Arc<Backend>,
    /// Whether it is the canary's.
    pub is_canary: bool,
    /// What the upstream sees otherwise than it was asked for.
    pub rewritten: RewrittenRequest,
    /// The sum of the key that the endpoint is chosen by; 0 where it is chosen otherwise.
    pub hash: u32,
}

/// Why the gateway answers by itself: the `reason` of metrics and access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No host of the listener fits.
    HostNotFound,
    /// The host has no route that fits.
    RouteNotFound,
    /// The health check of the catch-all host.
    Health,
    /// The rule asks for a restriction that cannot be evaluated.
    Denied,
    /// The rule answers by itself.
    Direct,
    /// A browser asks what it may ask.
    Preflight,
    /// The reference to the backend cannot be followed, or no backend has a weight.
    BackendInvalid,
    /// The rewritten path is not one that can be forwarded.
    RewriteInvalid,
}

impl Decision<'_> {
    /// Whether the guards of the rule stand before it. They do not where nginx would have answered already, in its
    /// rewrite phase: a redirect leads everybody to where they are asked.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        match self {
            Self::Proxy(_) => true,
            Self::Answer(answer) => matches!(answer.reason, Reason::Direct | Reason::RouteNotFound),
            Self::Redirect(_) => false,
        }
    }
}

/// Decides what to do with a request. Total: every request gets a decision, and nothing is kept.
#[must_use]
pub fn decide<'s>(snapshot: &'s Snapshot, request: &RequestView<'_>, connection: &ConnectionView<'_>) -> Decision<'s> {
    let host_name = HostName::new(request.authority);
    let table = snapshot.listener(connection.listener);
    let found = host_name.as_ref().and_then(|name| table?.hosts.find(name.as_str()));
    let route = found.and_then(|host| host.routes.find(request));
    if request.path == HEALTH_PATH && is_health_check(found, route) {
        return Decision::Answer(Answer { status: 200, reason: Reason::Health, body: "", rule: None });
    }
    match (host_name, found, route) {
        (Some(name), Some(_), Some(route)) => apply(snapshot, request, connection, &name, route),
        (_, found, _) => {
            let reason = if found.is_some() { Reason::RouteNotFound } else { Reason::HostNotFound };
            Decision::Answer(Answer { status: 404, reason, body: NOT_FOUND, rule: None })
        }
    }
}

/// Whether `/healthz` is the gateway's own: on the catch-all host, unless a route there claims more than `/`.
fn is_health_check(host: Option<&CompiledHost>, route: Option<&CompiledRoute>) -> bool {
    host.is_none_or(|host| host.is_any())
        && route.is_none_or(|route| matches!(&route.path, PathMatch::Prefix(prefix) if prefix.as_bytes().is_empty()))
}

/// Runs the filters of a route that decide, and picks a backend.
fn apply<'s>(
    snapshot: &'s Snapshot,
    request: &RequestView<'_>,
    connection: &ConnectionView<'_>,
    host_name: &HostName,
    route: &'s CompiledRoute,
) -> Decision<'s> {
    let rule = &route.rule;
    // With many routes, a rule is not in the processor's cache: where nothing is to be decided it is not read.
    if let Some(backend) = &route.only_backend {
        let rewritten = RewrittenRequest::default();
        return Decision::Proxy(Plan { rule, backend, is_canary: false, rewritten, hash: 0 });
    }
    let answer = |status, reason, body| Decision::Answer(Answer { status, reason, body, rule: Some(rule) });
    let pattern = if let PathMatch::Regex(pattern) = &route.path { Some(pattern) } else { None };
    let values = Values { request, connection, host: host_name, pattern };
    let mut rewritten = RewrittenRequest::default();
    for filter in rule.filters.iter() {
        match filter {
            Filter::Deny(explanation) => return answer(503, Reason::Denied, explanation),
            Filter::NotFound => return answer(404, Reason::RouteNotFound, NOT_FOUND),
            Filter::Respond(response) => return answer(response.status, Reason::Direct, &response.body),
            Filter::Redirect(redirect) if applies(&redirect.when, snapshot, &values) => {
                return match location(redirect, snapshot, route, &values) {
                    Some(location) => Decision::Redirect(Redirection { status: redirect.status, location, rule }),
                    None => answer(400, Reason::RewriteInvalid, ""),
                };
            }
            Filter::Rewrite(rewrite) => {
                if rewritten.apply(rewrite, route, &values).is_none() {
                    return answer(400, Reason::RewriteInvalid, "");
                }
            }
            // nginx answers these in its rewrite phase, before it asks who is there: a browser sends no credentials.
            Filter::Cors(_) if is_preflight(rule, request) => return answer(204, Reason::Preflight, ""),
            // These change headers or send copies: the data plane runs them from the rule.
            Filter::Redirect(_)
            | Filter::RequestHeaders(_)
            | Filter::ResponseHeaders(_)
            | Filter::Mirror(_)
            | Filter::Cors(_) => {}
        }
    }
    match rule.pick(request.entropy).and_then(|target| target.backend.as_ref()) {
        Some(primary) => {
            let canary = canary(rule, primary, request);
            let hash = if rule.has_key { hash(rule, canary.is_some(), &values) } else { 0 };
            let backend = canary.unwrap_or(primary);
            Decision::Proxy(Plan { rule, backend, is_canary: canary.is_some(), rewritten, hash })
        }
        None => answer(500, Reason::BackendInvalid, ""),
    }
}

/// ingress-nginx takes every `OPTIONS` of an allowed origin for a preflight.
fn is_preflight(rule: &CompiledRule, request: &RequestView<'_>) -> bool {
    let cors = rule.cors.as_ref().filter(|_| request.method == Method::OPTIONS);
    cors.is_some_and(|cors| cors.allowed_origin(request.headers).is_some())
}

/// The sum of the key that the endpoint is chosen by.
fn hash(rule: &CompiledRule, is_canary: bool, values: &Values<'_>) -> u32 {
    match &rule.rule.upstream.balance(is_canary).algorithm {
        Algorithm::Hash { key, .. } => key.sum(values),
        Algorithm::RoundRobin | Algorithm::Ewma | Algorithm::LeastRequests => 0,
    }
}

/// The backend of the canary, when it takes the request.
fn canary<'s>(rule: &'s CompiledRule, primary: &Backend, request: &RequestView<'_>) -> Option<&'s Arc<Backend>> {
    let backend = rule.canary.as_ref()?;
    let policy = &rule.rule.upstream;
    let canary = policy.canary.as_ref()?;
    let primary = Candidate { backend: primary, affinity: policy.affinity(false) };
    let own = Candidate { backend, affinity: policy.affinity(true) };
    takes(canary, primary, own, request).then_some(backend)
}
