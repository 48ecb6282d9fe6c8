//! A run that is under way: whose turn it is, and what is kept of it.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use super::results::{Figures, PeerInfo, Profile, Results, Turn};
use super::scenario::{self, Kind, Scenario};
use super::turn::{Bench, Clients, Measured};
use super::{html, markdown, profile};
use crate::load::certificate_host;
use crate::peers::{HOST, Located, Peer, Running, Setting};
use crate::process::Process;
use crate::tls::Certificates;
use crate::{interrupt, procfs, report};

/// Where a run takes place.
pub(super) struct Place<'a> {
    pub(super) upstream: &'a Process,
    pub(super) clients: &'a Clients,
    /// For files that nobody needs afterwards.
    pub(super) directory: &'a Path,
}

/// A run that is under way.
pub(super) struct Run<'a> {
    pub(super) results: Results,
    pub(super) out: &'a Path,
    located: Vec<Located>,
    /// Peers that serve; one that died is started again for its next turn.
    running: BTreeMap<Peer, Running>,
    setting: Setting<'a>,
    upstream: &'a Process,
    clients: &'a Clients,
    directory: &'a Path,
    progress: ProgressBar,
}

/// A bar on a terminal, nothing elsewhere.
fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed_precise}, {eta} left  {msg}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

impl<'a> Run<'a> {
    /// A run of which nothing has been measured but what the results have.
    pub(super) fn new(results: Results, out: &'a Path, setting: Setting<'a>, place: Place<'a>) -> Self {
        let Place { upstream, clients, directory } = place;
        let (located, running) = (Vec::new(), BTreeMap::new());
        Self { results, out, located, running, setting, upstream, clients, directory, progress: progress() }
    }

    /// Finds the peers, and keeps which of them are missing.
    pub(super) fn locate(&mut self, peers: &[Peer]) -> anyhow::Result<()> {
        self.results.peers.clear();
        self.results.missing.clear();
        for peer in peers {
            let located = peer.locate();
            interrupt::sleep(Duration::ZERO)?;
            match located {
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
        Ok(())
    }

    /// Measures what is not measured yet, a scenario at a time.
    pub(super) fn all(&mut self) -> anyhow::Result<()> {
        let plan = self.results.plan.clone();
        self.progress.set_length(plan.scenarios.len() as u64 * u64::from(plan.rounds) * self.located.len() as u64);
        for id in &plan.scenarios {
            let scenario = scenario::find(id).with_context(|| format!("there is no scenario {id}"))?;
            let certificates = match scenario.kind {
                Kind::Paced { .. } => {
                    self.find_slowest()?;
                    None
                }
                Kind::Certificates { n } => Some(self.issue(n)?),
                _ => None,
            };
            let certificates = certificates.as_ref();
            for round in 1..=plan.rounds {
                let mut order: Vec<usize> = (0..self.located.len()).collect();
                fastrand::shuffle(&mut order);
                for index in order {
                    self.turn(scenario, index, round, certificates)?;
                    self.progress.inc(1);
                }
            }
            if scenario.id == profile::SCENARIO {
                self.profile(scenario)?;
            }
        }
        self.progress.finish_and_clear();
        Ok(())
    }

    /// Certificates for a scenario with many.
    fn issue(&self, n: u32) -> anyhow::Result<Certificates> {
        let directory = self.directory.join(format!("certificates-{n}"));
        std::fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
        Certificates::generate((0..n).map(certificate_host), &directory)
    }

    /// One turn, whose failure is kept as its result. Only an interruption ends the run.
    fn turn(
        &mut self,
        scenario: &Scenario,
        index: usize,
        round: u32,
        certificates: Option<&Certificates>,
    ) -> anyhow::Result<()> {
        let Some(peer) = self.located.get(index).map(|located| located.peer) else { return Ok(()) };
        if self.results.has(scenario.id, peer, round) || scenario.refusal(peer).is_some() {
            return Ok(());
        }
        self.progress.set_message(format!("{}, round {round}: {}", scenario.id, peer.name()));
        let (figures, error) = match self.measure(scenario, index, certificates) {
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

    fn measure(
        &mut self,
        scenario: &Scenario,
        index: usize,
        certificates: Option<&Certificates>,
    ) -> anyhow::Result<Measured> {
        let mut running = match scenario.is_started_anew() {
            true => None,
            false => Some(self.running(index)?),
        };
        let located = self.located.get(index).context("a peer")?;
        let bench = Bench { certificates, ..self.bench() };
        let Some(serving) = &mut running else { return bench.measure_anew(scenario.kind, located) };
        let measured = bench.measure(scenario.kind, serving);
        // That it died is the reason of whatever else went wrong.
        serving.process.check()?;
        let measured = measured?;
        self.running.extend(running.map(|running| (running.peer, running)));
        Ok(measured)
    }

    fn bench(&self) -> Bench<'_> {
        Bench {
            setting: self.setting,
            upstream: self.upstream,
            plan: &self.results.plan,
            clients: self.clients,
            certificates: None,
            directory: self.directory,
            slowest: self.results.slowest,
        }
    }

    /// Takes a peer that serves, or starts it.
    fn running(&mut self, index: usize) -> anyhow::Result<Running> {
        let located = self.located.get(index).context("a peer")?;
        if let Some(mut running) = self.running.remove(&located.peer)
            && running.process.check().is_ok()
        {
            return Ok(running);
        }
        located.start(&self.setting, self.directory, HOST)
    }

    /// Draws where the time of some peers goes, unless that is done; the reason why it cannot be is kept instead.
    fn profile(&mut self, scenario: &Scenario) -> anyhow::Result<()> {
        for index in 0..self.located.len() {
            let Some(peer) = self.located.get(index).map(|located| located.peer) else { continue };
            let file = format!("{}-{}.svg", scenario.id, peer.id());
            let is_done = self.out.join(&file).exists()
                && self.results.profiles.iter().any(|profile| profile.peer == peer && profile.file.is_ok());
            if is_done || !profile::PEERS.contains(&peer) {
                continue;
            }
            self.progress.set_message(format!("profile of {}", peer.name()));
            let drawn = self.draw(scenario, index);
            interrupt::sleep(Duration::ZERO)?;
            let gate = drawn.as_ref().ok().and_then(|drawn| drawn.gate);
            let kept = drawn.and_then(|drawn| self.write(&file, &drawn.svg));
            let file = kept.map(|()| file).map_err(|error| format!("{error:#}"));
            self.results.profiles.retain(|profile| profile.peer != peer);
            self.results.profiles.push(Profile { peer, file, gate });
            self.results.save(self.out)?;
        }
        Ok(())
    }

    fn draw(&mut self, scenario: &Scenario, index: usize) -> anyhow::Result<profile::Drawn> {
        let running = self.running(index)?;
        let drawn = self.bench().profile(scenario.kind, &running)?;
        self.running.insert(running.peer, running);
        Ok(drawn)
    }

    /// What the slowest peer can do is known from the first scenario, which is measured for it if need be.
    fn find_slowest(&mut self) -> anyhow::Result<()> {
        let [first, ..] = scenario::ALL;
        for index in 0..self.located.len() {
            self.turn(&first, index, 1, None)?;
        }
        let peers = self.located.iter().map(|located| located.peer);
        let rates = peers.filter_map(|peer| self.results.median(first.id, peer, |figures| figures.requests_a_second));
        let slowest = rates.min_by(f64::total_cmp).context("no peer serves")?;
        self.results.slowest.get_or_insert(slowest);
        Ok(())
    }

    /// Writes the results and what people read.
    pub(super) fn finish(&self) -> anyhow::Result<()> {
        self.progress.finish_and_clear();
        self.results.save(self.out)?;
        let markdown = markdown::render(&self.results);
        // A graph whose file is gone is missing on the page, and nothing else.
        let graph = |file: &str| std::fs::read(self.out.join(file)).ok();
        self.write("report.md", markdown.as_bytes())?;
        self.write("report.html", html::render(&self.results, graph).as_bytes())?;
        report::line(&markdown);
        report::line(&format!("Written: {}", self.out.join("report.html").display()));
        Ok(())
    }

    /// Writes a file into the directory of the run: all of it, or nothing.
    fn write(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let path = self.out.join(name);
        let write = || {
            let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o644)).tempfile_in(self.out)?;
            file.write_all(content)?;
            file.persist(&path)?;
            anyhow::Ok(())
        };
        write().with_context(|| format!("write {}", path.display()))
    }
}
