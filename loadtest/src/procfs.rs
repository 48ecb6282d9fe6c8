//! What the kernel counts: CPU time and memory of processes, load of the machine.

use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;

/// CPU time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuTime {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl CpuTime {
    pub(crate) fn total(self) -> Duration {
        self.user + self.system
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self { user: self.user.saturating_sub(before.user), system: self.system.saturating_sub(before.system) }
    }
}

/// CPU time of a process and of its descendants that live, with the threads that have ended. In steps of a tick.
pub(crate) fn cpu_time(pid: u32) -> anyhow::Result<CpuTime> {
    let mut time = cpu_time_alone(pid)?;
    // One that has ended meanwhile lives no more.
    for of_child in children(pid)?.into_iter().filter_map(|child| cpu_time(child).ok()) {
        time.user += of_child.user;
        time.system += of_child.system;
    }
    Ok(time)
}

/// CPU time of a process without its children.
pub(crate) fn cpu_time_alone(pid: u32) -> anyhow::Result<CpuTime> {
    stat_cpu_time(&read(&format!("/proc/{pid}/stat"))?).context("unknown form of /proc/PID/stat")
}

/// Resident memory of a process in bytes.
pub(crate) fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = read(&format!("/proc/{pid}/status"))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map(|kibibytes| kibibytes * 1024)
        .context("no VmRSS in /proc/PID/status")
}

/// Memory of a process and of its descendants in bytes, where what several share is counted once (`Pss`).
pub(crate) fn memory(pid: u32) -> anyhow::Result<u64> {
    let rollup = read(&format!("/proc/{pid}/smaps_rollup"))?;
    let own = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:")?.strip_suffix("kB")?.trim().parse::<u64>().ok())
        .context("no Pss in /proc/PID/smaps_rollup")?;
    // One that has ended meanwhile has no memory.
    Ok(own * 1024 + children(pid)?.into_iter().filter_map(|child| memory(child).ok()).sum::<u64>())
}

/// CPU time that the whole machine has used.
pub(crate) fn machine_cpu_time() -> anyhow::Result<Duration> {
    let stat = read("/proc/stat")?;
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("no cpu in /proc/stat")?;
    let columns: Vec<u64> = line.split_ascii_whitespace().filter_map(|column| column.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guests are in user already.
    Ok(ticks(columns.iter().take(8).sum::<u64>() - columns.iter().skip(3).take(2).sum::<u64>()))
}

/// The load average over the last minute.
pub(crate) fn load_average() -> anyhow::Result<f64> {
    let load = read("/proc/loadavg")?;
    load.split_ascii_whitespace().next().and_then(|load| load.parse().ok()).context("unknown form of /proc/loadavg")
}

/// The processes that a process has started and that live.
pub(crate) fn children(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut children = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("threads of {pid}"))? {
        // A thread may end meanwhile.
        let list = std::fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        children.extend(list.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    Ok(children)
}

/// Whether this process ignores a signal.
pub(crate) fn ignores(signal: Signal) -> anyhow::Result<bool> {
    let status = read("/proc/self/status")?;
    let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    Ok(ignored.context("no SigIgn in /proc/PID/status")? >> (signal.as_raw() - 1) & 1 == 1)
}

fn stat_cpu_time(stat: &str) -> Option<CpuTime> {
    // The name, in parentheses, may contain anything.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut columns = after_name.split_ascii_whitespace().skip(11).map(str::parse);
    let mut next = || columns.next()?.ok().map(ticks);
    Some(CpuTime { user: next()?, system: next()? })
}

fn ticks(n_ticks: u64) -> Duration {
    Duration::from_nanos(n_ticks * 1_000_000_000 / rustix::param::clock_ticks_per_second())
}

fn read(path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_process_name() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 166 0 0 0 250 100 0 0 20 0 1 0 1000 2000 3 0";
        let tick = Duration::from_nanos(1_000_000_000 / rustix::param::clock_ticks_per_second());
        assert_eq!(stat_cpu_time(stat), Some(CpuTime { user: tick * 250, system: tick * 100 }));
        assert_eq!(stat_cpu_time("42 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_memory_and_uses_cpu_time() {
        assert!(resident(std::process::id()).unwrap() > 1 << 20);
        let before = cpu_time(std::process::id()).unwrap();
        while cpu_time(std::process::id()).unwrap().since(before).total().is_zero() {
            std::hint::spin_loop();
        }
        assert!(machine_cpu_time().unwrap() > Duration::ZERO);
    }
}
