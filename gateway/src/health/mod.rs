//! Active health checks: who is asked, how often, and what follows. They run beside the traffic, never on its threads.
//!
//! An endpoint is asked once, however many routes lead to it; what is learnt is kept with the endpoint. One that nobody
//! asks counts as well, and one that another process has found down is down until it is found to be well again.

mod grpc;
mod probe;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use routing::model::{EndpointKey, HealthCheck};
use routing::{Endpoint, LiveRouting};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;

use self::probe::{Prober, prober};
use crate::telemetry::Metrics;
use crate::upstream;

/// How much an interval differs from one time to the next, so that endpoints are not asked all at once.
const JITTER: f64 = 0.1;

/// Tells the checks something while they run.
#[derive(Clone)]
pub struct HealthHandle(mpsc::Sender<Found>);

/// Endpoints that another process has found down.
struct Found {
    down: Vec<Arc<Endpoint>>,
    done: oneshot::Sender<()>,
}

/// The checks of the moment.
pub(crate) struct HealthChecks {
    live: Arc<LiveRouting>,
    metrics: Arc<Metrics>,
    /// By the endpoint that they ask.
    running: HashMap<EndpointKey, Running>,
    /// By what they ask: they share connectors.
    probers: BTreeMap<Arc<HealthCheck>, Arc<Prober>>,
    found: mpsc::Receiver<Found>,
    /// The other end, for handles.
    finders: mpsc::Sender<Found>,
}

/// A check that is under way, until it is dropped.
struct Running {
    check: Arc<HealthCheck>,
    task: AbortHandle,
}

/// What a check believes of its endpoint. It goes with the task: nothing that the task does can come after it.
struct Belief {
    endpoint: Arc<Endpoint>,
    metrics: Arc<Metrics>,
    streak: Streak,
    /// What the metrics say.
    is_counted_up: bool,
}

impl HealthHandle {
    /// Takes endpoints out that another process has found down, as far as they are asked here too: they come back when
    /// they are found to be well. Returns when they get no requests.
    pub async fn take_out(&self, down: Vec<Arc<Endpoint>>) {
        let (done, is_done) = oneshot::channel();
        if self.0.send(Found { down, done }).await.is_ok() {
            let _ = is_done.await;
        }
    }
}

impl HealthChecks {
    pub(crate) fn new(live: Arc<LiveRouting>, metrics: Arc<Metrics>) -> Self {
        let (finders, found) = mpsc::channel(1);
        Self { live, metrics, running: HashMap::new(), probers: BTreeMap::new(), found, finders }
    }

    /// A handle that outlives [`Self::run`].
    pub(crate) fn handle(&self) -> HealthHandle {
        HealthHandle(self.finders.clone())
    }

    /// Follows the backends as they change.
    pub(crate) async fn run(mut self, changed: Arc<Notify>) {
        loop {
            tokio::select! {
                () = changed.notified() => self.follow(),
                Some(Found { down, done }) = self.found.recv() => {
                    self.follow();
                    for endpoint in down.iter().filter(|endpoint| self.running.contains_key(&endpoint.key)) {
                        tracing::info!(endpoint = %endpoint.key.address, "the old process has found it down");
                        upstream::set_up(endpoint, false);
                    }
                    let _ = done.send(());
                }
            }
        }
    }

    fn follow(&mut self) {
        let mut wanted: HashMap<EndpointKey, (Arc<Endpoint>, Arc<HealthCheck>)> = HashMap::new();
        for backend in self.live.checked_backends().iter() {
            let state = backend.state();
            let Some(check) = &state.health_check else { continue };
            for endpoint in &state.endpoints {
                // Two names of one port lead to one endpoint. Their checks are the same but for a moment.
                wanted.entry(endpoint.key.clone()).or_insert_with(|| (Arc::clone(endpoint), Arc::clone(check)));
            }
        }
        self.running.retain(|key, running| wanted.get(key).is_some_and(|(_, check)| *check == running.check));
        self.probers.retain(|check, _| wanted.values().any(|(_, wanted)| wanted == check));
        for (key, (endpoint, check)) in wanted {
            if self.running.contains_key(&key) {
                continue;
            }
            let prober = self.probers.entry(Arc::clone(&check)).or_insert_with(|| Arc::new(prober(&check)));
            let belief = Belief::new(endpoint, Arc::clone(&self.metrics));
            let task = tokio::spawn(ask(belief, Arc::clone(&check), Arc::clone(prober))).abort_handle();
            self.running.insert(key, Running { check, task });
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks one endpoint for ever.
async fn ask(mut belief: Belief, check: Arc<HealthCheck>, prober: Arc<Prober>) {
    // The first question comes at a random moment of the first interval.
    tokio::time::sleep(check.interval.mul_f64(fastrand::f64())).await;
    loop {
        let asked = tokio::time::timeout(check.timeout, prober.ask(belief.endpoint.key.address)).await;
        let why = match asked {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {:?}", check.timeout)),
        };
        belief.take(why, &check);
        tokio::time::sleep(jittered(check.interval)).await;
    }
}

impl Belief {
    /// An endpoint is well until it is found to be otherwise.
    fn new(endpoint: Arc<Endpoint>, metrics: Arc<Metrics>) -> Self {
        metrics.checked_up.inc();
        Self { endpoint, metrics, streak: Streak::default(), is_counted_up: true }
    }

    /// Takes an answer: why the endpoint is not well, if it is not.
    fn take(&mut self, why: Option<String>, check: &HealthCheck) {
        // Another process may have found something meanwhile.
        let was_up = upstream::is_up(&self.endpoint);
        self.count(was_up);
        if !self.streak.turns(was_up, why.is_none(), check) {
            return;
        }
        let is_up = !was_up;
        upstream::set_up(&self.endpoint, is_up);
        self.count(is_up);
        let service = &self.endpoint.key.backend.service;
        let why = why.unwrap_or_default();
        tracing::info!(endpoint = %self.endpoint.key.address, %service, is_up, why, "health changed");
    }

    fn count(&mut self, is_up: bool) {
        if std::mem::replace(&mut self.is_counted_up, is_up) != is_up {
            self.gauge(is_up).inc();
            self.gauge(!is_up).dec();
        }
    }

    fn gauge(&self, is_up: bool) -> &IntGauge {
        if is_up { &self.metrics.checked_up } else { &self.metrics.checked_down }
    }
}

impl Drop for Belief {
    fn drop(&mut self) {
        // One that nobody asks counts as well.
        upstream::set_up(&self.endpoint, true);
        self.gauge(self.is_counted_up).dec();
    }
}

fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())
}

/// Answers in a row that contradict what is believed.
#[derive(Default)]
struct Streak(u32);

impl Streak {
    /// Takes an answer. Returns whether that is enough to believe the contrary.
    fn turns(&mut self, was_up: bool, is_well: bool, check: &HealthCheck) -> bool {
        if is_well == was_up {
            self.0 = 0;
            return false;
        }
        self.0 += 1;
        let threshold = if was_up { check.fall } else { check.rise };
        if self.0 < threshold.get() {
            return false;
        }
        self.0 = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use routing::model::Probe;

    use super::*;

    #[test]
    fn only_answers_in_a_row_change_what_is_believed() {
        let number = |number| NonZeroU32::new(number).unwrap();
        let second = Duration::from_secs(1);
        let check =
            HealthCheck { probe: Probe::Tcp, interval: second, timeout: second, fall: number(3), rise: number(2) };
        let mut streak = Streak::default();
        let answers = [
            (false, None),
            (false, None),
            (true, None),
            (false, None),
            (false, None),
            (false, Some(false)),
            (false, None),
            (true, None),
            (false, None),
            (true, None),
            (true, Some(true)),
            (true, None),
        ];
        let mut is_up = true;
        for (number, (is_well, expected)) in answers.into_iter().enumerate() {
            let turns = streak.turns(is_up, is_well, &check);
            is_up ^= turns;
            assert_eq!(turns.then_some(is_up), expected, "answer {number}");
        }
    }

    #[test]
    fn no_two_endpoints_are_asked_in_step() {
        let interval = Duration::from_secs(10);
        let pauses: Vec<_> = (0..100).map(|_| jittered(interval)).collect();
        assert!(pauses.iter().all(|pause| (interval.mul_f64(0.9)..=interval.mul_f64(1.1)).contains(pause)));
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }
}
