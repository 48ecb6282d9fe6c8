//! The retry budget of a backend: retries must not multiply the load of a backend that fails because of its load.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use routing::Backend;

use super::endpoint::micros;

/// What a retry costs.
const RETRY: i64 = 1000;
/// What a request pays in: one retry for ten requests.
const REQUEST: i64 = RETRY / 10;
/// What can be saved.
const MOST: i64 = 100 * RETRY;
/// A backend with few requests can afford so many retries all the same.
const FLOOR: i64 = 5 * RETRY;
/// How fast the budget comes back to the floor: one retry in a second.
const FLOOR_INTERVAL: Duration = Duration::from_secs(1);

/// What retries may cost.
pub(super) struct Budget {
    balance: AtomicI64,
    /// When the way to the floor was paid for last, in microseconds.
    refilled: AtomicU64,
}

/// The budget of a backend.
pub(super) fn budget(backend: &Backend) -> &Budget {
    #[expect(clippy::expect_used, reason = "nothing else writes to the slot of a backend")]
    backend.slot.get_or_init(Budget::default).expect("the slot of a backend holds its budget")
}

impl Default for Budget {
    fn default() -> Self {
        Self { balance: AtomicI64::new(FLOOR), refilled: AtomicU64::new(0) }
    }
}

impl Budget {
    /// Pays in for a request.
    pub(super) fn pay_in(&self) {
        if self.balance.load(Ordering::Relaxed) < MOST {
            self.balance.fetch_add(REQUEST, Ordering::Relaxed);
        }
    }

    /// Takes out what a retry costs, if there is as much.
    pub(super) fn take(&self, now: Duration) -> bool {
        self.refill(now);
        let take = |balance: i64| (balance >= RETRY).then_some(balance - RETRY);
        self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn refill(&self, now: Duration) {
        let last = self.refilled.load(Ordering::Relaxed);
        let n_retries = now.saturating_sub(Duration::from_micros(last)).as_secs() / FLOOR_INTERVAL.as_secs();
        let claim = || self.refilled.compare_exchange(last, micros(now), Ordering::Relaxed, Ordering::Relaxed);
        if n_retries > 0 && claim().is_ok() {
            let paid = i64::try_from(n_retries).unwrap_or(MOST).saturating_mul(RETRY);
            let up_to_floor = |balance: i64| (balance < FLOOR).then(|| balance.saturating_add(paid).min(FLOOR));
            // A balance above the floor stays as it is.
            let _ = self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, up_to_floor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_everything_fails_attempts_stay_below_six_fifths_of_requests() {
        let budget = Budget::default();
        let now = Duration::from_secs(1000);
        let mut n_attempts = 0;
        for _ in 0..1000 {
            budget.pay_in();
            n_attempts += 1;
            while budget.take(now) {
                n_attempts += 1;
            }
        }
        assert!(n_attempts <= 1200, "{n_attempts}");
    }

    #[test]
    fn a_quiet_backend_can_retry_again_and_again() {
        let budget = Budget::default();
        for minute in 1..100 {
            budget.pay_in();
            assert!(budget.take(Duration::from_secs(60 * minute)), "minute {minute}");
        }
    }
}
