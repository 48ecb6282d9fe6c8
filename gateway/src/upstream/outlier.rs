//! Passive ejection: an endpoint that fails again and again gets no requests for a while, whichever route sent them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::endpoint::micros;
use super::memory::FailureMemory;

/// Failures without a success in between after which an endpoint is ejected.
const THRESHOLD: u32 = 5;
/// For how long the first time; twice as long each time after that.
const FIRST_EJECTION: Duration = Duration::from_secs(10);
/// For how long at most.
const LONGEST_EJECTION: Duration = Duration::from_secs(300);
/// Of the endpoints of a backend, at most this share in percent is ejected: what fails everywhere is not their fault.
const MAX_EJECTED: usize = 50;

/// What an endpoint failed at of late.
#[derive(Default)]
pub(super) struct Outlier {
    n_failures: AtomicU32,
    /// How often it was ejected without having been well for as long as it was away.
    n_ejections: AtomicU32,
    /// In microseconds; 0 for never.
    ejected_until: AtomicU64,
}

impl Outlier {
    /// Whether it gets no requests.
    pub(super) fn is_ejected(&self, now: Duration) -> bool {
        micros(now) < self.ejected_until.load(Ordering::Relaxed)
    }

    /// Whether it has not failed since it last succeeded.
    pub(super) fn is_well(&self) -> bool {
        self.n_failures.load(Ordering::Relaxed) == 0
    }

    /// The end of its last ejection.
    pub(super) fn back_since(&self) -> Duration {
        Duration::from_micros(self.ejected_until.load(Ordering::Relaxed))
    }

    /// Notes a success.
    pub(super) fn succeed(&self, now: Duration) {
        // Nearly every request gets here, and nearly always there is nothing to write.
        if self.n_failures.load(Ordering::Relaxed) > 0 {
            self.n_failures.store(0, Ordering::Relaxed);
        }
        let n_ejections = self.n_ejections.load(Ordering::Relaxed);
        if n_ejections > 0 && now.saturating_sub(self.back_since()) >= ejection(n_ejections) {
            self.n_ejections.store(0, Ordering::Relaxed);
        }
    }

    /// Notes a failure. Returns whether it is one too many.
    pub(super) fn fail(&self) -> bool {
        self.n_failures.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= THRESHOLD
    }

    /// Ejects it, longer than the last time. Returns until when, unless somebody else has just done so.
    pub(super) fn eject(&self, now: Duration) -> Option<Duration> {
        let old = self.ejected_until.load(Ordering::Relaxed);
        let n_ejections = self.n_ejections.load(Ordering::Relaxed).saturating_add(1);
        let until = now + ejection(n_ejections);
        if old > micros(now) {
            return None;
        }
        self.ejected_until.compare_exchange(old, micros(until), Ordering::Relaxed, Ordering::Relaxed).ok()?;
        self.n_ejections.store(n_ejections, Ordering::Relaxed);
        // The first failure after its return is one too many again.
        self.n_failures.store(THRESHOLD - 1, Ordering::Relaxed);
        Some(until)
    }

    /// What another process would go on with.
    pub(super) fn export(&self, now: Duration) -> FailureMemory {
        FailureMemory {
            n_failures: self.n_failures.load(Ordering::Relaxed),
            n_ejections: self.n_ejections.load(Ordering::Relaxed),
            ejected_for: self.back_since().saturating_sub(now),
        }
    }

    /// Goes on with what another process has learnt. No ejection is longer than one of this process.
    pub(super) fn import(&self, memory: FailureMemory, now: Duration) {
        let FailureMemory { n_failures, n_ejections, ejected_for } = memory;
        self.n_failures.store(n_failures, Ordering::Relaxed);
        self.n_ejections.store(n_ejections, Ordering::Relaxed);
        if n_ejections > 0 {
            let until = now + ejected_for.min(LONGEST_EJECTION);
            self.ejected_until.store(micros(until), Ordering::Relaxed);
        }
    }
}

/// Whether one more of `n_endpoints` may be ejected when `n_ejected` are.
pub(super) fn may_eject(n_ejected: usize, n_endpoints: usize) -> bool {
    (n_ejected + 1) * 100 <= n_endpoints * MAX_EJECTED
}

/// The length of the `number`th ejection in a row.
fn ejection(number: u32) -> Duration {
    FIRST_EJECTION.saturating_mul(1_u32.checked_shl(number.saturating_sub(1)).unwrap_or(u32::MAX)).min(LONGEST_EJECTION)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1000);

    fn seconds(seconds: u64) -> Duration {
        START + Duration::from_secs(seconds)
    }

    #[test]
    fn only_failures_in_a_row_eject() {
        let outlier = Outlier::default();
        for _ in 0..20 {
            assert!((1..THRESHOLD).all(|_| !outlier.fail()));
            outlier.succeed(START);
        }
        assert!((1..THRESHOLD).all(|_| !outlier.fail()));
        assert!(outlier.fail());
    }

    #[test]
    fn an_ejection_ends_and_the_next_one_is_longer() {
        let outlier = Outlier::default();
        assert_eq!(outlier.eject(START), Some(seconds(10)));
        assert!(outlier.is_ejected(seconds(9)) && !outlier.is_ejected(seconds(10)));
        // Back again, one failure is enough.
        assert!(outlier.fail());
        assert_eq!(outlier.eject(seconds(10)), Some(seconds(30)));
        assert_eq!(outlier.eject(seconds(11)), None, "it is ejected already");
        // Being well for as long as it was away clears its name.
        outlier.succeed(seconds(50));
        assert_eq!(outlier.eject(seconds(50)), Some(seconds(60)));
    }

    #[test]
    fn an_ejection_never_lasts_for_ever() {
        assert_eq!(ejection(u32::MAX), LONGEST_EJECTION);
        assert_eq!(ejection(6), LONGEST_EJECTION);
        assert_eq!(ejection(5), Duration::from_secs(160));
    }

    #[test]
    fn half_of_the_endpoints_stay_at_least() {
        for (n_endpoints, most) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (10, 5)] {
            let n_ejected = (0..n_endpoints).take_while(|n_ejected| may_eject(*n_ejected, n_endpoints)).count();
            assert_eq!(n_ejected, most, "of {n_endpoints}");
        }
    }
}
