//! How long to wait after a failure: longer each time, and never the same for two replicas.

use std::time::Duration;

/// After the first failure.
const FIRST: Duration = Duration::from_millis(200);
/// However often it failed. An API server that is back shall be noticed soon.
const LONGEST: Duration = Duration::from_secs(3);

/// Failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    n_failures: u32,
}

impl Backoff {
    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.n_failures = 0;
    }

    /// It failed: how long to wait. Between half and all of a time that doubles.
    pub(crate) fn next(&mut self) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.n_failures.min(8));
        self.n_failures = self.n_failures.saturating_add(1);
        doubled.min(LONGEST).mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_a_limit_and_starts_over_after_a_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next()).collect();
        assert!((FIRST / 2..=FIRST).contains(&waits[0]), "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= LONGEST), "{waits:?}");
        assert!(waits[10..].iter().all(|wait| *wait >= LONGEST / 2), "{waits:?}");
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
