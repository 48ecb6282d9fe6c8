//! What is known about one request while it is worked on.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use pingora::http::RequestHeader;
use routing::{Backend, CompiledRule, ConnectionView, Endpoint, Plan, RequestView, RewrittenRequest, Scheme, Snapshot};

use crate::connection::ConnectionInfo;
use crate::failure::Failure;
use crate::filter::{Admission, Compressor, RequestCopy};
use crate::gate;
use crate::telemetry::RouteMetrics;
use crate::upstream::InFlight;

/// What is known about one request. Pingora carries it from phase to phase.
pub(crate) struct Context {
    /// When the request was there.
    pub started: Instant,
    /// The connection that it came on.
    pub connection: Option<Arc<ConnectionInfo>>,
    /// The one state of the configuration that it is decided by.
    pub snapshot: Option<Arc<Snapshot>>,
    /// The client, behind trusted proxies if there are any.
    pub client: Option<Client>,
    /// The `X-Request-ID`; `None` when the settings want none and the client sent none.
    pub request_id: Option<HeaderValue>,
    /// The target as it was received, where normalisation changed it.
    pub received_target: Option<Arc<str>>,
    /// The path that its rule was found by, to be compared with the one that is forwarded.
    #[cfg(debug_assertions)]
    pub matched_path: Box<str>,
    /// The rule that took it.
    pub rule: Option<Arc<CompiledRule>>,
    /// Counters of the rule.
    pub metrics: Option<Arc<RouteMetrics>>,
    /// What its answer is compressed by.
    pub compressor: Option<Compressor>,
    /// Bytes of its body that have passed, in the current attempt.
    pub body_bytes: u64,
    /// Its copy for a mirror, until its body is whole.
    pub copy: Option<Box<RequestCopy>>,
    /// Where it goes.
    pub route: Option<Proxied>,
    /// Why the gateway answered by itself.
    pub failure: Option<Failure>,
    /// What it was let through with.
    pub admission: Admission,
}

/// The client of a request, as far as the gateway believes what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// Its address.
    pub address: IpAddr,
    /// The scheme that it used.
    pub scheme: Scheme,
    /// Whether the headers of a trusted proxy were believed.
    pub is_forwarded: bool,
}

/// A request on its way to an upstream.
pub(crate) struct Proxied {
    /// The backend; the fallback one, once the first had no endpoint.
    pub backend: Arc<Backend>,
    /// Whether it is the canary of the rule.
    pub is_canary: bool,
    /// Whether it is the fallback.
    pub is_fallback: bool,
    /// What the upstream sees otherwise than it was asked for.
    pub rewritten: RewrittenRequest,
    /// The sum of the key that the endpoint is chosen by.
    pub hash: u32,
    /// The endpoint of the current attempt.
    pub endpoint: Option<Arc<Endpoint>>,
    /// Counts the request for its endpoint.
    pub in_flight: Option<InFlight>,
    /// Endpoints that failed before.
    pub failed: Vec<Arc<Endpoint>>,
    /// Whether the endpoint is that of a session which stays with it, come what may.
    pub is_seated: bool,
    /// The `Set-Cookie` of a new session.
    pub set_cookie: Option<String>,
    /// When the first attempt began.
    pub first_attempt: Option<Instant>,
    /// Whether an attempt failed because a kept connection had died.
    pub met_stale_connection: bool,
    /// When the current attempt began.
    pub attempt_began: Instant,
    /// How long connecting took; zero for a kept connection.
    pub connect_time: Option<Duration>,
    /// When the head of the answer was there, since the attempt began.
    pub header_time: Option<Duration>,
    /// The status of the upstream's answer.
    pub status: Option<u16>,
    /// Bytes of the answer's body that the relay received.
    pub relayed: Option<usize>,
}

impl Context {
    /// Starts the clock.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            connection: None,
            snapshot: None,
            client: None,
            request_id: None,
            received_target: None,
            #[cfg(debug_assertions)]
            matched_path: Box::default(),
            rule: None,
            metrics: None,
            compressor: None,
            body_bytes: 0,
            copy: None,
            route: None,
            failure: None,
            admission: Admission::default(),
        }
    }
}

impl Context {
    /// Borrowed views of the request and its connection, for what the settings and rules look at.
    #[must_use]
    pub(crate) fn views<'a>(
        &self,
        request: &'a RequestHeader,
        connection: &'a ConnectionInfo,
    ) -> (RequestView<'a>, ConnectionView<'a>) {
        let client = self.client.unwrap_or(Client {
            address: connection.sender(),
            scheme: connection.scheme,
            is_forwarded: false,
        });
        let request = RequestView {
            method: &request.method,
            authority: gate::authority(request),
            path: request.uri.path(),
            query: request.uri.query().unwrap_or_default(),
            received: None,
            headers: &request.headers,
            entropy: fastrand::u32(..),
        };
        let connection = ConnectionView {
            listener: &connection.listener,
            scheme: client.scheme,
            client: client.address,
            server_name: connection.server_name.as_deref(),
        };
        (request, connection)
    }

    /// The path that the rule was found by, or the one that the rule makes of it, is the path that is forwarded.
    #[cfg(debug_assertions)]
    pub(crate) fn assert_same_path(&self, target: &[u8]) {
        let forwarded = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        let rewritten = self.route.as_ref().and_then(|route| route.rewritten.path.as_deref());
        let expected = rewritten.unwrap_or(&self.matched_path);
        assert_eq!(forwarded.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

impl Proxied {
    /// A request that was decided to go this way.
    #[must_use]
    pub(crate) fn new(plan: Plan<'_>) -> Self {
        let Plan { rule: _, backend, is_canary, rewritten, hash } = plan;
        Self {
            backend: Arc::clone(backend),
            is_canary,
            is_fallback: false,
            rewritten,
            hash,
            endpoint: None,
            in_flight: None,
            failed: Vec::new(),
            is_seated: false,
            set_cookie: None,
            first_attempt: None,
            met_stale_connection: false,
            attempt_began: Instant::now(),
            connect_time: None,
            header_time: None,
            status: None,
            relayed: None,
        }
    }
}
