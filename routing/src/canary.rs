//! Which requests of a rule go to its canary: the order of ingress-nginx, in one place.

use crate::cookie::cookie;
use crate::endpoint::Backend;
use crate::model::{Canary, CanaryValues, CookieAffinity};
use crate::request::RequestView;
use crate::session::SessionCookie;

/// A backend with the sessions that it keeps.
#[derive(Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) backend: &'a Backend,
    pub(crate) affinity: Option<&'a CookieAffinity>,
}

/// Whether the canary takes a request: by a session, else by a header, else by a cookie, else by chance.
pub(crate) fn takes(canary: &Canary, primary: Candidate<'_>, own: Candidate<'_>, request: &RequestView<'_>) -> bool {
    if has_session(primary, request) || own.backend.state().endpoints.is_empty() {
        return false;
    }
    if has_session(own, request) {
        return true;
    }
    let said = by_header(canary, request).or_else(|| by_cookie(canary, request));
    said.unwrap_or_else(|| {
        let drawn = (u64::from(request.entropy) * u64::from(canary.total.get())) >> 32;
        drawn < u64::from(canary.weight)
    })
}

fn has_session(candidate: Candidate<'_>, request: &RequestView<'_>) -> bool {
    let cookie = candidate.affinity.and_then(|affinity| SessionCookie::read(request.headers, &affinity.name));
    cookie.is_some_and(|cookie| cookie.backend == Some(candidate.backend.session_key()))
}

fn by_header(canary: &Canary, request: &RequestView<'_>) -> Option<bool> {
    let header = canary.header.as_ref()?;
    let value = request.headers.get(&header.name)?.to_str().ok()?;
    match &header.values {
        CanaryValues::AlwaysOrNever => always_or_never(value),
        CanaryValues::Exact(wanted) => (value == &**wanted).then_some(true),
        CanaryValues::Pattern(pattern) => pattern.is_match(value).then_some(true),
    }
}

fn by_cookie(canary: &Canary, request: &RequestView<'_>) -> Option<bool> {
    always_or_never(cookie(request.headers, canary.cookie.as_ref()?)?)
}

fn always_or_never(value: &str) -> Option<bool> {
    match value {
        "always" => Some(true),
        "never" => Some(false),
        _ => None,
    }
}
