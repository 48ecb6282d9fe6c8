//! Few descriptors, and little memory.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Row;
use super::site::{HOST, Site, bulk_request};
use super::watch::{self, mebibytes};
use crate::client::Connection;
use crate::peers::Gateway;

pub(super) const DESCRIPTORS: &str = "256 descriptors";
pub(super) const MEMORY: &str = "128 MiB of memory";
/// Clients that want more than there is.
const CLIENTS: usize = 2000;
/// How long there is too little.
const FULL: Duration = Duration::from_secs(5);
/// The share of a processor that the gateway may use meanwhile.
const GOAL_CPU: f64 = 0.2;
/// When honest clients are served again.
const GOAL_BACK: Duration = Duration::from_secs(1);
/// Where memory of processes is limited (version 1 of the kernel's control groups).
const GROUPS: &str = "/sys/fs/cgroup/memory";
const BYTES: u64 = 128 << 20;

/// This process holds one end of every connection.
pub(super) fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// A gateway whose descriptors are all taken.
pub(super) fn descriptors(site: &Site) -> anyhow::Result<Row> {
    let gateway = site.gateway_after("ulimit -n 256")?;
    let clients: Vec<TcpStream> = (0..CLIENTS).filter_map(|_| TcpStream::connect(gateway.address).ok()).collect();
    let (is_alive, needed) = watch::during(&gateway, || {
        std::thread::sleep(FULL);
        Ok(Connection::to(gateway.status).get("status", "/healthz").is_ok_and(|answer| answer.status == 200))
    })?;
    drop(clients);
    let back = served_again(&gateway)?;
    let share = needed.cpu.as_secs_f64() / FULL.as_secs_f64();
    Ok(Row {
        what: DESCRIPTORS,
        goal: format!("{CLIENTS} clients: CPU <= 20 %, back within 1 s"),
        found: format!(
            "{:.0} % CPU, /healthz {}, back in {:.2} s",
            100.0 * share,
            if is_alive { "answers" } else { "is silent" },
            back.as_secs_f64()
        ),
        is_met: is_alive && share <= GOAL_CPU && back <= GOAL_BACK,
    })
}

/// A gateway that the kernel would kill for its memory, with clients that take large answers and never read them, and
/// others that send large bodies.
pub(super) fn memory(site: &Site) -> anyhow::Result<Row> {
    let goal = format!("{CLIENTS} clients: not killed, back within 1 s");
    let group = match Group::create() {
        Ok(group) => group,
        Err(error) => {
            let found = format!("not measured: {error:#}");
            return Ok(Row { what: MEMORY, goal, found, is_met: false });
        }
    };
    let first = format!("echo $$ > {}", group.0.join("cgroup.procs").display());
    let gateway = site.gateway_after(&first)?;
    let clients: Vec<TcpStream> =
        (0..CLIENTS).filter_map(|number| burden(gateway.address, number % 2 == 0).ok()).collect();
    std::thread::sleep(FULL);
    let n_clients = clients.len();
    let Ok(resident) = gateway.process.resident() else {
        let found = format!("{n_clients} connected, killed by the kernel");
        return Ok(Row { what: MEMORY, goal, found, is_met: false });
    };
    drop(clients);
    let back = served_again(&gateway)?;
    Ok(Row {
        what: MEMORY,
        goal,
        found: format!("{n_clients} connected, {:.0} MiB, back in {:.2} s", mebibytes(resident), back.as_secs_f64()),
        is_met: back <= GOAL_BACK,
    })
}

/// A client that is a burden: it asks for a large answer, or sends the beginning of a large body.
fn burden(address: SocketAddr, asks: bool) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    if asks {
        stream.write_all(&bulk_request())?;
    } else {
        stream.write_all(&crate::http::post(HOST, "/sink", 1 << 24))?;
        stream.set_nonblocking(true)?;
        let _ = stream.write(&[b'x'; 64 << 10]);
    }
    Ok(stream)
}

/// How long it takes until a request is answered as it should be.
fn served_again(gateway: &Gateway) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let limit = Duration::from_secs(10);
    while !Connection::to(gateway.address).get(HOST, "/").is_ok_and(|answer| answer.status == 200) {
        // A gateway that has gone is told apart from one that is busy.
        gateway.process.resident()?;
        if began.elapsed() > limit {
            return Ok(limit);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(began.elapsed())
}

/// Processes that share a limit of memory. It goes when this is dropped, after they have.
struct Group(PathBuf);

impl Group {
    fn create() -> anyhow::Result<Self> {
        let path = Path::new(GROUPS).join(format!("penstock-loadtest-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        let group = Self(path);
        std::fs::write(group.0.join("memory.limit_in_bytes"), BYTES.to_string()).context("limit memory")?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}
