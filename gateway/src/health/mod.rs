//! Active health checks: who is asked, how often, and what follows. They run beside the traffic, never on its threads.
//!
//! An endpoint is asked once, however many routes lead to it; what is learnt is kept with the endpoint. One that nobody
//! asks counts as well.

mod grpc;
mod probe;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use routing::model::{EndpointKey, HealthCheck};
use routing::{Endpoint, LiveRouting};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use self::probe::{Prober, prober};
use crate::telemetry::Metrics;
use crate::upstream;

/// How much an interval differs from one time to the next, so that endpoints are not asked all at once.
const JITTER: f64 = 0.1;

/// The checks of the moment.
pub(crate) struct HealthChecks {
    live: Arc<LiveRouting>,
    metrics: Arc<Metrics>,
    /// By the endpoint that they ask.
    running: HashMap<EndpointKey, Running>,
    /// By what they ask: they share connectors.
    probers: BTreeMap<Arc<HealthCheck>, Arc<Prober>>,
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
}

impl HealthChecks {
    pub(crate) fn new(live: Arc<LiveRouting>, metrics: Arc<Metrics>) -> Self {
        Self { live, metrics, running: HashMap::new(), probers: BTreeMap::new() }
    }

    /// Follows the backends as they change.
    pub(crate) async fn run(mut self, changed: Arc<Notify>) {
        loop {
            changed.notified().await;
            self.follow();
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
        Self { endpoint, metrics, streak: Streak::default() }
    }

    /// Takes an answer: why the endpoint is not well, if it is not.
    fn take(&mut self, why: Option<String>, check: &HealthCheck) {
        let Some(is_up) = self.streak.flipped(why.is_none(), check) else { return };
        upstream::set_up(&self.endpoint, is_up);
        self.gauge(is_up).inc();
        self.gauge(!is_up).dec();
        let service = &self.endpoint.key.backend.service;
        let why = why.unwrap_or_default();
        tracing::info!(endpoint = %self.endpoint.key.address, %service, is_up, why, "health changed");
    }

    fn gauge(&self, is_up: bool) -> &IntGauge {
        if is_up { &self.metrics.checked_up } else { &self.metrics.checked_down }
    }
}

impl Drop for Belief {
    fn drop(&mut self) {
        // One that nobody asks counts as well.
        upstream::set_up(&self.endpoint, true);
        self.gauge(!self.streak.is_down).dec();
    }
}

fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())
}

/// Answers in a row that contradict what is believed.
#[derive(Default)]
struct Streak {
    is_down: bool,
    length: u32,
}

impl Streak {
    /// Takes an answer. Returns whether the endpoint is up when that is something new.
    fn flipped(&mut self, is_well: bool, check: &HealthCheck) -> Option<bool> {
        if is_well != self.is_down {
            self.length = 0;
            return None;
        }
        self.length += 1;
        let threshold = if self.is_down { check.rise } else { check.fall };
        if self.length < threshold.get() {
            return None;
        }
        *self = Self { is_down: !self.is_down, length: 0 };
        Some(!self.is_down)
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
        for (number, (is_well, expected)) in answers.into_iter().enumerate() {
            assert_eq!(streak.flipped(is_well, &check), expected, "answer {number}");
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
