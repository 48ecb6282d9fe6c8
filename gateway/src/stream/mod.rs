//! What is neither HTTP nor TLS of ours: streams of TCP and sessions of UDP are passed on to endpoints as they are.
//!
//! It owns how an endpoint is found and reached for them, and must not look at what they carry.

mod tcp;
mod udp;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use routing::model::{Balance, ListenerKey};
use routing::{Backend, CompiledStream, Endpoint, StreamSettings};

pub(crate) use tcp::serve as serve_tcp;
pub(crate) use udp::{Datagrams, bind as bind_udp};

use crate::clock;
use crate::connections::{ConnectionHandle, Shortage};
use crate::telemetry::{Metrics, StreamCounters};
use crate::upstream::{self, Choice};

/// The endpoints that one connection or session tries, one after the other.
struct Attempts<'a> {
    backend: &'a Arc<Backend>,
    settings: &'a StreamSettings,
    metrics: &'a Metrics,
    began: Instant,
    failed: Vec<Arc<Endpoint>>,
}

impl<'a> Attempts<'a> {
    /// None was tried yet. `None` when the route leads nowhere.
    fn new(stream: &'a CompiledStream, settings: &'a StreamSettings, metrics: &'a Metrics) -> Option<Self> {
        let backend = stream.pick(fastrand::u32(..))?.backend.as_ref()?;
        Some(Self { backend, settings, metrics, began: Instant::now(), failed: Vec::new() })
    }

    /// The next endpoint; `None` when there is none left, or when no more of them are to be tried.
    fn next(&self) -> Option<Arc<Endpoint>> {
        let StreamSettings { next_upstream, next_upstream_timeout, next_upstream_tries: tries, .. } = *self.settings;
        let is_over = next_upstream_timeout.is_some_and(|limit| self.began.elapsed() >= limit)
            || (tries > 0 && usize::try_from(tries).is_ok_and(|tries| self.failed.len() >= tries));
        if !self.failed.is_empty() && (!next_upstream || is_over) {
            return None;
        }
        let balance = Balance::default();
        upstream::select(self.backend, &Choice { balance: &balance, hash: 0, failed: &self.failed, now: clock::now() })
    }

    /// The endpoint cannot be reached.
    fn fail(&mut self, endpoint: Arc<Endpoint>, error: &io::Error) {
        blame(self.backend, &endpoint, error, self.settings, self.metrics);
        self.failed.push(endpoint);
    }
}

/// Notes that an endpoint could not be reached, unless that is the fault of this machine, which has run out of something.
fn blame(backend: &Backend, endpoint: &Endpoint, error: &io::Error, settings: &StreamSettings, metrics: &Metrics) {
    use rustix::io::Errno;
    let is_own = Errno::from_io_error(error).is_some_and(|errno| {
        matches!(
            errno,
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRINUSE | Errno::ADDRNOTAVAIL
        )
    });
    if is_own || !settings.ejects {
        return;
    }
    if let Some(until) = upstream::fail(backend, endpoint, clock::now()) {
        metrics.ejections.inc();
        let seconds = until.saturating_sub(clock::now()).as_secs();
        tracing::info!(endpoint = %endpoint.key.address, backend = %backend.reference(), seconds, "ejected");
    }
}

/// The counters of a route.
fn counters<'a>(stream: &'a CompiledStream, listener: &ListenerKey, metrics: &Metrics) -> &'a StreamCounters {
    let counters = stream.slot.get_or_init(|| metrics.stream(listener));
    #[expect(clippy::expect_used, reason = "nothing else writes to the slot of a stream")]
    counters.expect("the slot of a stream holds its counters")
}

/// Returns at the drain limit, when whatever is still open is closed, and when there is no memory left for it.
async fn cut(handle: &ConnectionHandle) {
    poll_fn(|context| {
        handle.register(context.waker());
        if handle.is_cut() || handle.shortage() == Shortage::Dire { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// When something passed last.
struct Activity(AtomicU64);

impl Activity {
    /// Something passes now.
    fn begin() -> Self {
        Self(AtomicU64::new(micros(clock::now())))
    }

    fn touch(&self) {
        self.0.store(micros(clock::now()), Ordering::Relaxed);
    }

    /// Returns when nothing has passed for this long.
    async fn cease(&self, limit: Duration) {
        loop {
            let silence = clock::now().saturating_sub(Duration::from_micros(self.0.load(Ordering::Relaxed)));
            match limit.checked_sub(silence) {
                Some(rest) if !rest.is_zero() => tokio::time::sleep(rest).await,
                _ => return,
            }
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
