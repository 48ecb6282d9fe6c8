//! `loadtest compare`: the proxies side by side on this machine, and a report of it.
//!
//! The machine may be shared, so the ranking is by CPU time of a request and not by throughput, and the peers take
//! turns. What is measured is kept after each turn.

mod chart;
mod diff;
mod goals;
mod html;
mod markdown;
mod results;
mod scenario;
mod turn;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum as _};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub(crate) use diff::{DiffFlags, diff};

use self::results::{Figures, Machine, PeerInfo, Plan, Results, Turn};
use self::scenario::{Kind, Scenario};
use self::turn::{Bench, Clients, Measured};
use crate::peers::{GRPC_HOST, HOST, Located, MOVED_HOST, Peer, Running, Setting};
use crate::process::{self, Process};
use crate::tls::Certificate;
use crate::{interrupt, procfs, report, upstream, workspace};

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

/// A run that is under way.
struct Run<'a> {
    results: Results,
    out: &'a Path,
    located: Vec<Located>,
    /// Peers that serve; one that died is started again for its next turn.
    running: BTreeMap<Peer, Running>,
    setting: Setting<'a>,
    upstream: &'a Process,
    clients: &'a Clients,
    directory: &'a Path,
    progress: ProgressBar,
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
    let hosts = [HOST, GRPC_HOST, MOVED_HOST].map(str::to_owned);
    let certificate = Certificate::generate(&hosts)?;
    let tls = certificate.write(directory.path())?;
    let clients = Clients::new(&certificate)?;
    let (upstream, address, grpc) = start_upstream(directory.path())?;
    let setting = Setting {
        upstream: address,
        grpc,
        other: upstream::start(turn::OTHER)?,
        is_moved: false,
        tls: &tls,
        routes: 0,
        threads: results.plan.threads,
        // A proxy needs two descriptors for a connection, and some others.
        max_connections: u32::try_from(n_descriptors * 4 / 10).unwrap_or(u32::MAX),
    };
    let mut run = Run {
        results,
        out: &flags.out,
        located: Vec::new(),
        running: BTreeMap::new(),
        setting,
        upstream: &upstream,
        clients: &clients,
        directory: directory.path(),
        progress: progress(),
    };
    run.locate(flags);
    let outcome = run.all();
    run.progress.finish_and_clear();
    run.results.is_complete = outcome.is_ok();
    run.finish()?;
    outcome?;
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
    command.process_group(0);
    let mut process = Process::start("upstream", command, directory)?;
    process.wait_until_serving(address, HOST)?;
    Ok((process, address, grpc))
}

/// A bar on a terminal, nothing elsewhere.
fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed_precise}, {eta} left  {msg}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

impl Run<'_> {
    fn locate(&mut self, flags: &CompareFlags) {
        let chosen = if flags.peers.is_empty() { Peer::value_variants() } else { flags.peers.as_slice() };
        self.results.peers.clear();
        self.results.missing.clear();
        for peer in chosen {
            match peer.locate() {
                Ok(located) => {
                    let command = located.command_line(&self.setting);
                    let version = located.version.clone();
                    self.results.peers.push(PeerInfo { peer: *peer, version, command });
                    self.located.push(located);
                }
                Err(error) => {
                    eprintln!("{} is missing: {error:#}", peer.name());
                    self.results.missing.insert(peer.name().to_owned(), format!("{error:#}"));
                }
            }
        }
    }

    /// Measures what is not measured yet.
    fn all(&mut self) -> anyhow::Result<()> {
        let plan = self.results.plan.clone();
        self.progress.set_length(plan.scenarios.len() as u64 * u64::from(plan.rounds) * self.located.len() as u64);
        for id in &plan.scenarios {
            let scenario = scenario::find(id).with_context(|| format!("there is no scenario {id}"))?;
            if matches!(scenario.kind, Kind::Paced { .. }) {
                self.find_slowest()?;
            }
            for round in 1..=plan.rounds {
                let mut order: Vec<usize> = (0..self.located.len()).collect();
                fastrand::shuffle(&mut order);
                for index in order {
                    self.turn(scenario, index, round)?;
                    self.progress.inc(1);
                }
            }
        }
        Ok(())
    }

    /// One turn, whose failure is kept as its result. Only an interruption ends the run.
    fn turn(&mut self, scenario: &Scenario, index: usize, round: u32) -> anyhow::Result<()> {
        let Some(peer) = self.located.get(index).map(|located| located.peer) else { return Ok(()) };
        let is_for_many = matches!(scenario.kind, Kind::Routes { .. } | Kind::Edits);
        if self.results.has(scenario.id, peer, round) || (is_for_many && peer.refuses_routes().is_some()) {
            return Ok(());
        }
        self.progress.set_message(format!("{}, round {round}: {}", scenario.id, peer.name()));
        let (figures, error) = match self.measure(scenario, index) {
            Ok(Measured { figures, errors }) => (figures, errors),
            Err(error) if interrupt::is_interrupted() => return Err(error),
            Err(error) => {
                // Whatever state it is in, it begins its next turn anew.
                self.running.remove(&peer);
                (Figures::default(), Some(format!("{error:#}")))
            }
        };
        if let Some(error) = &error {
            self.progress.suspend(|| eprintln!("{}, round {round}: {}: {error}", scenario.id, peer.name()));
        }
        // Programs say things in several lines; a table has one for each turn.
        let error = error.map(|error| error.split_whitespace().collect::<Vec<_>>().join(" "));
        let scenario = scenario.id.to_owned();
        let load_average = procfs::load_average()?;
        self.results.turns.push(Turn { scenario, peer, round, load_average, error, figures });
        self.results.save(self.out)
    }

    fn measure(&mut self, scenario: &Scenario, index: usize) -> anyhow::Result<Measured> {
        let located = self.located.get(index).context("a peer")?;
        let bench = Bench {
            setting: self.setting,
            upstream: self.upstream,
            plan: &self.results.plan,
            clients: self.clients,
            directory: self.directory,
            slowest: self.results.slowest,
        };
        if let Kind::Routes { n } = scenario.kind {
            return bench.measure_start(n, located);
        }
        let running = match self.running.remove(&located.peer) {
            Some(running) => running,
            None => located.start(&self.setting, self.directory, HOST)?,
        };
        let measured = bench.measure(scenario.kind, &running)?;
        self.running.insert(located.peer, running);
        Ok(measured)
    }

    /// What the slowest peer can do is known from the first scenario, which is measured for it if need be.
    fn find_slowest(&mut self) -> anyhow::Result<()> {
        let [first, ..] = scenario::ALL;
        for index in 0..self.located.len() {
            self.turn(&first, index, 1)?;
        }
        let peers = self.located.iter().map(|located| located.peer);
        let rates = peers.filter_map(|peer| self.results.median(first.id, peer, |figures| figures.requests_a_second));
        let slowest = rates.min_by(f64::total_cmp).context("no peer serves")?;
        self.results.slowest.get_or_insert(slowest);
        Ok(())
    }

    /// Writes the results and what people read.
    fn finish(&self) -> anyhow::Result<()> {
        self.results.save(self.out)?;
        let markdown = markdown::render(&self.results);
        let write = |name: &str, text: &str| {
            let path = self.out.join(name);
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
        };
        write("report.md", &markdown)?;
        write("report.html", &html::render(&self.results))?;
        report::line(&markdown);
        report::line(&format!("Written: {}", self.out.join("report.html").display()));
        Ok(())
    }
}
