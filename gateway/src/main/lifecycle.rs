//! The life of a process from its first snapshot to its end, as its signals and hand-overs want it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use controller_sync::source::directory::DirectoryHandle;
use controller_sync::status::StatusesHandle;
use controller_sync::upgrade::{Retired, notify};
use gateway::Server;
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::handover::{self, GOODBYE, Handover};
use super::run::Parts;

/// How long threads and the access log may take to end once everything is drained.
const STOP: Duration = Duration::from_secs(2);

/// How long the process may take to leave.
#[derive(Clone, Copy)]
pub(crate) struct Farewell {
    /// Not ready any more, still accepting.
    pub(crate) lame_duck: Duration,
    /// Not accepting any more, finishing what is open.
    pub(crate) drain_timeout: Duration,
}

/// How long the statuses of a cluster may take to be cleared.
const STOP_WRITING: Duration = Duration::from_secs(10);

/// Why the process leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// SIGTERM or SIGINT: lame duck, then drain.
    Politely,
    /// SIGQUIT: drain without lame duck.
    Soon,
    /// Another process is the gateway.
    Retired(Retired),
}

/// How the process ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// With everything done.
    Drained,
    /// With connections cut, because a signal said so.
    Forced,
}

/// The signals that the process takes, from the moment this is made: before, they end it as they end any process.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    upgrade: Signal,
    /// Where upgrades are asked for.
    upgrades: mpsc::Sender<()>,
    /// The other end, until somebody serves it.
    asked: Option<mpsc::Receiver<()>>,
    /// The source that SIGHUP is for; none where a cluster is the source.
    files: Option<DirectoryHandle>,
}

/// Listens, or takes over from a process that does, calls `on_bound`, stays until a signal or a hand-over says to go,
/// goes as it says, and returns the exit code: 0 after a drain.
pub(crate) fn stay(parts: Parts, farewell: Farewell, on_bound: impl FnOnce()) -> anyhow::Result<ExitCode> {
    let Parts { control, server, statuses, mut signals, handover } = parts;
    let end = control.block_on(live(&server, statuses, &mut signals, handover, farewell, on_bound))?;
    server.stop(if end == End::Forced { Duration::ZERO } else { STOP });
    control.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

async fn live(
    server: &Server,
    statuses: Option<StatusesHandle>,
    signals: &mut Signals,
    handover: Option<Handover>,
    farewell: Farewell,
    on_bound: impl FnOnce(),
) -> anyhow::Result<End> {
    let (leaving, is_leaving) = watch::channel(false);
    let has_handover = handover.is_some();
    let requests = if has_handover { signals.asked.take() } else { None };
    let listener = {
        let begins = begin(server, handover.as_ref(), is_leaving.clone());
        tokio::pin!(begins);
        let begun = tokio::select! {
            begun = &mut begins => begun,
            _ = signals.next() => {
                tracing::info!("told to leave before it served");
                leaving.send_replace(true);
                // The other process is told, and goes on as if nothing had been.
                let _ = tokio::time::timeout(GOODBYE, begins).await;
                server.drain(farewell.drain_timeout).await;
                return Ok(End::Forced);
            }
        };
        match begun {
            Ok(listener) => listener,
            Err(error) => {
                // Connections that were accepted in a probation end well.
                server.drain(farewell.drain_timeout).await;
                return Err(error);
            }
        }
    };
    on_bound();
    notify::ready();
    let retired = async {
        match (handover, requests) {
            (Some(handover), Some(requests)) => handover.serve(listener, requests, is_leaving).await,
            _ => std::future::pending().await,
        }
    };
    // A task of its own: it has something to say to its visitors until the end of the process.
    let mut retired = tokio::spawn(retired);
    let leave = tokio::select! {
        leave = signals.next() => leave,
        Ok(retired) = &mut retired => Leave::Retired(retired),
    };
    leaving.send_replace(true);
    Ok(leave_as_told(leave, server, statuses, signals, farewell).await)
}

/// Listens, or takes over. Returns where the next hand-over is taken.
async fn begin(
    server: &Server,
    handover: Option<&Handover>,
    leaving: watch::Receiver<bool>,
) -> anyhow::Result<Option<UnixListener>> {
    match handover {
        Some(handover) => handover.begin(server, leaving).await,
        None => handover::listen(server.listeners()).await.map(|()| None),
    }
}

async fn leave_as_told(
    leave: Leave,
    server: &Server,
    statuses: Option<StatusesHandle>,
    signals: &mut Signals,
    farewell: Farewell,
) -> End {
    let Farewell { lame_duck, drain_timeout } = farewell;
    let ends = async {
        server.leave();
        match leave {
            Leave::Politely => {
                notify::stopping();
                tracing::info!(?lame_duck, "not ready any more, still accepting");
                tokio::time::sleep(lame_duck).await;
            }
            Leave::Soon => notify::stopping(),
            Leave::Retired(_) => {}
        }
        tracing::info!(?drain_timeout, "draining");
        server.drain(drain_timeout).await
    };
    let ends = async { tokio::join!(ends, stop_writing(leave, statuses)).0 };
    let mut n_signals = usize::from(!matches!(leave, Leave::Retired(_)));
    tokio::pin!(ends);
    let n_cut = loop {
        tokio::select! {
            n_cut = &mut ends => break n_cut,
            _ = signals.next() => n_signals += 1,
        }
        if n_signals == 2 {
            tracing::warn!("second signal: ending at once");
            return End::Forced;
        }
    };
    if n_cut > 0 {
        tracing::warn!(n_cut, "connections were still open at the drain limit");
    }
    if let Leave::Retired(Retired { by_own_child: false }) = leave
        && n_signals == 0
    {
        tracing::info!("retired: idle until a signal says to go");
        signals.next().await;
    }
    End::Drained
}

/// Another process that is the gateway now writes what this one has written, so that a retired one clears nothing.
async fn stop_writing(leave: Leave, statuses: Option<StatusesHandle>) {
    let Some(statuses) = statuses else { return };
    let stops = async {
        match leave {
            Leave::Politely | Leave::Soon => statuses.leave().await,
            Leave::Retired(_) => statuses.retire().await,
        }
    };
    // An API server that does not answer keeps nobody from leaving.
    if tokio::time::timeout(STOP_WRITING, stops).await.is_err() {
        tracing::warn!("the statuses of Ingresses stay as they are: the API server has not answered in time");
    }
}

impl Signals {
    /// Must be called inside a runtime.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let of = |kind| signal(kind).context("listen for signals");
        // One that is asked for while another one is under way is the same one.
        let (upgrades, asked) = mpsc::channel(1);
        Ok(Self {
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
            quit: of(SignalKind::quit())?,
            hangup: of(SignalKind::hangup())?,
            upgrade: of(SignalKind::user_defined2())?,
            upgrades,
            asked: Some(asked),
            files: None,
        })
    }

    /// Has SIGHUP read files again.
    pub(crate) fn reread(&mut self, files: DirectoryHandle) {
        self.files = Some(files);
    }

    /// The next signal that says to go. SIGHUP re-reads the files meanwhile, SIGUSR2 starts an upgrade.
    async fn next(&mut self) -> Leave {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Leave::Politely,
                _ = self.interrupt.recv() => return Leave::Politely,
                _ = self.quit.recv() => return Leave::Soon,
                _ = self.hangup.recv() => {
                    if let Some(files) = &self.files {
                        tracing::info!("reading all files again");
                        files.reread();
                    }
                }
                _ = self.upgrade.recv() => {
                    if self.asked.is_some() {
                        tracing::warn!("SIGUSR2 upgrades a gateway that runs with --handoff-socket");
                    } else {
                        // A full queue holds the same wish.
                        let _ = self.upgrades.try_send(());
                    }
                }
            }
        }
    }
}
