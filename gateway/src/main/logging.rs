//! The log of the process, on the standard error: structured, and bounded however hard somebody tries to fill it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tracing::{Event, Metadata, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Lines that one place in the code may write in a second.
const LINES_A_SECOND: u64 = 20;
/// Places that are told apart; two that share a slot share the allowance.
const N_SLOTS: usize = 1024;

/// Drops what a place writes beyond its allowance, and counts it.
struct FloodGate {
    started: Instant,
    /// The second in the upper, the number of lines in it in the lower half.
    slots: Box<[AtomicU64]>,
    suppressed: AtomicU64,
}

/// Starts logging: `RUST_LOG` says what, `LOG_FORMAT=json` how.
pub(crate) fn start() {
    // notify warns about every watched directory that disappears.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,notify=error"));
    let gate = FloodGate {
        started: Instant::now(),
        slots: (0..N_SLOTS).map(|_| AtomicU64::new(0)).collect(),
        suppressed: AtomicU64::new(0),
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let is_json = std::env::var("LOG_FORMAT").is_ok_and(|format| format == "json");
    let layer = if is_json { layer.json().boxed() } else { layer.boxed() };
    // A second call, as in tests, changes nothing.
    let _ = tracing_subscriber::registry().with(filter).with(layer.with_filter(gate)).try_init();
}

impl FloodGate {
    /// Whether the place may write a line in this second.
    fn admits(&self, place: u64, second: u64) -> bool {
        let slot = usize::try_from(place).unwrap_or_default() % N_SLOTS;
        let Some(slot) = self.slots.get(slot) else { return true };
        let counted = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| {
            let n_lines = if value >> 32 == second { value & 0xffff_ffff } else { 0 };
            Some(second << 32 | (n_lines + 1).min(0xffff_ffff))
        });
        let before = counted.unwrap_or_default();
        let is_admitted = before >> 32 != second || before & 0xffff_ffff < LINES_A_SECOND;
        if !is_admitted {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        }
        is_admitted
    }
}

impl<S: Subscriber> Filter<S> for FloodGate {
    fn enabled(&self, _metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _context: &Context<'_, S>) -> bool {
        // Records of the `log` facade share one place; their own is in their fields.
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let mut hasher = DefaultHasher::new();
        (metadata.target(), metadata.file(), metadata.line()).hash(&mut hasher);
        self.admits(hasher.finish(), self.started.elapsed().as_secs() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_from_one_place_leaves_the_others_alone() {
        let gate = FloodGate {
            started: Instant::now(),
            slots: (0..N_SLOTS).map(|_| AtomicU64::new(0)).collect(),
            suppressed: AtomicU64::new(0),
        };
        let admitted = (0..1000).filter(|_| gate.admits(1, 5)).count();
        assert_eq!(admitted, 20);
        assert_eq!(gate.suppressed.load(Ordering::Relaxed), 980);
        assert!(gate.admits(2, 5), "another place");
        assert!(gate.admits(1, 6), "another second");
    }
}
