//! Open-loop load: requests start at their intended times, whether or not earlier ones were answered, as those of many
//! users do. A request that waits for its turn waits in its latency.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use tokio::sync::{Semaphore, mpsc};

use super::client::{Clients, Failure, Lane, Opened, Target};

/// Requests that may be under way at a time, so that a machine which does not keep up does not run out of descriptors.
const MAX_UNDER_WAY: usize = 512;
/// How often the driver looks which requests are due.
const TICK: Duration = Duration::from_millis(1);
/// An answer that takes longer than this from its intended start is a stall.
const STALL: Duration = Duration::from_secs(1);

/// A load that is under way.
pub(super) struct Load {
    is_over: Arc<AtomicBool>,
    n_ended: Arc<AtomicU64>,
    thread: JoinHandle<Findings>,
}

/// What came of a load.
#[derive(Default)]
pub(super) struct Findings {
    /// Microseconds from the intended start to the end, of requests with a right answer.
    pub(super) latencies: BTreeMap<Lane, Vec<u32>>,
    pub(super) lost: Vec<Lost>,
}

/// A request without a right answer in time.
#[derive(Clone, Debug)]
pub(super) struct Lost {
    pub(super) lane: Lane,
    pub(super) opened: Option<Opened>,
    pub(super) text: String,
}

struct Outcome {
    lane: Lane,
    latency: Duration,
    result: Result<(), Failure>,
}

impl Load {
    /// Starts `rate` requests a second.
    pub(super) fn start(target: Target, rate: u32) -> anyhow::Result<Self> {
        let clients = Arc::new(Clients::new(target)?);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.context("start threads")?;
        let (is_over, n_ended) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (over, ended) = (Arc::clone(&is_over), Arc::clone(&n_ended));
        let body = move || {
            runtime.block_on(async {
                let (sender, outcomes) = mpsc::unbounded_channel();
                let findings = tokio::spawn(collect(outcomes, ended));
                drive(clients, rate, &over, sender).await;
                findings.await.unwrap_or_default()
            })
        };
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(body).context("start threads")?;
        Ok(Self { is_over, n_ended, thread })
    }

    /// Requests that have ended until now.
    pub(super) fn n_ended(&self) -> u64 {
        self.n_ended.load(Ordering::Relaxed)
    }

    /// Waits until so many requests have ended.
    pub(super) fn wait_until(&self, n_ended: u64) {
        while self.n_ended() < n_ended && !self.thread.is_finished() {
            std::thread::sleep(TICK);
        }
    }

    /// Starts no more requests, and waits for the answers of those under way.
    pub(super) fn stop(self) -> anyhow::Result<Findings> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the load panicked"))
    }
}

async fn drive(clients: Arc<Clients>, rate: u32, is_over: &AtomicBool, outcomes: mpsc::UnboundedSender<Outcome>) {
    let began = Instant::now();
    let turns = Arc::new(Semaphore::new(MAX_UNDER_WAY));
    for number in 0_u64.. {
        let intended = began + Duration::from_nanos(number.saturating_mul(1_000_000_000) / u64::from(rate.max(1)));
        while Instant::now() < intended {
            tokio::time::sleep(TICK).await;
        }
        // The semaphore is never closed.
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let (clients, outcomes, lane) = (Arc::clone(&clients), outcomes.clone(), Lane::of(number));
        tokio::spawn(async move {
            let result = clients.request(lane).await;
            drop(turn);
            // Whoever counts them waits for the last one.
            let _ = outcomes.send(Outcome { lane, latency: intended.elapsed(), result });
        });
    }
}

async fn collect(mut outcomes: mpsc::UnboundedReceiver<Outcome>, n_ended: Arc<AtomicU64>) -> Findings {
    let mut findings = Findings::default();
    while let Some(Outcome { lane, latency, result }) = outcomes.recv().await {
        match result {
            Ok(()) if latency <= STALL => {
                let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
                findings.latencies.entry(lane).or_default().push(micros);
            }
            Ok(()) => {
                findings.lost.push(Lost { lane, opened: None, text: "stalled for more than a second".to_owned() })
            }
            Err(Failure { opened, text }) => findings.lost.push(Lost { lane, opened, text }),
        }
        n_ended.fetch_add(1, Ordering::Relaxed);
    }
    findings
}

// === impl Findings ===

impl Findings {
    /// All requests.
    pub(super) fn n_requests(&self) -> usize {
        self.latencies.values().map(Vec::len).sum::<usize>() + self.lost.len()
    }

    /// Takes the lost requests out whose connection may have been accepted in one of some spans of time.
    pub(super) fn take_lost_with(&mut self, spans: &[Opened]) -> Vec<Lost> {
        let is_of = |opened: &Opened, span: &Opened| opened.began <= span.ended && opened.ended >= span.began;
        let (taken, left) = std::mem::take(&mut self.lost)
            .into_iter()
            .partition(|lost| lost.opened.is_some_and(|opened| spans.iter().any(|span| is_of(&opened, span))));
        self.lost = left;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_connections_of_a_span_are_counted_apart() {
        let start = Instant::now();
        let span = |began: u64, ended: u64| Opened {
            began: start + Duration::from_secs(began),
            ended: start + Duration::from_secs(ended),
        };
        let lost = |opened| Lost { lane: Lane::New, opened, text: String::new() };
        let all = [Some(span(1, 2)), Some(span(2, 4)), Some(span(6, 7)), Some(span(8, 9)), None].map(lost);
        let mut findings = Findings { lost: all.to_vec(), ..Findings::default() };
        assert_eq!(findings.take_lost_with(&[span(3, 7)]).len(), 2);
        assert_eq!(findings.lost.len(), 3);
    }
}
