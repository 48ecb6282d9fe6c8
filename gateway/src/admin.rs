//! The status and admin endpoints. They have sockets of their own, and nothing of them can be a backend.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use routing::LiveRouting;

use crate::connections::Connections;
use crate::question::Question;
use crate::telemetry::Metrics;

/// What the gateway still waits for before it is ready, and whether it is leaving.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    is_published: AtomicBool,
    is_listening: AtomicBool,
    is_leaving: AtomicBool,
}

/// A dump of the model as JSON, made by whoever owns it.
pub type Dump = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = String> + Send>> + Send + Sync>;

/// What the endpoints tell.
#[derive(Clone)]
pub(crate) struct AdminState {
    /// Whether the gateway is ready.
    pub readiness: Arc<Readiness>,
    /// What is scraped.
    pub metrics: Arc<Metrics>,
    /// All open connections.
    pub connections: Arc<Connections>,
    /// The snapshot of the moment.
    pub live: Arc<LiveRouting>,
    /// Dumps the model.
    pub dump: Dump,
}

// === impl Readiness ===

impl Readiness {
    /// The first complete snapshot is live.
    pub(crate) fn set_published(&self) {
        self.is_published.store(true, Ordering::Release);
    }

    /// All listeners of the snapshot are bound.
    pub(crate) fn set_listening(&self) {
        self.is_listening.store(true, Ordering::Release);
    }

    /// The gateway is about to go: no new traffic, please.
    pub(crate) fn set_leaving(&self) {
        self.is_leaving.store(true, Ordering::Release);
    }

    /// What is missing; `None` when the gateway is ready.
    #[must_use]
    pub(crate) fn missing(&self) -> Option<&'static str> {
        if self.is_leaving.load(Ordering::Acquire) {
            Some("shutting down")
        } else if !self.is_published.load(Ordering::Acquire) {
            Some("resources are not listed yet")
        } else if !self.is_listening.load(Ordering::Acquire) {
            Some("listeners are not bound yet")
        } else {
            None
        }
    }
}

// === routers ===

/// For probes and Prometheus: open to the network.
pub(crate) fn status_router(state: AdminState) -> Router {
    status_routes().with_state(state)
}

/// For the operator: loopback only, by default.
pub(crate) fn admin_router(state: AdminState) -> Router {
    status_routes()
        .route("/nginx_status", get(nginx_status))
        .route("/snapshot", get(snapshot))
        .route("/explain", get(explain))
        .with_state(state)
}

fn status_routes() -> Router<AdminState> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).route("/metrics", get(metrics))
}

/// Whether the process answers; it does not depend on anything outside of it.
async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(state): State<AdminState>) -> Response {
    match state.readiness.missing() {
        None => "ok\n".into_response(),
        Some(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {missing}\n")).into_response(),
    }
}

async fn metrics(State(state): State<AdminState>) -> Response {
    match state.metrics.encode() {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// The page of nginx's `stub_status`.
async fn nginx_status(State(state): State<AdminState>) -> String {
    let counts = state.connections.counts();
    let crate::connections::ConnectionCounts { active, reading, writing, waiting, accepted } = counts;
    let requests = state.metrics.n_requests();
    format!(
        "Active connections: {active} \nserver accepts handled requests\n {accepted} {accepted} {requests} \n\
         Reading: {reading} Writing: {writing} Waiting: {waiting} \n"
    )
}

async fn snapshot(State(state): State<AdminState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], (state.dump)().await)
}

async fn explain(State(state): State<AdminState>, RawQuery(query): RawQuery) -> Response {
    let explanation = Question::from_query(query.as_deref().unwrap_or_default())
        .and_then(|question| question.ask(&state.live.pin()))
        .and_then(|explanation| serde_json::to_string_pretty(&explanation).map_err(Into::into));
    match explanation {
        Ok(json) => ([(CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error:#}\n")).into_response(),
    }
}
