//! The gateway under upgrade: a supervised one with a hand-over socket, what it says, and what its kernel counts.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::net::sockopt::socket_peercred;

use crate::client::Connection;
use crate::peers::Gateway;
use crate::procfs;

/// How long a new process serves before the old one leaves.
const PROBATION: &str = "2s";
/// How long a new process may take until it is prepared: more than any needs, and soon over for those that hang.
const TIMEOUT: &str = "15s";
/// What is waited for is there within this time, or never.
const LIMIT: Duration = Duration::from_secs(60);

/// A gateway that can be upgraded.
pub(super) struct Served {
    pub(super) gateway: Gateway,
    program: PathBuf,
    socket: PathBuf,
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holdings {
    pub(super) n_descriptors: usize,
    pub(super) n_threads: usize,
    pub(super) resident: u64,
}

impl Served {
    /// Starts one on the manifests in `manifests`, with its files in `directory`.
    pub(super) fn start(program: &Path, manifests: &Path, directory: &Path) -> anyhow::Result<Self> {
        let socket = directory.join("handoff");
        let flags = [
            format!("--handoff-socket={}", socket.display()),
            format!("--handoff-probation={PROBATION}"),
            format!("--handoff-timeout={TIMEOUT}"),
            "--drain-timeout=30s".to_owned(),
        ];
        let mut gateway = Gateway::supervised(program, manifests, directory, &flags)?;
        gateway.process.wait_for(|| UnixStream::connect(&socket).is_ok())?;
        Ok(Self { gateway, program: program.to_owned(), socket })
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Runs `gateway upgrade` to its end.
    pub(super) fn upgrade(&self, binary: Option<&Path>) -> anyhow::Result<Output> {
        let mut command = Command::new(&self.program);
        command.arg("upgrade").arg("--handoff-socket").arg(&self.socket);
        if let Some(binary) = binary {
            command.arg("--binary").arg(binary);
        }
        command.output().context("start gateway upgrade")
    }

    /// The process that takes the next hand-over.
    pub(super) fn pid(&self) -> anyhow::Result<u32> {
        let stream = wait_for("the hand-over socket", || UnixStream::connect(&self.socket).ok())?;
        let pid = socket_peercred(&stream).context("ask who listens at the hand-over socket")?.pid;
        Ok(u32::try_from(pid.as_raw_nonzero().get())?)
    }

    /// Upgrades, which must succeed, and waits for the end of the old process. Returns the number of the new one.
    pub(super) fn succeed(&self) -> anyhow::Result<u32> {
        let before = self.pid()?;
        let output = self.upgrade(None)?;
        if !output.status.success() {
            bail!("no upgrade: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let old = PathBuf::from(format!("/proc/{before}"));
        wait_for("the end of the old process", || (!old.exists()).then_some(()))?;
        self.pid()
    }

    /// Hand-overs that the process which serves counts with that outcome.
    pub(super) fn n_handovers(&self, outcome: &str) -> anyhow::Result<u64> {
        // A machine that is busy may take its time: the metrics of thousands of routes are many.
        let read = || Connection::to(self.gateway.status).get("gateway", "/metrics").ok();
        let metrics = wait_for("the metrics", read)?;
        let label = format!("outcome=\"{outcome}\"");
        let is_wanted = |line: &&str| line.starts_with("penstock_handovers_total{") && line.contains(&label);
        let value = metrics.body.lines().find(is_wanted).and_then(|line| line.rsplit(' ').next());
        value.map_or(Ok(0), |value| value.parse().with_context(|| format!("hand-overs {value:?}")))
    }

    /// Waits for a line with all of the words in what was logged after the first `offset` bytes, and returns it.
    pub(super) fn wait_for_log(&self, offset: u64, words: &[&str]) -> anyhow::Result<String> {
        wait_for(&format!("a line of the log with {words:?}"), || {
            let log = self.gateway.process.log_after(offset).ok()?;
            log.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
        })
    }
}

impl Holdings {
    /// What a process holds now.
    pub(super) fn of(pid: u32) -> anyhow::Result<Self> {
        let count = |name: &str| {
            let directory = format!("/proc/{pid}/{name}");
            Ok::<_, anyhow::Error>(std::fs::read_dir(&directory).with_context(|| directory.clone())?.count())
        };
        Ok(Self { n_descriptors: count("fd")?, n_threads: count("task")?, resident: procfs::resident(pid)? })
    }
}

/// Waits until there is something.
pub(super) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = probe() {
            return Ok(found);
        }
        if began.elapsed() > LIMIT {
            bail!("waited {LIMIT:?} in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
