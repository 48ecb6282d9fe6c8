//! A moving average of how soon an endpoint answers, in one atomic number.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::memory::LatencyMemory;

/// After this time an old answer counts 1/e of a new one (`DECAY_TIME` of ingress-nginx's `ewma`).
const DECAY: Duration = Duration::from_secs(10);

/// The average in the upper half, as the bits of an `f32` of seconds, and in the lower half the time of the last answer
/// in milliseconds; 0 before the first.
#[derive(Default)]
pub(super) struct Latency(AtomicU64);

impl Latency {
    /// Counts an answer.
    pub(super) fn observe(&self, sample: Duration, now: Duration) {
        let touched = millis(now).max(1);
        let update = |packed| {
            let (average, last) = unpack(packed);
            let passed = Duration::from_millis(u64::from(touched.wrapping_sub(last)));
            let old = if packed == 0 { 0.0 } else { (-passed.as_secs_f32() / DECAY.as_secs_f32()).exp() };
            Some(pack(average * old + sample.as_secs_f32() * (1.0 - old), touched))
        };
        // The closure always has an answer.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// The average in seconds; `None` before the first answer.
    pub(super) fn average(&self) -> Option<f32> {
        let packed = self.0.load(Ordering::Relaxed);
        (packed != 0).then(|| unpack(packed).0)
    }

    /// What another process would go on with.
    pub(super) fn export(&self, now: Duration) -> Option<LatencyMemory> {
        let packed = self.0.load(Ordering::Relaxed);
        let (average, last) = unpack(packed);
        let age = Duration::from_millis(u64::from(millis(now).wrapping_sub(last)));
        (packed != 0).then_some(LatencyMemory { average, age })
    }

    /// Goes on with what another process has learnt.
    pub(super) fn import(&self, LatencyMemory { average, age }: LatencyMemory, now: Duration) {
        // An average that no answers have would choose endpoints by chance, or never.
        if average.is_finite() && average >= 0.0 {
            self.0.store(pack(average, millis(now).wrapping_sub(millis(age)).max(1)), Ordering::Relaxed);
        }
    }
}

fn pack(average: f32, touched: u32) -> u64 {
    u64::from(average.to_bits()) << 32 | u64::from(touched)
}

fn unpack(packed: u64) -> (f32, u32) {
    let [high, low] = [packed >> 32, packed & u64::from(u32::MAX)].map(|half| u32::try_from(half).unwrap_or(0));
    (f32::from_bits(high), low)
}

/// Wraps after seven weeks, which only makes one answer count as a late one.
fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis() & u128::from(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_answers_are_forgotten_with_time() {
        let latency = Latency::default();
        assert_eq!(latency.average(), None);
        let at = Duration::from_secs;
        latency.observe(at(1), at(100));
        assert_eq!(latency.average(), Some(1.0));
        latency.observe(Duration::ZERO, at(110));
        let average = latency.average().unwrap();
        assert!((average - (-1.0_f32).exp()).abs() < 1e-3, "{average}");
        // An answer in the same moment hardly counts, so that a burst does not wipe out what was known.
        latency.observe(at(60), at(110));
        assert!(latency.average().unwrap() < 1.0);
    }
}
