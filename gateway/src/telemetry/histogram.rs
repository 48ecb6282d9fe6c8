//! A histogram that requests write without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::proto;

/// Upper bounds of latencies, in seconds: those of ingress-nginx.
pub(super) const SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Upper bounds of lengths, in bytes (`--length-buckets`).
pub(super) const LENGTHS: &[f64] = &[10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0];
/// Upper bounds of sizes, in bytes (`--size-buckets`).
pub(super) const SIZES: &[f64] = &[10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7];

/// Counts of observations up to each bound.
pub(super) struct AtomicHistogram {
    bounds: &'static [f64],
    /// One more than bounds: the last is for what is above all of them.
    counts: Box<[AtomicU64]>,
    /// The sum in millionths, so that it can be added to atomically.
    sum_millionths: AtomicU64,
}

impl AtomicHistogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum_millionths: AtomicU64::new(0) }
    }

    pub(super) fn observe(&self, value: f64) {
        let index = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        if let Some(count) = self.counts.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        // The conversion saturates, and a value that large has long left the last bucket.
        self.sum_millionths.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }

    /// The histogram in the form that is scraped.
    pub(super) fn to_proto(&self) -> proto::Histogram {
        let mut cumulative = 0;
        let mut buckets = Vec::with_capacity(self.bounds.len());
        let mut counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        // The bucket without a bound is written by the encoder.
        for (bound, count) in self.bounds.iter().zip(counts.by_ref()) {
            cumulative += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_cumulative_count(cumulative);
            bucket.set_upper_bound(*bound);
            buckets.push(bucket);
        }
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(cumulative + counts.sum::<u64>());
        histogram.set_sample_sum(self.sum_millionths.load(Ordering::Relaxed) as f64 / 1e6);
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_are_counted_up_to_their_bounds() {
        let histogram = AtomicHistogram::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 9.0] {
            histogram.observe(value);
        }
        let proto = histogram.to_proto();
        let counts: Vec<u64> = proto.get_bucket().iter().map(|bucket| bucket.cumulative_count()).collect();
        assert_eq!(counts, [2, 3]);
        assert_eq!(proto.get_sample_count(), 4);
        assert!((proto.get_sample_sum() - 12.0).abs() < 1e-9);
    }
}
