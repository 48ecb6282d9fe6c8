//! What a process needs while something happens to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::peers::Gateway;
use crate::procfs;

/// How often memory is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// What the gateway needed.
#[derive(Clone, Copy)]
pub(super) struct Needed {
    pub(super) cpu: Duration,
    /// Bytes of resident memory at the peak, beyond what it had before.
    pub(super) memory: u64,
}

/// Does something to the gateway.
pub(super) fn during<T>(gateway: &Gateway, act: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, Needed)> {
    let pid = gateway.process.id();
    let (cpu, before) = (gateway.process.cpu_time()?, gateway.process.resident()?);
    let is_over = Arc::new(AtomicBool::new(false));
    let watched = Arc::clone(&is_over);
    let watch = std::thread::spawn(move || {
        let mut peak = before;
        while !watched.load(Ordering::Relaxed) {
            peak = peak.max(procfs::resident(pid).unwrap_or_default());
            std::thread::sleep(INTERVAL);
        }
        peak
    });
    let result = act();
    is_over.store(true, Ordering::Relaxed);
    let peak = watch.join().unwrap_or_default();
    let cpu = gateway.process.cpu_time()?.since(cpu).total();
    Ok((result?, Needed { cpu, memory: peak.saturating_sub(before) }))
}

/// Bytes in mebibytes.
#[expect(clippy::cast_precision_loss, reason = "memory is smaller than 2^52 bytes")]
pub(super) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
