//! How many Events may be told. The clock is the caller's.

use std::time::{Duration, Instant};

/// The shortest time between two Events on average, and how many may come at once before it counts.
const INTERVAL: Duration = Duration::from_millis(100);
const BURST: u32 = 50;

/// Tokens that come back with time.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: u32,
    /// Since when the next token is on its way.
    since: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn full(now: Instant) -> Self {
        Self { tokens: BURST, since: now }
    }

    /// Takes a token, or tells when there is one.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let n_new = now.saturating_duration_since(self.since).as_millis() / INTERVAL.as_millis();
        let n_new = u32::try_from(n_new).unwrap_or(u32::MAX).min(BURST);
        self.tokens = self.tokens.saturating_add(n_new).min(BURST);
        // Of a full bucket nothing is on its way.
        self.since = if self.tokens == BURST { now } else { self.since + INTERVAL * n_new };
        self.tokens = self.tokens.checked_sub(1).ok_or(self.since + INTERVAL)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many are told in a time in which there is always something to tell.
    fn n_told(bucket: &mut Bucket, began: Instant, time: Duration) -> u32 {
        let (mut now, mut n_told) = (began, 0);
        while now < began + time {
            match bucket.take(now) {
                Ok(()) => n_told += 1,
                Err(next) => {
                    assert!(next > now && next <= now + INTERVAL, "{:?}", next - now);
                    now = next;
                }
            }
        }
        n_told
    }

    #[test]
    fn a_flood_gets_a_burst_and_then_ten_a_second() {
        let began = Instant::now();
        assert_eq!(n_told(&mut Bucket::full(began), began, Duration::from_secs(10)), BURST + 99);
    }

    #[test]
    fn after_a_rest_there_is_a_burst_again_and_no_more_than_that() {
        let began = Instant::now();
        let mut bucket = Bucket::full(began);
        n_told(&mut bucket, began, Duration::from_secs(1));
        let later = began + Duration::from_secs(3600);
        assert_eq!(n_told(&mut bucket, later, Duration::from_secs(1)), BURST + 9);
    }

    #[test]
    fn what_came_in_between_is_not_lost() {
        let began = Instant::now();
        let mut bucket = Bucket::full(began);
        (0..BURST).for_each(|_| bucket.take(began).unwrap());
        assert_eq!(bucket.take(began + INTERVAL / 2), Err(began + INTERVAL));
        assert_eq!(bucket.take(began + INTERVAL * 3 / 2), Ok(()));
        assert_eq!(bucket.take(began + INTERVAL * 3 / 2), Err(began + INTERVAL * 2));
    }
}
