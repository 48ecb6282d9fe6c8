//! Routes and rules: what a request must be, and what happens to it then.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde::{Serialize, Serializer};

use super::affinity::CookieAffinity;
use super::backend::BackendRef;
use super::balance::Balance;
use super::canary::Canary;
use super::error_pages::ErrorPages;
use super::filter::Filter;
use super::guard::Guards;
use super::retries::Retries;
use super::sizes::SizeLimits;
use super::upstream_tls::UpstreamTls;
use crate::matcher::{HeaderMatch, QueryMatch};
use crate::path::PathMatch;

/// One way to reach a rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    /// What a request must be.
    pub matches: RouteMatch,
    /// Where the route stands among others of equal place.
    #[serde(skip)]
    pub rank: Rank,
    /// What happens then.
    pub rule: Arc<Rule>,
}

/// What a request must be. All parts must hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouteMatch {
    /// The path.
    pub path: PathMatch,
    /// The method; `None` for every method.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "method_as_text")]
    pub method: Option<Method>,
    /// Headers that must be there.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub headers: Box<[HeaderMatch]>,
    /// Query parameters that must be there.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub query: Box<[QueryMatch]>,
}

/// What decides between two routes of equal place. Not part of the model's hash: a file has no creation time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// Which specification orders objects of equal age.
    pub order: Order,
    /// Creation time of the object in seconds since 1970; `None` for a file without one, which counts as oldest.
    pub created: Option<i64>,
    /// The index of the rule in its object.
    pub rule: u32,
    /// The index of the match, or of the Ingress path, in its rule.
    pub entry: u32,
}

/// Which specification orders objects of equal age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// ingress-nginx: `namespace/name` descending.
    Ingress,
    /// Gateway API: `namespace/name` ascending.
    GatewayApi,
}

/// The object and the place in it that something came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The kind of the object, such as `Ingress`.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// The place in it, such as `rules[0].paths[1]`; empty for the whole object.
    pub place: Box<str>,
}

/// What happens to the requests of a route.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// Where it came from.
    pub origin: Origin,
    /// The path as its author wrote it: the `path` label of the metrics.
    pub path: Box<str>,
    /// The host as its author wrote it: the `host` label of the metrics; empty for every host.
    pub host: Box<str>,
    /// What is done to requests and answers, in this order. Many rules share one list.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub filters: Arc<[Filter]>,
    /// What a request must get past before it goes on; `None` where there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guards: Option<Arc<Guards>>,
    /// Where requests go.
    pub backends: Vec<WeightedBackend>,
    /// Where they go instead when the chosen backend has no endpoint (ingress-nginx `default-backend`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<BackendRef>,
    /// What replaces answers with an error; `None` leaves them as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_pages: Option<Arc<ErrorPages>>,
    /// Whether its requests are logged (ingress-nginx `enable-access-log`).
    #[serde(skip_serializing_if = "LoggedRequests::is_default")]
    pub logged: LoggedRequests,
    /// How large bodies and heads may be.
    #[serde(skip_serializing_if = "SizeLimits::is_default")]
    pub sizes: SizeLimits,
    /// How the connection to the upstream is made.
    pub upstream: Arc<UpstreamPolicy>,
}

impl Rule {
    /// A rule that sends requests on as they are.
    #[must_use]
    pub fn new(origin: Origin, backends: Vec<WeightedBackend>) -> Self {
        Self {
            origin,
            path: "".into(),
            host: "".into(),
            filters: Arc::default(),
            guards: None,
            backends,
            fallback: None,
            error_pages: None,
            logged: LoggedRequests::default(),
            sizes: SizeLimits::default(),
            upstream: Arc::default(),
        }
    }
}

/// Which requests of a rule are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LoggedRequests {
    /// All.
    #[default]
    All,
    /// None.
    None,
}

/// A backend and its share of the requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightedBackend {
    /// The backend; `None` for a reference that cannot be followed, whose share is answered with an error.
    pub backend: Option<BackendRef>,
    /// Its weight. Requests are shared in proportion; 0 gets none.
    pub weight: u32,
    /// Filters for this backend's requests only (Gateway API `HTTPBackendRef`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
}

/// The way to the upstream: where it leads, how the connection is made, how long it may take.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct UpstreamPolicy {
    /// The protocol; `None` leaves it to the backend's own `appProtocol`.
    pub protocol: Option<UpstreamProtocol>,
    /// TLS to the upstream, where the protocol asks for it.
    pub tls: UpstreamTls,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// What happens when an attempt fails.
    pub retries: Retries,
    /// Which endpoint is chosen for a request without a session.
    pub balance: Balance,
    /// How sessions stay with an endpoint; `None` for no sessions.
    pub affinity: Option<Arc<CookieAffinity>>,
    /// A second backend for some of the requests.
    pub canary: Option<Arc<Canary>>,
}

/// The protocol towards the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum UpstreamProtocol {
    /// HTTP/1.1 in plain text; WebSocket included.
    #[serde(rename = "HTTP")]
    Http,
    /// HTTP/1.1 over TLS.
    #[serde(rename = "HTTPS")]
    Https,
    /// The scheme that the client used (ingress-nginx `AUTO_HTTP`).
    #[serde(rename = "AUTO_HTTP")]
    Auto,
    /// HTTP/2 in plain text with prior knowledge (RFC 9113 section 3.3), for gRPC.
    #[serde(rename = "H2C")]
    H2c,
    /// HTTP/2 over TLS, for gRPC.
    #[serde(rename = "H2")]
    H2,
}

/// How long things may take. Every limit is there: nothing waits for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// To establish a connection, TLS included.
    #[serde(serialize_with = "seconds")]
    pub connect: Duration,
    /// Between two reads from the upstream.
    #[serde(serialize_with = "seconds")]
    pub read: Duration,
    /// Between two writes to the upstream.
    #[serde(serialize_with = "seconds")]
    pub write: Duration,
    /// For the whole request, retries included (Gateway API `timeouts.request`); `None` leaves it to the others.
    #[serde(serialize_with = "optional_seconds")]
    pub request: Option<Duration>,
    /// For one attempt (Gateway API `timeouts.backendRequest`).
    #[serde(serialize_with = "optional_seconds")]
    pub backend_request: Option<Duration>,
}

/// A certificate by reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct CertificateRef {
    /// The namespace of the Secret.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
}

// === impls ===

impl LoggedRequests {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Timeouts {
    /// The defaults of ingress-nginx (`proxy-connect-timeout`, `proxy-read-timeout`, `proxy-send-timeout`).
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(60),
            write: Duration::from_secs(60),
            request: None,
            backend_request: None,
        }
    }
}

impl UpstreamPolicy {
    /// The canary, for a request that goes to it.
    #[must_use]
    pub fn canary_if(&self, is_canary: bool) -> Option<&Canary> {
        self.canary.as_deref().filter(|_| is_canary)
    }

    /// How an endpoint is chosen for a request that goes to the canary, or does not.
    #[must_use]
    pub fn balance(&self, is_canary: bool) -> &Balance {
        self.canary_if(is_canary).map_or(&self.balance, |canary| &canary.balance)
    }

    /// How sessions stay with an endpoint, for a request that goes to the canary, or does not.
    #[must_use]
    pub fn affinity(&self, is_canary: bool) -> Option<&CookieAffinity> {
        self.canary_if(is_canary).map_or(&self.affinity, |canary| &canary.affinity).as_deref()
    }
}

impl RouteMatch {
    /// A match on the path alone.
    #[must_use]
    pub fn path(path: PathMatch) -> Self {
        Self { path, method: None, headers: Box::default(), query: Box::default() }
    }
}

impl WeightedBackend {
    /// The only backend of a rule.
    #[must_use]
    pub fn only(backend: BackendRef) -> Self {
        Self { backend: Some(backend), weight: 1, filters: Vec::new() }
    }
}

impl Origin {
    /// The object, without the place in it.
    #[must_use]
    pub fn object(&self) -> impl fmt::Display + '_ {
        struct Object<'a>(&'a Origin);
        impl fmt::Display for Object<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} {}/{}", self.0.kind, self.0.namespace, self.0.name)
            }
        }
        Object(self)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.object())?;
        if self.place.is_empty() { Ok(()) } else { write!(f, " {}", self.place) }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for CertificateRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn method_as_text<S: Serializer>(method: &Option<Method>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(method.as_ref().map_or("", Method::as_str))
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}s", duration.as_secs_f64()))
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
pub(super) fn optional_seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => seconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}
