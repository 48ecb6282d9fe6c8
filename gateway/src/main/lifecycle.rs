//! The life of a process from its first snapshot to its end, as its signals want it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use controller_sync::source::directory::DirectoryHandle;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::run::Parts;

/// How long threads and the access log may take to end once everything is drained.
const STOP: Duration = Duration::from_secs(2);

/// Why the process leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// SIGTERM or SIGINT: lame duck, then drain.
    Politely,
    /// SIGQUIT: drain without lame duck.
    Soon,
}

/// The signals that the process takes, from the moment this is made: before, they end it as they end any process.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
}

/// Waits until the listeners of the first snapshot are bound, calls `on_bound`, stays until a signal says to go, goes as
/// it says, and returns the exit code: 0 after a drain.
pub(crate) fn stay(
    parts: Parts,
    lame_duck: Duration,
    drain_timeout: Duration,
    on_bound: impl FnOnce(),
) -> anyhow::Result<ExitCode> {
    let Parts { control, mut server, files, mut signals } = parts;
    let is_forced = control.block_on(async {
        let bound = tokio::select! {
            errors = server.first_bind() => errors,
            // Nothing was accepted, so there is nothing to wait for.
            _ = signals.next(&files) => {
                tracing::info!("told to leave before there was anything to serve");
                return anyhow::Ok(true);
            }
        };
        if let Some(error) = bound.into_iter().next() {
            return Err(error.into());
        }
        on_bound();
        let leave = signals.next(&files).await;
        let ends = async {
            server.leave();
            if leave == Leave::Politely {
                tracing::info!(?lame_duck, "not ready any more, still accepting");
                tokio::time::sleep(lame_duck).await;
            }
            tracing::info!(?drain_timeout, "draining");
            server.drain(drain_timeout).await
        };
        let is_forced = tokio::select! {
            n_cut = ends => {
                if n_cut > 0 {
                    tracing::warn!(n_cut, "connections were still open at the drain limit");
                }
                false
            }
            _ = signals.next(&files) => {
                tracing::warn!("second signal: ending at once");
                true
            }
        };
        anyhow::Ok(is_forced)
    })?;
    server.stop(if is_forced { Duration::ZERO } else { STOP });
    control.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

impl Signals {
    /// Must be called inside a runtime.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let of = |kind| signal(kind).context("listen for signals");
        Ok(Self {
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
            quit: of(SignalKind::quit())?,
            hangup: of(SignalKind::hangup())?,
        })
    }

    /// The next signal that says to go. SIGHUP re-reads the files meanwhile.
    async fn next(&mut self, files: &DirectoryHandle) -> Leave {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Leave::Politely,
                _ = self.interrupt.recv() => return Leave::Politely,
                _ = self.quit.recv() => return Leave::Soon,
                _ = self.hangup.recv() => {
                    tracing::info!("reading all files again");
                    files.reread();
                }
            }
        }
    }
}
