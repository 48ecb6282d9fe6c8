//! `loadtest memory`: resident memory of many routes, and what of it is given back when they are deleted.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use crate::client::Connection;
use crate::peers::Gateway;
use crate::{manifests, procfs, report, upstream, workspace};

/// Hosts that are asked to see whether all manifests are read.
const N_ASKED: usize = 100;
/// Time in which a gateway that has nothing to do comes to rest.
const REST: Duration = Duration::from_secs(2);
/// When memory is looked at after the manifests are deleted.
const AFTER_DELETION: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15)];
/// Bytes that a route may need with its Service and its EndpointSlice.
const GOAL: f64 = 8192.0;
/// After the deletion, the gateway may use this many times the memory of an empty one.
const GOAL_GIVEN_BACK: f64 = 1.3;

#[derive(Args)]
pub(crate) struct MemoryFlags {
    /// Routes, each with a Service and an EndpointSlice
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..))]
    routes: u32,
}

/// What was found, in bytes.
struct Findings {
    empty: u64,
    after_edits: u64,
    after_deletion: Vec<(Duration, u64)>,
    after_start: u64,
    after_requests: u64,
}

/// Runs the command: 0 when the goals are met.
pub(crate) fn memory(flags: &MemoryFlags) -> anyhow::Result<ExitCode> {
    let program = workspace::build_gateway()?;
    let directory = tempfile::Builder::new().prefix("loadtest-").tempdir().context("create a directory")?;
    let manifests = directory.path().join("manifests");
    std::fs::create_dir(&manifests).context("create a directory")?;
    let upstream = upstream::start("x")?;
    let hosts: Vec<String> = (0..flags.routes).map(|number| format!("route-{number}.example")).collect();

    let mut gateway = Gateway::start(&program, &manifests, directory.path(), &[])?;
    wait_for_status(&mut gateway, &hosts, 404)?;
    let empty = at_rest(&gateway)?;
    write(&manifests, &hosts, upstream)?;
    wait_for_status(&mut gateway, &hosts, 200)?;
    let after_edits = at_rest(&gateway)?;
    delete(&manifests, &hosts)?;
    wait_for_status(&mut gateway, &hosts, 404)?;
    let after_deletion = from_now_on(&gateway)?;
    drop(gateway);

    write(&manifests, &hosts, upstream)?;
    let mut gateway = Gateway::start(&program, &manifests, directory.path(), &[])?;
    wait_for_status(&mut gateway, &hosts, 200)?;
    let after_start = at_rest(&gateway)?;
    let mut connection = Connection::to(gateway.address);
    for host in &hosts {
        connection.get(host, "/").with_context(|| format!("ask for {host}"))?;
    }
    let after_requests = at_rest(&gateway)?;
    print(&Findings { empty, after_edits, after_deletion, after_start, after_requests }, flags.routes)
}

/// Waits until a sample of the hosts is answered with the status.
fn wait_for_status(gateway: &mut Gateway, hosts: &[String], status: u16) -> anyhow::Result<()> {
    let mut connection = Connection::to(gateway.address);
    for host in hosts.iter().step_by(hosts.len() / N_ASKED) {
        gateway.process.wait_for(|| connection.get(host, "/").is_ok_and(|answer| answer.status == status))?;
    }
    Ok(())
}

fn at_rest(gateway: &Gateway) -> anyhow::Result<u64> {
    std::thread::sleep(REST);
    gateway.process.resident()
}

/// Memory at several times after a deletion.
fn from_now_on(gateway: &Gateway) -> anyhow::Result<Vec<(Duration, u64)>> {
    let deleted = Instant::now();
    let at = |time: Duration| {
        std::thread::sleep(time.saturating_sub(deleted.elapsed()));
        Ok((time, gateway.process.resident()?))
    };
    AFTER_DELETION.into_iter().map(at).collect()
}

fn write(directory: &Path, hosts: &[String], upstream: SocketAddr) -> anyhow::Result<()> {
    for (number, host) in hosts.iter().enumerate() {
        let name = format!("route-{number}");
        let documents =
            [manifests::ingress(&name, host, &name), manifests::service(&name), manifests::slice(&name, upstream)];
        let path = directory.join(format!("{host}.yaml"));
        std::fs::write(&path, manifests::documents(&documents)).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn delete(directory: &Path, hosts: &[String]) -> anyhow::Result<()> {
    for host in hosts {
        let path = directory.join(format!("{host}.yaml"));
        std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "memory is smaller than 2^52 bytes")]
fn print(findings: &Findings, n_routes: u32) -> anyhow::Result<ExitCode> {
    let Findings { empty, after_edits, after_deletion, after_start, after_requests } = findings;
    let for_each = |resident: u64| resident.saturating_sub(*empty) as f64 / f64::from(n_routes);
    report::line(&format!("Resident memory, {n_routes} routes with a Service and an EndpointSlice each\n"));
    let row = |what: &str, resident: u64| {
        let mebibytes = resident as f64 / f64::from(1 << 20);
        report::line(&format!("{what:<50}{mebibytes:>8.1} MiB{:>8.0} bytes a route", for_each(resident)));
    };
    row("empty directory", *empty);
    row("written while the gateway runs", *after_edits);
    for (time, resident) in after_deletion {
        row(&format!("deleted, {} s later", time.as_secs()), *resident);
    }
    row("another gateway, started on all of them", *after_start);
    row("the same, after a request to each route", *after_requests);
    report::line(&format!("\nload average of the machine: {}", procfs::load_average()?));
    // Counters belong to what is asked for and not to what there is.
    let most = for_each(*after_edits.max(after_start));
    let is_small = most <= GOAL;
    report::goal("<= 8192 bytes for a route, its Service and its EndpointSlice", is_small, &format!("{most:.0}"));
    let last = after_deletion.last().map_or(u64::MAX, |(_, resident)| *resident);
    let given_back = last as f64 / *empty as f64;
    let is_given_back = given_back <= GOAL_GIVEN_BACK;
    let what = format!("after the deletion <= {GOAL_GIVEN_BACK} x the empty gateway");
    report::goal(&what, is_given_back, &format!("{given_back:.2}"));
    Ok(if is_small && is_given_back { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
