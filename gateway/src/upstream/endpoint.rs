//! What the data plane learns about an endpoint. It is shared by all routes, outlives every snapshot, and is kept in
//! atomics: nobody waits to read or to write it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use routing::Endpoint;

use super::latency::Latency;
use super::outlier::Outlier;
use crate::clock;

/// What is known about an endpoint.
pub(super) struct EndpointState {
    /// Unique among all endpoints of the process: pooled connections are kept apart by it, so that a pod which gets the
    /// address of another never gets its connections.
    pub(super) number: u64,
    /// How soon it answers.
    pub(super) latency: Latency,
    /// What it failed at.
    pub(super) outlier: Outlier,
    /// Whether active checks find it down.
    is_down: AtomicBool,
    /// When active checks found it up again, in microseconds; 0 for never.
    up_since: AtomicU64,
    /// Requests that it works on.
    n_requests: AtomicU32,
    /// When it was first seen, in microseconds.
    began: AtomicU64,
}

/// A request that an endpoint works on, for as long as this lives.
pub(crate) struct InFlight(Arc<Endpoint>);

/// What is known about an endpoint.
pub(super) fn state(endpoint: &Endpoint) -> &EndpointState {
    let state = endpoint.slot.get_or_init(|| EndpointState::new(clock::now()));
    #[expect(clippy::expect_used, reason = "nothing else writes to the slot of an endpoint")]
    state.expect("the slot of an endpoint holds its state")
}

/// A time as an atomic holds it.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

// === impl EndpointState ===

impl EndpointState {
    /// What is known about an endpoint that is seen for the first time.
    pub(super) fn new(now: Duration) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            latency: Latency::default(),
            outlier: Outlier::default(),
            is_down: AtomicBool::new(false),
            up_since: AtomicU64::new(0),
            n_requests: AtomicU32::new(0),
            began: AtomicU64::new(micros(now)),
        }
    }

    pub(super) fn n_requests(&self) -> u32 {
        self.n_requests.load(Ordering::Relaxed)
    }

    /// Whether it gets requests.
    pub(super) fn is_available(&self, now: Duration) -> bool {
        self.is_up() && !self.outlier.is_ejected(now)
    }

    /// Whether active checks have nothing against it.
    pub(super) fn is_up(&self) -> bool {
        !self.is_down.load(Ordering::Relaxed)
    }

    /// Notes what active checks found.
    pub(super) fn set_up(&self, is_up: bool, now: Duration) {
        let was_down = self.is_down.swap(!is_up, Ordering::Relaxed);
        if is_up && was_down {
            self.up_since.store(micros(now), Ordering::Relaxed);
        }
    }

    /// Notes for how long another process has known it, or known it to be back.
    pub(super) fn set_age(&self, age: Duration, now: Duration) {
        self.began.store(micros(now.saturating_sub(age)), Ordering::Relaxed);
    }

    /// How long it has been there, or back: slow start counts from here.
    pub(super) fn age(&self, now: Duration) -> Duration {
        let began = Duration::from_micros(self.began.load(Ordering::Relaxed));
        let up = Duration::from_micros(self.up_since.load(Ordering::Relaxed));
        now.saturating_sub(began.max(up).max(self.outlier.back_since()))
    }
}

// === impl InFlight ===

impl InFlight {
    /// Counts a request.
    #[must_use]
    pub(crate) fn begin(endpoint: &Arc<Endpoint>) -> Self {
        state(endpoint).n_requests.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(endpoint))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        state(&self.0).n_requests.fetch_sub(1, Ordering::Relaxed);
    }
}
