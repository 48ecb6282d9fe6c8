//! Upgrades that must fail: to programs that are not up to it, and to one that is killed in the probation. Each must leave
//! a line in the log, an exit code and a metric that say why.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::client::Opened;
use super::served::{Served, wait_for};
use crate::workspace;

/// A connection may wait this long in the queue before a process accepts it, on a machine that is busy.
const QUEUED: Duration = Duration::from_millis(100);

/// A program that must not take over.
pub(super) struct Bad {
    pub(super) what: &'static str,
    program: PathBuf,
    /// The outcome in the metric and in the log.
    outcome: &'static str,
    /// What the log and `gateway upgrade` say.
    reason: &'static str,
}

impl Bad {
    /// The programs, written to `directory`, for a gateway that hands over at `socket`.
    pub(super) fn all(directory: &Path, gateway: &Path, socket: &Path) -> anyhow::Result<[Self; 5]> {
        let gateway = gateway.display();
        let own = format!("{} successor --socket {}", workspace::own_program()?.display(), socket.display());
        let bad = |name: &'static str, what, line: &str, outcome, reason| {
            let program = directory.join(name);
            let text = format!("#!/bin/sh\n{line}\n");
            std::fs::write(&program, text).with_context(|| format!("write {}", program.display()))?;
            let executable = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&program, executable).with_context(|| format!("write {}", program.display()))?;
            anyhow::Ok(Self { what, program, outcome, reason })
        };
        let broken = format!("exec {gateway} run --manifests /nonexistent");
        Ok([
            bad("exits", "exits with 1", "exit 1", "exited", "exit status: 1")?,
            bad("hangs", "hangs before READY", "exec sleep 600", "hung", "no word")?,
            bad("broken", "has a broken configuration", &broken, "exited", "exit status: 2")?,
            bad("crashes", "crashes with the sockets", &format!("exec {own} crash"), "exited", "signal: 6")?,
            bad("other", "speaks another version", &format!("exec {own} version"), "version", "version 65535")?,
        ])
    }

    /// Upgrades to it, and looks at what is said about it.
    pub(super) fn try_on(&self, served: &Served) -> anyhow::Result<()> {
        let fails = || format!("a program that {}", self.what);
        must_fail(served, self.outcome, self.reason, || served.upgrade(Some(&self.program))).with_context(fails)
    }
}

/// Upgrades, and kills the new process when it serves. Returns when connections may have been accepted by it.
pub(super) fn kill_in_probation(served: &Served) -> anyhow::Result<Opened> {
    let offset = served.gateway.process.logged()?;
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let started = served.wait_for_log(offset, &["started a new process", "pid="])?;
            let (_, pid) = started.split_once("pid=").context("no number of a process")?;
            let pid = Pid::from_raw(pid.trim().parse()?).context("no number of a process")?;
            let mut began = Instant::now();
            wait_for("the probation", || {
                let is_on = served.gateway.process.log_after(offset).ok()?.contains("in the probation");
                if !is_on {
                    began = Instant::now();
                }
                is_on.then_some(())
            })?;
            std::thread::sleep(Duration::from_millis(fastrand::u64(1..1000)));
            kill_process(pid, Signal::KILL).context("kill the new process")?;
            let began = began.checked_sub(QUEUED).context("a machine that has just begun")?;
            anyhow::Ok(Opened { began, ended: Instant::now() })
        });
        must_fail(served, "exited", "signal: 9", || served.upgrade(None))?;
        killer.join().map_err(|_| anyhow!("the thread that kills panicked"))?
    })
    .context("a program that is killed in the probation")
}

/// The old process serves on, and says why in its log, its metric, and the exit code of `gateway upgrade`.
fn must_fail(
    served: &Served,
    outcome: &str,
    reason: &str,
    upgrade: impl FnOnce() -> anyhow::Result<std::process::Output>,
) -> anyhow::Result<()> {
    let (pid, n_before) = (served.pid()?, served.n_handovers(outcome)?);
    let offset = served.gateway.process.logged()?;
    let output = upgrade()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(1) || !said.contains("the old process serves on") || !said.contains(reason) {
        bail!("gateway upgrade said {:?} ({})", said.trim(), output.status);
    }
    served.wait_for_log(offset, &["no hand-over", outcome, reason])?;
    let n_counted = served.n_handovers(outcome)?;
    if n_counted != n_before + 1 {
        bail!("penstock_handovers_total{{outcome={outcome:?}}} went from {n_before} to {n_counted}");
    }
    if served.pid()? != pid {
        bail!("another process serves");
    }
    Ok(())
}
