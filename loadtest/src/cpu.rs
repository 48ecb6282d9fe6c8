//! `loadtest cpu`: CPU time of a small keep-alive request through each peer.
//!
//! The machine may be shared, so CPU time is compared and not throughput, and the peers take turns.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use crate::load::{Load, Target};
use crate::peers::{Located, Peer, Running, Setting};
use crate::process::{self, Process};
use crate::procfs::{self, CpuTime};
use crate::statistics::{median, quantile};
use crate::{report, workspace};

/// The host that leads to the upstream.
const HOST: &str = "bench.example";
/// Bytes of the body of an answer.
const BODY: usize = 100;
/// Penstock may use this many times the CPU time of the bare proxy.
const GOAL_TO_BARE: f64 = 1.15;

#[derive(Args)]
pub(crate) struct CpuFlags {
    /// Rounds, in each of which every peer takes its turn
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds that are measured in a turn
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Seconds of load before that
    #[arg(long, default_value_t = 1)]
    warm_up: u32,
    /// Connections of the client
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Threads of each peer; as many as there are processors by default
    #[arg(long)]
    threads: Option<usize>,
}

/// What one turn of a peer showed. Times are microseconds for each request.
struct Turn {
    user: f64,
    system: f64,
    requests_a_second: f64,
    n_errors: u64,
    /// Processors that programs outside of this benchmark kept busy.
    others: f64,
}

/// The turns of a peer.
struct Row {
    peer: Peer,
    turns: Vec<Turn>,
}

/// The counters at one moment of a turn.
struct Sample {
    at: Instant,
    peer: CpuTime,
    /// The client and the upstream.
    bench: Duration,
    machine: Duration,
    n_answered: u64,
}

/// Runs the command: 0 when no turn had an error.
pub(crate) fn cpu(flags: &CpuFlags) -> anyhow::Result<ExitCode> {
    let available = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = flags.threads.unwrap_or_else(available);
    let directory = tempfile::Builder::new().prefix("loadtest-").tempdir().context("create a directory")?;
    let mut located = Vec::new();
    let mut missing = Vec::new();
    for peer in Peer::ALL {
        match peer.locate() {
            Ok(found) => located.push(found),
            Err(reason) => missing.push((peer, reason)),
        }
    }
    let body = "x".repeat(BODY);
    let (upstream_process, upstream) = start_upstream(directory.path(), &body)?;
    let setting = Setting { directory: directory.path(), host: HOST, upstream, threads };
    let running = located.iter().map(|peer| peer.start(&setting)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut rows: Vec<Row> = running.iter().map(|running| Row { peer: running.peer, turns: Vec::new() }).collect();
    for round in 1..=flags.rounds {
        let mut order: Vec<(&Running, &mut Row)> = running.iter().zip(&mut rows).collect();
        fastrand::shuffle(&mut order);
        for (running, row) in order {
            eprintln!("round {round} of {}: {}", flags.rounds, running.peer.name());
            row.turns.push(measure(running, &upstream_process, &body, flags)?);
        }
    }
    report::line(&format!(
        "CPU time of one small keep-alive HTTP/1.1 request: {} connections, {threads} threads, {} rounds of {} s\n",
        flags.connections, flags.rounds, flags.seconds
    ));
    print_versions(&located, &missing);
    print_table(&rows);
    print_goals(&rows);
    report::line(&format!("load average of the machine: {}", procfs::load_average()?));
    let n_errors: u64 = rows.iter().flat_map(|row| &row.turns).map(|turn| turn.n_errors).sum();
    Ok(if n_errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn start_upstream(directory: &Path, body: &str) -> anyhow::Result<(Process, SocketAddr)> {
    let address = process::free_address()?;
    let mut command = Command::new(workspace::own_program()?);
    command.args(["upstream", "--listen", &address.to_string(), "--body", body]);
    let mut process = Process::start("upstream", command, directory)?;
    process.wait_until_serving(address, HOST)?;
    Ok((process, address))
}

// === measuring ===

fn measure(running: &Running, upstream: &Process, body: &str, flags: &CpuFlags) -> anyhow::Result<Turn> {
    let load = Load::start(Target {
        address: running.address,
        host: HOST.to_owned(),
        body: body.to_owned(),
        n_connections: flags.connections,
    })?;
    std::thread::sleep(Duration::from_secs(flags.warm_up.into()));
    let before = Sample::take(running, upstream, &load)?;
    std::thread::sleep(Duration::from_secs(flags.seconds.into()));
    let after = Sample::take(running, upstream, &load)?;
    Ok(turn(&before, &after, load.n_errors()))
}

#[expect(clippy::cast_precision_loss, reason = "requests are fewer than 2^52")]
fn turn(before: &Sample, after: &Sample, n_errors: u64) -> Turn {
    let n_requests = after.n_answered.saturating_sub(before.n_answered).max(1) as f64;
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / n_requests;
    let peer = after.peer.since(before.peer);
    let seconds = after.at.duration_since(before.at).as_secs_f64();
    let machine = after.machine.saturating_sub(before.machine);
    let ours = peer.total() + after.bench.saturating_sub(before.bench);
    Turn {
        user: micros(peer.user),
        system: micros(peer.system),
        requests_a_second: n_requests / seconds,
        n_errors,
        others: machine.saturating_sub(ours).as_secs_f64() / seconds,
    }
}

// === printing ===

fn print_versions(located: &[Located], missing: &[(Peer, anyhow::Error)]) {
    for Located { peer, version, .. } in located {
        report::line(&format!("{}: {version}", peer.name()));
    }
    for (peer, reason) in missing {
        report::line(&format!("{}: MISSING: {reason:#}", peer.name()));
    }
}

fn print_table(rows: &[Row]) {
    report::line(&format!(
        "\n{:<24}{:>9}{:>17}{:>8}{:>8}{:>10}{:>11}{:>8}{:>8}",
        "median over rounds", "us/req", "(min..max)", "user", "system", "to bare", "req/s", "errors", "others"
    ));
    for row in rows {
        let all = row.column(Turn::total);
        let of = |q| quantile(&all, q).unwrap_or_default();
        let range = format!("({:.2}..{:.2})", of(0.0), of(1.0));
        let to_bare = ratio(rows, row.peer, Peer::Bare).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
        report::line(&format!(
            "{:<24}{:>9.2}{range:>17}{:>8.2}{:>8.2}{to_bare:>10}{:>11.0}{:>8}{:>8.2}",
            row.peer.name(),
            row.median(Turn::total),
            row.median(|turn| turn.user),
            row.median(|turn| turn.system),
            row.median(|turn| turn.requests_a_second),
            row.turns.iter().map(|turn| turn.n_errors).sum::<u64>(),
            row.median(|turn| turn.others),
        ));
    }
    report::line("others: processors that programs outside of this benchmark kept busy\n");
}

fn print_goals(rows: &[Row]) {
    for (other, limit) in [(Peer::Bare, GOAL_TO_BARE), (Peer::Envoy, 1.0)] {
        let what = format!("Penstock <= {limit} x {}", other.name());
        match ratio(rows, Peer::Penstock, other) {
            Some(ratio) => report::goal(&what, ratio <= limit, &format!("{ratio:.3}")),
            None => report::line(&format!("goal not measured: {what}")),
        }
    }
}

/// The ratio of the medians of two peers.
fn ratio(rows: &[Row], peer: Peer, to: Peer) -> Option<f64> {
    let of = |peer| rows.iter().find(|row| row.peer == peer).map(|row| row.median(Turn::total));
    Some(of(peer)? / of(to)?)
}

// === impl Turn, Row, Sample ===

impl Turn {
    fn total(&self) -> f64 {
        self.user + self.system
    }
}

impl Row {
    fn column(&self, value: impl Fn(&Turn) -> f64) -> Vec<f64> {
        self.turns.iter().map(value).collect()
    }

    fn median(&self, value: impl Fn(&Turn) -> f64) -> f64 {
        median(&self.column(value)).unwrap_or_default()
    }
}

impl Sample {
    fn take(running: &Running, upstream: &Process, load: &Load) -> anyhow::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            peer: running.process.cpu_time()?,
            bench: procfs::cpu_time_alone(std::process::id())?.total() + upstream.cpu_time()?.total(),
            machine: procfs::machine_cpu_time()?,
            n_answered: load.n_answered(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_what_was_used_for_each_request_in_between() {
        let start = Instant::now();
        let millis = Duration::from_millis;
        let sample = |seconds, user, system, bench, machine, n_answered| Sample {
            at: start + Duration::from_secs(seconds),
            peer: CpuTime { user: millis(user), system: millis(system) },
            bench: millis(bench),
            machine: millis(machine),
            n_answered,
        };
        let turn = turn(&sample(1, 500, 500, 700, 9_000, 1_000), &sample(3, 1_500, 1_100, 1_700, 12_000, 101_000), 3);
        assert_eq!((turn.user, turn.system), (10.0, 6.0));
        assert_eq!(turn.total(), 16.0);
        assert_eq!(turn.requests_a_second, 50_000.0);
        assert!((turn.others - 0.2).abs() < 1e-9, "{}", turn.others);
        assert_eq!(turn.n_errors, 3);
    }
}
