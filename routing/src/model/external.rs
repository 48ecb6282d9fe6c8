//! External authentication: who is asked about each request, how, and what the answer is worth (nginx `auth_request`).

use std::time::Duration;

use http::{HeaderName, Method};
use serde::{Serialize, Serializer};

use super::rule::optional_seconds;
use super::url::ServerUrl;
use crate::settings::HeaderText;
use crate::template::Template;

/// A server that is asked about each request before it goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExternalAuth {
    /// What it is asked.
    pub url: ServerUrl,
    /// The method of the question. `None` is GET, without the headers that ingress-nginx adds to a method of its own.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "method")]
    pub method: Option<Method>,
    /// Headers of the question beside those of the request.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub request_headers: Box<[HeaderText]>,
    /// Where it is told that a client should be sent afterwards; `None` for the target of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Template>,
    /// Headers of the answer that upstreams get. What a client says in them never reaches an upstream.
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "names")]
    pub response_headers: Box<[HeaderName]>,
    /// Where clients go to say who they are; `None` answers them with 401.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signin: Option<Template>,
    /// Which answers to clients get the cookies of the server.
    #[serde(skip_serializing_if = "CookieScope::is_default")]
    pub cookies: CookieScope,
    /// How long answers hold for other requests; `None` for not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<AuthCache>,
    /// How long an idle connection to it stays open; `None` leaves it to the settings.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_seconds")]
    pub keep_alive: Option<Duration>,
}

/// Which answers to clients get the cookies of an authentication server (nginx `add_header`, with `always` or without).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CookieScope {
    /// Those that say that all is well.
    #[default]
    Success,
    /// All.
    Always,
}

/// How long answers hold for requests with the same key (nginx `proxy_cache_key`, `proxy_cache_valid`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthCache {
    /// What requests must have in common, beside their rule.
    pub key: Template,
    /// How long, by the status of the answer. The first that names a status counts.
    pub valid: Box<[Validity]>,
}

/// How long answers with some statuses hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The statuses.
    pub statuses: Box<[u16]>,
    /// The time.
    pub time: Duration,
}

impl AuthCache {
    /// How long an answer with this status holds; `None` for not at all.
    #[must_use]
    pub fn time_of(&self, status: u16) -> Option<Duration> {
        self.valid.iter().find(|validity| validity.statuses.contains(&status)).map(|validity| validity.time)
    }
}

impl CookieScope {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Serialize for Validity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:?} {}s", self.statuses, self.time.as_secs()))
    }
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn method<S: Serializer>(method: &Option<Method>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(method.as_ref().map_or("", Method::as_str))
}

fn names<S: Serializer>(names: &[HeaderName], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(HeaderName::as_str))
}
