//! What happens when somebody interrupts a long run: it ends in order, with what it has.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::procfs;

/// How often a wait looks whether it is interrupted.
const LOOK: Duration = Duration::from_millis(100);

static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT, SIGTERM, and SIGHUP of a terminal that is closed, do not end the process, but its next [`sleep`].
pub(crate) fn watch() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start threads")?;
    // `nohup` ignores the hang-up, and this is to go on then.
    let is_hang_up_ignored = procfs::ignores(Signal::HUP)?;
    let (mut interrupt, mut terminate, mut hang_up) = runtime.block_on(async {
        let listen = |kind| signal(kind).context("listen to signals");
        let hang_up = (!is_hang_up_ignored).then(|| listen(SignalKind::hangup())).transpose()?;
        anyhow::Ok((listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, hang_up))
    })?;
    let body = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                Some(_) = async { hang_up.as_mut()?.recv().await } => {}
            }
            IS_INTERRUPTED.store(true, Ordering::Relaxed);
            eprintln!("interrupted: what was started is being ended");
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(body).context("start threads")?;
    Ok(())
}

/// Whether the run is to end.
pub(crate) fn is_interrupted() -> bool {
    IS_INTERRUPTED.load(Ordering::Relaxed)
}

/// Waits.
///
/// # Errors
///
/// When the run is interrupted meanwhile.
pub(crate) fn sleep(duration: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + duration;
    loop {
        if is_interrupted() {
            bail!("interrupted");
        }
        let rest = end.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Ok(());
        }
        std::thread::sleep(rest.min(LOOK));
    }
}
