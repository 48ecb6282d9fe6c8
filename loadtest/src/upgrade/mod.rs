//! `loadtest upgrade`: what upgrades lose, under load and edits, and what they leave behind.

mod client;
mod editor;
mod faults;
mod gap;
mod load;
mod served;
mod successor;
mod tls;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;

pub(crate) use self::successor::{Fault, succeed};

use self::client::{Lane, Target};
use self::editor::Editor;
use self::faults::Bad;
use self::load::{Findings, Load, Lost};
use self::served::{Holdings, Served};
use crate::routes::Routes;
use crate::statistics::quantile;
use crate::{procfs, report, upstream, workspace};

/// After the last upgrade, a process may use this many times the memory of that after the first.
const GOAL_MEMORY: f64 = 1.1;
/// Requests after the last upgrade of a load.
const N_AFTER: u64 = 5000;

#[derive(Args)]
pub(crate) struct UpgradeFlags {
    /// Ingresses, each in a file of its own
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(20..))]
    routes: u32,
    /// Requests during the upgrades, and as many during those that fail
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    requests: u64,
    /// Requests a second
    #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u32).range(100..))]
    rate: u32,
    /// Upgrades under load, and as many that fail
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    upgrades: u32,
    /// New processes that are killed when they serve
    #[arg(long, default_value_t = 5)]
    kills: u32,
    /// Upgrades without load, between the first and the last of which nothing may pile up
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..))]
    many: u32,
}

/// What all loads share.
struct Bench<'a> {
    flags: &'a UpgradeFlags,
    served: &'a Served,
    routes: Arc<Routes>,
}

/// Runs the command: 0 when nothing is lost and nothing piles up.
pub(crate) fn upgrade(flags: &UpgradeFlags) -> anyhow::Result<ExitCode> {
    let program = workspace::build_gateway()?;
    gap::is_seen(flags.rate)?;
    let directory = tempfile::Builder::new().prefix("loadtest-").tempdir().context("create a directory")?;
    let manifests = directory.path().join("manifests");
    std::fs::create_dir(&manifests).context("create a directory")?;
    let upstreams = [upstream::start("a")?, upstream::start("b")?];
    let routes = Arc::new(Routes::create(&manifests, usize::try_from(flags.routes)?, upstreams)?);
    let mut served = Served::start(&program, &manifests, directory.path())?;
    for route in &routes.routes {
        served.gateway.process.wait_until_serving(served.gateway.address, &route.host)?;
    }
    let bench = Bench { flags, served: &served, routes };
    let goals = [
        bench.of_success()?,
        bench.of_failure(directory.path(), &program)?,
        bench.of_kills()?,
        nothing_piles_up(&served, flags.many)?,
    ];
    report::line(&format!("\nload average of the machine: {}", procfs::load_average()?));
    Ok(if goals.iter().all(|is_met| *is_met) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Bench<'_> {
    fn of_success(&self) -> anyhow::Result<bool> {
        let n_upgrades = self.flags.upgrades;
        let findings = self.under_load(self.flags.requests, n_upgrades, |_| self.served.succeed().map(drop))?;
        let title = format!("{n_upgrades} upgrades");
        Ok(print(&title, &findings))
    }

    fn of_failure(&self, directory: &Path, program: &Path) -> anyhow::Result<bool> {
        let bad = Bad::all(directory, program, self.served.socket())?;
        let n_upgrades = self.flags.upgrades;
        let findings = self.under_load(self.flags.requests, n_upgrades, |number| {
            let turn = usize::try_from(number)? % bad.len();
            bad.get(turn).context("there are no bad programs")?.try_on(self.served)
        })?;
        let title = format!("{n_upgrades} upgrades that fail");
        let is_met = print(&title, &findings);
        for (number, Bad { what, .. }) in bad.iter().enumerate() {
            let n_tries =
                (0..n_upgrades).filter(|turn| usize::try_from(*turn).is_ok_and(|turn| turn % bad.len() == number));
            report::line(&format!("  {} times to a program that {what}", n_tries.count()));
        }
        Ok(is_met)
    }

    fn of_kills(&self) -> anyhow::Result<bool> {
        let n_kills = self.flags.kills;
        let mut spans = Vec::new();
        let n_requests = self.flags.requests / u64::from(self.flags.upgrades) * u64::from(n_kills);
        let mut findings = self.under_load(n_requests, n_kills, |_| {
            spans.push(faults::kill_in_probation(self.served)?);
            Ok(())
        })?;
        let apart = findings.take_lost_with(&spans);
        let is_met = print(&format!("{n_kills} new processes killed in the probation"), &findings);
        report::line(&format!("  apart: {} on connections that a killed process may have accepted", apart.len()));
        print_lost(&apart);
        Ok(is_met)
    }

    /// Sends requests and edits files while something is done so many times, at even distances.
    fn under_load(
        &self,
        n_requests: u64,
        n_times: u32,
        mut act: impl FnMut(u32) -> anyhow::Result<()>,
    ) -> anyhow::Result<Findings> {
        let gateway = &self.served.gateway;
        let hosts = self.routes.routes.iter().map(|route| route.host.clone()).collect();
        let target = Target { http: gateway.address, https: Some(gateway.https), hosts };
        let load = Load::start(target, self.flags.rate)?;
        let editor = Editor::start(gateway.address, Arc::clone(&self.routes))?;
        for number in 0..n_times {
            load.wait_until(n_requests * u64::from(number) / u64::from(n_times.max(1)));
            act(number).with_context(|| format!("upgrade {}", number + 1))?;
        }
        load.wait_until(n_requests.max(load.n_ended() + N_AFTER));
        let n_edits = editor.stop()?;
        report::line(&format!("\n{n_edits} edits, each live with whoever accepted connections"));
        load.stop()
    }
}

/// Upgrades many times. Whatever a process inherits and keeps would pile up.
fn nothing_piles_up(served: &Served, n_upgrades: u32) -> anyhow::Result<bool> {
    let first = Holdings::of(served.succeed()?)?;
    let mut last = first;
    for _ in 1..n_upgrades {
        last = Holdings::of(served.succeed()?)?;
    }
    report::line(&format!("\n{n_upgrades} upgrades without load"));
    for (name, Holdings { n_descriptors, n_threads, resident }) in [("first", first), ("last", last)] {
        #[expect(clippy::cast_precision_loss, reason = "memory is smaller than 2^52 bytes")]
        let mebibytes = resident as f64 / f64::from(1 << 20);
        report::line(&format!(
            "after the {name:<6}{n_descriptors:>5} descriptors{n_threads:>5} threads{mebibytes:>8.1} MiB resident"
        ));
    }
    #[expect(clippy::cast_precision_loss, reason = "memory is smaller than 2^52 bytes")]
    let ratio = last.resident as f64 / first.resident as f64;
    let is_met = last.n_descriptors <= first.n_descriptors && last.n_threads <= first.n_threads && ratio <= GOAL_MEMORY;
    let what = format!("no more descriptors and threads, and memory <= {GOAL_MEMORY} x");
    report::goal(&what, is_met, &format!("{ratio:.2}"));
    Ok(is_met)
}

/// Prints what came of a load, and returns whether nothing was lost.
fn print(title: &str, findings: &Findings) -> bool {
    report::line(&format!("{title}: milliseconds from the intended start of a request to the end of its answer\n"));
    report::line(&format!("{:<32}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}", "", "answers", "p50", "p99", "p99.9", "max", "lost"));
    for lane in Lane::ALL {
        let latencies = findings.latencies.get(&lane).map_or(&[][..], Vec::as_slice);
        let milliseconds: Vec<f64> = latencies.iter().map(|micros| f64::from(*micros) / 1e3).collect();
        let of = |q| quantile(&milliseconds, q).unwrap_or_default();
        let n_lost = findings.lost.iter().filter(|lost| lost.lane == lane).count();
        report::line(&format!(
            "{:<32}{:>9}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{n_lost:>9}",
            lane.name(),
            milliseconds.len(),
            of(0.5),
            of(0.99),
            of(0.999),
            of(1.0)
        ));
    }
    print_lost(&findings.lost);
    let (n_lost, n_requests) = (findings.lost.len(), findings.n_requests());
    report::goal(
        "no request lost, reset, refused, or stalled for more than 1 s",
        n_lost == 0,
        &format!("{n_lost} of {n_requests}"),
    );
    n_lost == 0
}

fn print_lost(lost: &[Lost]) {
    let mut texts = BTreeMap::<(Lane, &str), usize>::new();
    for Lost { lane, text, .. } in lost {
        *texts.entry((*lane, text)).or_default() += 1;
    }
    for ((lane, text), n_times) in texts {
        report::line(&format!("  {n_times} x {}: {text}", lane.name()));
    }
}
