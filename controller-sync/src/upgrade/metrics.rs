//! How hand-overs end, counted.

use prometheus::{IntCounterVec, Opts, Registry};

use super::plan::Failure;

/// How hand-overs end, counted.
#[derive(Clone)]
pub struct HandoverMetrics(IntCounterVec);

impl HandoverMetrics {
    /// Makes and registers the metrics.
    ///
    /// # Errors
    ///
    /// When a name is taken, which is a fault of this code.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let help = "Hand-overs that this process took part in, by outcome: committed, or what was the matter";
        let counters = IntCounterVec::new(Opts::new("penstock_handovers_total", help), &["outcome"])?;
        registry.register(Box::new(counters.clone()))?;
        Ok(Self(counters))
    }

    pub(super) fn count(&self, outcome: Result<(), &Failure>) {
        let label = outcome.map_or_else(Failure::label, |()| "committed");
        self.0.with_label_values(&[label]).inc();
    }
}
