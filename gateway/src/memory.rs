//! Whether memory runs short. The kernel ends a process that needs more than its control group allows, and every request
//! with it; before that, new work is turned away and clients that do not take their answers are let go. It must not
//! know what a connection does about it.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connections::{Connections, Shortage};

/// How often it is looked at where there is a limit: a busy gateway fills tens of megabytes in this time.
const INTERVAL: Duration = Duration::from_millis(20);
/// How often a limit is looked for where there is none; a container may get one while it runs.
const INTERVAL_WITHOUT_LIMIT: Duration = Duration::from_secs(10);
/// Between two lines in the log: shedding goes on by moments.
const SILENCE: Duration = Duration::from_secs(10);
/// Kept free for requests that are under way, unless it is more than half of what there is.
const HEADROOM: u64 = 32 << 20;
/// Connections and requests that are taken on between two looks although memory is short: where the routes alone fill it,
/// nothing would be served otherwise.
const ALLOWANCE: u32 = 16;
/// The kernel writes a number near 2^63 for no limit (version 1 of control groups).
const NO_LIMIT: u64 = 1 << 60;

/// Tells the connections whenever memory begins to run short, and when it no longer does.
pub(crate) async fn watch(connections: Arc<Connections>) {
    let groups = Group::all(&read_to_string("/proc/self/cgroup").unwrap_or_default());
    if groups.is_empty() {
        return;
    }
    let mut shortage = Shortage::None;
    let mut told: Option<Instant> = None;
    loop {
        let levels: Vec<Level> = groups.iter().filter_map(Group::level).collect();
        let now = levels.iter().map(|level| level.shortage(shortage)).max().unwrap_or_default();
        connections.allow(ALLOWANCE);
        if now != shortage {
            connections.set_shortage(now);
            if now > shortage && told.is_none_or(|told| told.elapsed() >= SILENCE) {
                told = Some(Instant::now());
                tracing::warn!(shortage = ?now, ?levels, "memory runs short: clients are turned away");
            }
            shortage = now;
        }
        tokio::time::sleep(if levels.is_empty() { INTERVAL_WITHOUT_LIMIT } else { INTERVAL }).await;
    }
}

/// How full a group is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Level {
    used: u64,
    limit: u64,
}

impl Level {
    /// What that means, where `before` was the case a moment ago: it takes a little more to leave it again.
    fn shortage(self, before: Shortage) -> Shortage {
        let headroom = (self.limit / 10).max(HEADROOM.min(self.limit / 2));
        let is_beyond = |free: u64, shortage: Shortage| {
            let bound = self.limit - free;
            self.used >= if before >= shortage { bound - bound / 20 } else { bound }
        };
        if is_beyond(headroom / 2, Shortage::Dire) {
            Shortage::Dire
        } else if is_beyond(headroom, Shortage::Some) {
            Shortage::Some
        } else {
            Shortage::None
        }
    }
}

/// The files of a control group that say how much memory its processes use, and may use.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    limit: PathBuf,
    usage: PathBuf,
    stat: PathBuf,
    /// What of the usage the kernel takes back by itself, as a line of `stat` names it.
    reclaimable: &'static str,
}

impl Group {
    /// The groups that may limit this process, from the text of `/proc/self/cgroup`: its own and all above it. In a
    /// container its own group may be mounted at the root, whatever its path says.
    fn all(text: &str) -> Vec<Self> {
        text.lines().flat_map(|line| Self::of_line(line).into_iter().flatten()).collect()
    }

    fn of_line(line: &str) -> Option<impl Iterator<Item = Self>> {
        let (_, line) = line.split_once(':')?;
        let (controllers, path) = line.split_once(':')?;
        let is_second = controllers.is_empty();
        if !is_second && !controllers.split(',').any(|controller| controller == "memory") {
            return None;
        }
        let ancestors = Path::new(path).ancestors().filter_map(|group| group.strip_prefix("/").ok());
        Some(ancestors.map(move |group| if is_second { Self::second(group) } else { Self::first(group) }))
    }

    /// A group of version 1.
    fn first(group: &Path) -> Self {
        let directory = Path::new("/sys/fs/cgroup/memory").join(group);
        Self {
            limit: directory.join("memory.limit_in_bytes"),
            usage: directory.join("memory.usage_in_bytes"),
            stat: directory.join("memory.stat"),
            reclaimable: "total_inactive_file",
        }
    }

    /// A group of version 2.
    fn second(group: &Path) -> Self {
        let directory = Path::new("/sys/fs/cgroup").join(group);
        Self {
            limit: directory.join("memory.max"),
            usage: directory.join("memory.current"),
            stat: directory.join("memory.stat"),
            reclaimable: "inactive_file",
        }
    }

    /// `None` where nothing limits it. What is used is the working set, as the kubelet reckons it.
    fn level(&self) -> Option<Level> {
        let limit = parse_limit(&read_to_string(&self.limit).ok()?)?;
        let usage: u64 = read_to_string(&self.usage).ok()?.trim().parse().ok()?;
        let reclaimable = parse_stat(&read_to_string(&self.stat).ok()?, self.reclaimable);
        Some(Level { used: usage.saturating_sub(reclaimable), limit })
    }
}

/// A limit as the kernel writes it; `None` for none.
fn parse_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| (1..NO_LIMIT).contains(limit))
}

/// The number in a line that begins with a name; 0 without one.
fn parse_stat(text: &str, name: &str) -> u64 {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    values.next().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_tenth_is_kept_free_and_enough_for_what_is_under_way() {
        for (limit, some, dire) in
            [(10_240, 9_216, 9_728), (1024, 922, 973), (320, 288, 304), (128, 96, 112), (20, 10, 15)]
        {
            let shortage = |used: u64, before| Level { used: used * MIB, limit: limit * MIB }.shortage(before);
            assert_eq!(shortage(some - 1, Shortage::None), Shortage::None, "{limit} MiB");
            assert_eq!(shortage(some, Shortage::None), Shortage::Some, "{limit} MiB");
            assert_eq!(shortage(dire - 1, Shortage::Some), Shortage::Some, "{limit} MiB");
            assert_eq!(shortage(dire, Shortage::Some), Shortage::Dire, "{limit} MiB");
        }
    }

    #[test]
    fn a_shortage_does_not_end_at_the_level_where_it_began() {
        let shortage = |used: u64, before| Level { used: used * MIB, limit: 128 * MIB }.shortage(before);
        assert_eq!(shortage(95, Shortage::Some), Shortage::Some);
        assert_eq!(shortage(90, Shortage::Some), Shortage::None);
        assert_eq!(shortage(110, Shortage::Dire), Shortage::Dire);
        assert_eq!(shortage(105, Shortage::Dire), Shortage::Some);
        assert_eq!(shortage(80, Shortage::Dire), Shortage::None);
    }

    #[test]
    fn limits_are_looked_for_in_the_groups_of_the_process() {
        let files = |text: &str| -> Vec<String> {
            Group::all(text).into_iter().map(|group| group.limit.display().to_string()).collect()
        };
        assert_eq!(
            files("0::/pods/a\n"),
            ["/sys/fs/cgroup/pods/a/memory.max", "/sys/fs/cgroup/pods/memory.max", "/sys/fs/cgroup/memory.max"]
        );
        assert_eq!(files("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
        assert_eq!(
            files("9:cpu,cpuacct:/x\n4:memory:/y\n1:name=systemd:/z\n"),
            ["/sys/fs/cgroup/memory/y/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
        assert!(files("").is_empty() && files("nonsense\n").is_empty());
    }

    #[test]
    fn a_limit_is_a_number_that_limits() {
        assert_eq!(parse_limit("134217728\n"), Some(128 * MIB));
        for none in ["max\n", "9223372036854771712\n", "", "0\n", "-1\n"] {
            assert_eq!(parse_limit(none), None, "{none:?}");
        }
    }

    #[test]
    fn cached_files_are_no_lack_of_memory() {
        let stat = "cache 4096\ninactive_file 1024\ntotal_inactive_file 2048\n";
        assert_eq!(parse_stat(stat, "inactive_file"), 1024);
        assert_eq!(parse_stat(stat, "total_inactive_file"), 2048);
        assert_eq!(parse_stat(stat, "file"), 0);
    }
}
