//! `loadtest compare`: the proxies side by side on this machine, and a report of it.
//!
//! The machine may be shared, so the ranking is by CPU time of a request and not by throughput, and the peers take
//! turns. What is measured is kept after each turn.

mod chart;
mod churn;
mod diff;
mod goals;
mod html;
mod markdown;
mod profile;
mod results;
mod run;
mod scenario;
mod turn;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum as _};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub(crate) use diff::{DiffFlags, diff};

use self::results::{Machine, Plan, Results};
use self::run::{Place, Run};
use self::scenario::Scenario;
use self::turn::Clients;
use crate::peers::{GRPC_HOST, HOST, MOVED_HOST, POOL_HOST, Peer, Setting};
use crate::process::{self, Process};
use crate::tls::Certificate;
use crate::{interrupt, report, upstream, workspace};

/// Upstreams that are endpoints by turns.
const POOL: usize = 4;

#[derive(Args)]
pub(crate) struct CompareFlags {
    /// Measure every scenario, which takes hours
    #[arg(long)]
    full: bool,
    /// Scenarios, separated by commas; `--list` names them
    #[arg(long, value_delimiter = ',', conflicts_with = "full", value_parser = parse_scenario)]
    scenarios: Vec<Scenario>,
    /// Peers, separated by commas; all by default
    #[arg(long, value_delimiter = ',', value_enum)]
    peers: Vec<Peer>,
    /// Rounds, in each of which every peer takes its turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds that are measured in a turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Seconds of load before that
    #[arg(long, default_value_t = 1)]
    warm_up: u32,
    /// Threads of each peer; as many as there are processors by default
    #[arg(long)]
    threads: Option<usize>,
    /// Directory of results.json, report.md and report.html
    #[arg(long, default_value = "target/loadtest")]
    out: PathBuf,
    /// Go on with what the directory has
    #[arg(long)]
    resume: bool,
    /// Name the scenarios and measure nothing
    #[arg(long)]
    list: bool,
}

fn parse_scenario(id: &str) -> Result<Scenario, String> {
    scenario::find(id).copied().ok_or_else(|| format!("there is no scenario {id}; --list names them"))
}

/// Runs the command: 0 when everything was measured and nothing failed.
pub(crate) fn compare(flags: &CompareFlags) -> anyhow::Result<ExitCode> {
    if flags.list {
        for scenario in scenario::ALL {
            let mark = if scenario.is_default { '*' } else { ' ' };
            report::line(&format!("{mark} {:<16} {}", scenario.id, scenario.title));
        }
        report::line("* measured by default");
        return Ok(ExitCode::SUCCESS);
    }
    interrupt::watch()?;
    let n_descriptors = raise_descriptor_limit();
    std::fs::create_dir_all(&flags.out).with_context(|| format!("create {}", flags.out.display()))?;
    let results = begin(flags)?;
    let directory = tempfile::Builder::new().prefix("loadtest-").tempdir().context("create a directory")?;
    let hosts = [HOST, GRPC_HOST, MOVED_HOST, POOL_HOST].map(str::to_owned);
    let certificate = Certificate::generate(&hosts)?;
    let tls = certificate.write(directory.path())?;
    let clients = Clients::new(&certificate)?;
    let (upstream, address, grpc) = start_upstream(directory.path())?;
    let pool = (0..POOL).map(|_| upstream::start(turn::SMALL)).collect::<anyhow::Result<Vec<_>>>()?;
    let setting = Setting {
        upstream: address,
        grpc,
        other: upstream::start(turn::OTHER)?,
        is_moved: false,
        pool: &pool,
        tls: &tls,
        routes: 0,
        certificates: &[],
        is_upgraded: false,
        threads: results.plan.threads,
        // A proxy needs two descriptors for a connection, and some others.
        max_connections: u32::try_from(n_descriptors * 4 / 10).unwrap_or(u32::MAX),
    };
    let place = Place { upstream: &upstream, clients: &clients, directory: directory.path() };
    let mut run = Run::new(results, &flags.out, setting, place);
    let peers = if flags.peers.is_empty() { Peer::value_variants() } else { flags.peers.as_slice() };
    let outcome = run.locate(peers).and_then(|()| run.all());
    run.results.is_complete = outcome.is_ok();
    let written = run.finish();
    outcome.and(written)?;
    let has_errors = run.results.turns.iter().any(|turn| turn.error.is_some());
    Ok(if has_errors { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The results that a run goes on with: none, or those of the directory.
fn begin(flags: &CompareFlags) -> anyhow::Result<Results> {
    let chosen: Vec<&Scenario> = match flags.scenarios.as_slice() {
        [] => scenario::ALL.iter().filter(|scenario| scenario.is_default || flags.full).collect(),
        named => named.iter().collect(),
    };
    let plan = Plan {
        scenarios: chosen.iter().map(|scenario| scenario.id.to_owned()).collect(),
        rounds: flags.rounds,
        seconds: flags.seconds,
        warm_up: flags.warm_up,
        threads: flags.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
    };
    let file = flags.out.join(results::FILE);
    if !flags.resume || !file.exists() {
        return Ok(Results::new(machine()?, plan));
    }
    let mut results = Results::load(&file)?;
    if results.plan != plan {
        bail!("{} is of another plan ({:?}): without --resume it is replaced", file.display(), results.plan);
    }
    results.turns.retain(|turn| turn.error.is_none());
    Ok(results)
}

fn machine() -> anyhow::Result<Machine> {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Ok(Machine {
        processor: model.map_or_else(String::new, |(_, name)| name.trim().to_owned()),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        kernel: kernel.trim().to_owned(),
        started: SystemTime::now().duration_since(UNIX_EPOCH).context("the clock")?.as_secs(),
    })
}

/// Thousands of connections need descriptors; children inherit the limit.
fn raise_descriptor_limit() -> u64 {
    const WANTED: u64 = 1 << 17;
    let limit = getrlimit(Resource::Nofile);
    let higher = limit.maximum.map(|maximum| maximum.max(WANTED));
    // Root may raise the limit; anybody may use what there is of it. With fewer, scenarios that need them say so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: higher, maximum: higher })
        .or_else(|_| setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }));
    getrlimit(Resource::Nofile).current.unwrap_or(WANTED)
}

fn start_upstream(directory: &Path) -> anyhow::Result<(Process, SocketAddr, SocketAddr)> {
    let (address, grpc) = (process::free_address()?, process::free_address()?);
    let mut command = Command::new(workspace::own_program()?);
    command.args(["upstream", "--listen", &address.to_string(), "--grpc", &grpc.to_string(), "--body", turn::SMALL]);
    let mut process = Process::start_apart("upstream", command, directory)?;
    process.wait_until_serving(address, HOST)?;
    Ok((process, address, grpc))
}
