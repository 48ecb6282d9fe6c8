//! Programs that are started, waited for, measured and ended.

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

use crate::client::Connection;
use crate::interrupt;
use crate::procfs::{self, CpuTime};

/// A program that does not serve within this time has failed.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked whether it serves.
const LOOK: Duration = Duration::from_millis(10);
/// A program that is told to end has this long before it is killed.
const END_LIMIT: Duration = Duration::from_secs(3);
/// Bytes of the log of a program that are shown when it fails.
const SHOWN_LOG: u64 = 2048;

/// A running program; it is ended when this is dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Whether it has a process group of its own, which ends with it.
    is_apart: bool,
}

impl Process {
    /// Starts a program in a process group of its own: whoever interrupts this program leaves its end to this one, and
    /// what it leaves behind when it dies is ended too.
    pub(crate) fn start_apart(name: &str, mut command: Command, directory: &Path) -> anyhow::Result<Self> {
        command.process_group(0);
        let mut process = Self::start(name, command, directory)?;
        process.is_apart = true;
        Ok(process)
    }

    /// Starts a program. Its standard error goes to a file in `directory`; its standard output is a pipe that is read
    /// and forgotten, as a container runtime would read it.
    pub(crate) fn start(name: &str, mut command: Command, directory: &Path) -> anyhow::Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
        let mut child = command.spawn().with_context(|| format!("start {name}"))?;
        let output = child.stdout.take();
        let process = Self { name: name.to_owned(), child, log, is_apart: false };
        if let Some(output) = output {
            std::thread::Builder::new()
                .name("output".to_owned())
                .spawn(move || forget(output))
                .context("start threads")?;
        }
        Ok(process)
    }

    /// Waits until the host is answered with 200.
    pub(crate) fn wait_until_serving(&mut self, address: SocketAddr, host: &str) -> anyhow::Result<()> {
        self.wait_for(|| Connection::to(address).get(host, "/").is_ok_and(|answer| answer.status == 200))
    }

    /// Waits until something holds.
    pub(crate) fn wait_for(&mut self, mut holds: impl FnMut() -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while !holds() {
            self.check()?;
            if Instant::now() > deadline {
                bail!("{} does not serve after {START_LIMIT:?}: {}", self.name, self.last_words());
            }
            interrupt::sleep(LOOK)?;
        }
        Ok(())
    }

    /// Sees that it has not ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        if !self.has_ended() {
            return Ok(());
        }
        self.end_group();
        let status = self.child.wait().context("wait for a program")?;
        bail!("{} ended with {status}: {}", self.name, self.last_words())
    }

    /// Whether it has ended. Its number is not given to another process before somebody waits for it.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // Whoever cannot be waited for has been.
        self.pid().is_none_or(|pid| !matches!(waitid(WaitId::Pid(pid), options), Ok(None)))
    }

    /// Ends all others of its group, once.
    fn end_group(&mut self) {
        if std::mem::take(&mut self.is_apart)
            && let Some(pid) = self.pid()
        {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    /// The process that was started.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of the program with its children.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<CpuTime> {
        procfs::cpu_time(self.child.id()).with_context(|| format!("{} is gone: {}", self.name, self.last_words()))
    }

    /// Resident memory of the program in bytes.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        procfs::resident(self.child.id()).with_context(|| format!("{} is gone: {}", self.name, self.last_words()))
    }

    /// Bytes that it has logged so far.
    pub(crate) fn logged(&self) -> anyhow::Result<u64> {
        let log = std::fs::metadata(&self.log).with_context(|| format!("look at {}", self.log.display()))?;
        Ok(log.len())
    }

    /// What it has logged after the first `offset` bytes.
    pub(crate) fn log_after(&self, offset: u64) -> anyhow::Result<String> {
        let mut text = Vec::new();
        let mut log = File::open(&self.log).with_context(|| format!("open {}", self.log.display()))?;
        log.seek(SeekFrom::Start(offset)).and_then(|_| log.read_to_end(&mut text)).context("read a log")?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Memory of the program with its children in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        procfs::memory(self.child.id()).with_context(|| format!("{} is gone: {}", self.name, self.last_words()))
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(self.pid().context("a process id")?, signal).with_context(|| format!("signal {}", self.name))
    }

    fn last_words(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut log) = File::open(&self.log) {
            let length = log.metadata().map_or(0, |metadata| metadata.len());
            let _ = log.seek(SeekFrom::Start(length.saturating_sub(SHOWN_LOG)));
            let _ = log.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).trim().to_owned()
    }
}

impl Drop for Process {
    /// A program with children has to end them itself, so it is asked before it is killed.
    fn drop(&mut self) {
        let _ = self.signal(Signal::TERM);
        let deadline = Instant::now() + END_LIMIT;
        while !self.has_ended() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.end_group();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address of the loopback that nobody listens on.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    let socket = TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    socket.local_addr().context("find a free port")
}

fn forget(mut output: impl Read) {
    let mut buffer = vec![0; 1 << 16];
    while output.read(&mut buffer).is_ok_and(|n_read| n_read > 0) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_leaves_behind_ends_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        // The worker is in the group of its master, and the master is gone.
        command.args(["-c", "sleep 600 & echo $! >&2"]);
        let mut process = Process::start_apart("master", command, directory.path()).unwrap();
        while !process.has_ended() {
            std::thread::yield_now();
        }
        let worker: u32 = process.log_after(0).unwrap().trim().parse().unwrap();
        let is_there = || {
            let stat = std::fs::read_to_string(format!("/proc/{worker}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        assert!(is_there());
        let error = process.check().unwrap_err();
        assert!(error.to_string().contains("master ended with exit status: 0"), "{error}");
        while is_there() {
            std::thread::yield_now();
        }
    }
}
