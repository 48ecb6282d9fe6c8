//! Why a request goes where it goes: the same tables as [`decide`](crate::decide()), read slowly.

use serde::{Deserialize, Serialize};

use crate::compile::{CompiledRoute, Conditions};
use crate::decide::{Decision, Reason, decide};
use crate::host::HostName;
use crate::model::Filter;
use crate::request::{ConnectionView, RequestView};
use crate::snapshot::Snapshot;

/// The answer to "which rule takes this request, and why not the others".
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The host that was chosen; `None` when no host fits.
    pub host: Option<String>,
    /// Every route of that host, in the order of precedence.
    pub candidates: Vec<Candidate>,
    /// What is done with the request.
    pub outcome: Outcome,
}

/// A route that was looked at.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// The object and the place in it that the route comes from.
    pub origin: String,
    /// What it wants of the path.
    pub path: String,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of a route.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It takes the request.
    Wins,
    /// It fits too, but comes later in precedence.
    Shadowed,
    /// The path is another.
    PathDiffers,
    /// The method is another.
    MethodDiffers,
    /// This header is missing or another.
    HeaderDiffers(String),
    /// This query parameter is missing or another.
    QueryDiffers(String),
}

/// What is done with a request.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The gateway answers by itself.
    #[serde(rename_all = "camelCase")]
    Answer {
        /// The status.
        status: u16,
        /// Why.
        reason: Reason,
        /// The body.
        body: String,
    },
    /// The client is sent elsewhere.
    #[serde(rename_all = "camelCase")]
    Redirect {
        /// The status.
        status: u16,
        /// Where to.
        location: String,
    },
    /// The request goes to one of these backends.
    #[serde(rename_all = "camelCase")]
    Proxy {
        /// The filters that run, in order.
        filters: Vec<String>,
        /// The backends with their share in percent and their endpoints.
        backends: Vec<BackendShare>,
        /// The path that the upstream sees.
        upstream_path: String,
    },
}

/// A backend of the rule that takes the request.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendShare {
    /// The backend.
    pub backend: String,
    /// Its weight.
    pub weight: u32,
    /// The addresses that it would be sent to.
    pub endpoints: Vec<String>,
}

/// Explains what happens to a request. [`Outcome`] is what [`decide`](crate::decide()) says.
#[must_use]
pub fn explain(snapshot: &Snapshot, request: &RequestView<'_>, connection: &ConnectionView<'_>) -> Explanation {
    let name = HostName::new(request.authority);
    let host = name.and_then(|name| snapshot.listener(connection.listener)?.hosts.find(name.as_str()));
    let mut is_taken = false;
    let candidates = host
        .into_iter()
        .flat_map(|host| host.routes.routes())
        .map(|route| {
            let verdict = match mismatch(route, request) {
                Some(verdict) => verdict,
                None if std::mem::replace(&mut is_taken, true) => Verdict::Shadowed,
                None => Verdict::Wins,
            };
            Candidate { origin: route.rule.rule.origin.to_string(), path: route.path.to_string(), verdict }
        })
        .collect();
    let host = host.map(|host| host.pattern().to_string());
    Explanation { host, candidates, outcome: outcome(decide(snapshot, request, connection), request) }
}

fn mismatch(route: &CompiledRoute, request: &RequestView<'_>) -> Option<Verdict> {
    if !route.path.matches(request.path) {
        return Some(Verdict::PathDiffers);
    }
    let Conditions { method, headers, query } = &**route.conditions.as_ref()?;
    if method.as_ref().is_some_and(|method| method != request.method) {
        return Some(Verdict::MethodDiffers);
    }
    if let Some(header) = headers.iter().find(|header| !header.matches(request.headers)) {
        return Some(Verdict::HeaderDiffers(header.name.to_string()));
    }
    let parameter = query.iter().find(|parameter| !parameter.matches(request.query))?;
    Some(Verdict::QueryDiffers(parameter.name.to_string()))
}

fn outcome(decision: Decision<'_>, request: &RequestView<'_>) -> Outcome {
    match decision {
        Decision::Answer(answer) => {
            Outcome::Answer { status: answer.status, reason: answer.reason, body: answer.body.to_owned() }
        }
        Decision::Redirect(redirect) => Outcome::Redirect { status: redirect.status, location: redirect.location },
        Decision::Proxy(plan) => {
            let rule = &plan.rule.rule;
            let backends = rule
                .backends
                .iter()
                .zip(&plan.rule.targets)
                .map(|(weighted, target)| BackendShare {
                    backend: weighted.backend.as_ref().map_or_else(|| "invalid".to_owned(), ToString::to_string),
                    weight: weighted.weight,
                    endpoints: target.backend.iter().flat_map(|backend| addresses(backend)).collect(),
                })
                .collect();
            Outcome::Proxy {
                filters: rule.filters.iter().map(filter_text).collect(),
                backends,
                upstream_path: plan.rewritten.path.unwrap_or_else(|| request.path.to_owned()),
            }
        }
    }
}

fn addresses(backend: &crate::Backend) -> Vec<String> {
    backend.state().endpoints.iter().map(|endpoint| endpoint.key.address.to_string()).collect()
}

fn filter_text(filter: &Filter) -> String {
    serde_json::to_string(filter).unwrap_or_default()
}
