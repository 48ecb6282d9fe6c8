//! `gateway supervise -- run …`: the first process of a container. It starts the gateway, hands signals on to it (SIGUSR2
//! among them, which upgrades it), buries the dead, and ends with the gateway.
//!
//! It opens no socket and reads no configuration: an upgrade never has to replace it.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::Context;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, kill_process_group, set_child_subreaper, test_kill_process_group, wait,
};
use tokio::signal::unix::{SignalKind, signal};

use super::flags::SuperviseFlags;

/// What is handed on.
const FORWARDED: [Signal; 5] = [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP, Signal::USR2];

/// Runs the command.
pub(crate) fn supervise(flags: &SuperviseFlags) -> anyhow::Result<ExitCode> {
    // A successor is a child of its predecessor, and ours when that has ended. The first process of a container is
    // everybody's parent anyway.
    set_child_subreaper(Some(rustix::process::getpid())).context("adopt the children of children")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(follow(flags))
}

async fn follow(flags: &SuperviseFlags) -> anyhow::Result<ExitCode> {
    let (sender, mut signals) = tokio::sync::mpsc::channel(16);
    for forwarded in FORWARDED {
        let mut stream = signal(SignalKind::from_raw(forwarded.as_raw())).context("listen for signals")?;
        let sender = sender.clone();
        tokio::spawn(async move { while stream.recv().await.is_some() && sender.send(forwarded).await.is_ok() {} });
    }
    let mut deaths = signal(SignalKind::child()).context("listen for signals")?;
    let program = std::env::current_exe().context("find the program of this process")?;
    // Every successor is of this group too: that is how the gateway is told from what else may run in a container.
    let first = Command::new(&program)
        .args(&flags.command)
        .process_group(0)
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    let group = i32::try_from(first.id()).ok().and_then(Pid::from_raw).context("the process has no number")?;
    let mut code = 0;
    loop {
        tokio::select! {
            Some(forwarded) = signals.recv() => {
                // There may be nobody any more, which the next round sees.
                let _ = kill_process_group(group, forwarded);
            }
            _ = deaths.recv() => {
                code = bury().unwrap_or(code);
                if test_kill_process_group(group) == Err(Errno::SRCH) {
                    return Ok(ExitCode::from(code));
                }
            }
        }
    }
}

/// Takes leave of every process that has ended. Returns the exit code of the last one.
fn bury() -> Option<u8> {
    let mut last = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        let code = exit_code(status);
        tracing::debug!(pid = pid.as_raw_nonzero(), code, "a process has ended");
        last = Some(code);
    }
    last
}

/// As a shell reports it: 128 and the number of the signal for one that was killed.
fn exit_code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
