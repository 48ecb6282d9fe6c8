//! `loadtest live`: time from the edit of a manifest to the first right answer, under load.

mod background;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use self::background::Background;
use crate::client::Connection;
use crate::edit::Edit;
use crate::peers::Gateway;
use crate::routes::{self, Route, Routes, Serving};
use crate::statistics::quantile;
use crate::{procfs, report, upstream, workspace};

/// Pause between two questions of the probe.
const PROBE_PAUSE: Duration = Duration::from_micros(200);
/// Answers that must be right after the first right one.
const N_CONFIRMED: usize = 20;
/// The longest pause between two edits, so that they meet every state of the gateway.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// An edit that is not live by then is not going to be.
const LIMIT: Duration = Duration::from_secs(10);
/// 99 of 100 edits are live within this time.
const GOAL: Duration = Duration::from_millis(50);

#[derive(Args)]
pub(crate) struct LiveFlags {
    /// Ingresses, each in a file of its own
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(20..))]
    routes: u32,
    /// Edits
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(20..))]
    edits: u32,
    /// Requests a second beside the probe, over all routes
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
}

/// An edit that is live.
struct Live {
    what: String,
    milliseconds: f64,
}

/// The probe: it edits, and asks until the edit is live.
struct Probe<'a> {
    connection: Connection,
    routes: &'a Routes,
    /// Answers that were neither the old nor the new one.
    n_wrong: u64,
}

/// Runs the command: 0 when the goals are met.
pub(crate) fn live(flags: &LiveFlags) -> anyhow::Result<ExitCode> {
    let program = workspace::build_gateway()?;
    let directory = tempfile::Builder::new().prefix("loadtest-").tempdir().context("create a directory")?;
    let manifests = directory.path().join("manifests");
    std::fs::create_dir(&manifests).context("create a directory")?;
    let upstreams = [upstream::start("a")?, upstream::start("b")?];
    let routes = Arc::new(Routes::create(&manifests, usize::try_from(flags.routes)?, upstreams)?);
    let mut gateway = Gateway::start(&program, &manifests, directory.path(), &[])?;
    for route in &routes.routes {
        gateway.process.wait_until_serving(gateway.address, &route.host)?;
    }
    let background = Background::start(gateway.address, &routes, flags.rate)?;
    let began = Instant::now();
    let mut probe = Probe { connection: Connection::to(gateway.address), routes: &routes, n_wrong: 0 };
    let edits = probe.make_edits(flags.edits)?;
    let seconds = began.elapsed().as_secs_f64();
    let (n_answered, n_wrong) = (background.n_answered(), background.n_wrong() + probe.n_wrong);
    drop(background);
    report::line(&format!(
        "Milliseconds from the closing of a file to the first right answer: {} Ingresses, {} edits\n",
        flags.routes, flags.edits
    ));
    let p99 = print_table(&edits);
    #[expect(clippy::cast_precision_loss, reason = "answers are fewer than 2^52")]
    let rate = n_answered as f64 / seconds;
    report::line(&format!("\nbackground: {n_answered} answers at {rate:.0} a second"));
    report::line(&format!("load average of the machine: {}", procfs::load_average()?));
    let is_fast = p99 <= GOAL.as_secs_f64() * 1e3;
    report::goal("p99 of all edits <= 50 ms", is_fast, &format!("{p99:.1} ms"));
    report::goal("no answer but the old or the new one", n_wrong == 0, &format!("{n_wrong} others"));
    Ok(if is_fast && n_wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl<'a> Probe<'a> {
    fn make_edits(&mut self, n_edits: u32) -> anyhow::Result<Vec<Live>> {
        let mut edits = Vec::new();
        let mut removed: Option<&'a Route> = None;
        for number in 0..n_edits {
            std::thread::sleep(LONGEST_PAUSE.mul_f64(fastrand::f64()));
            // One edit in twenty removes a route, the next brings it back.
            let (route, edit) = match (removed.take(), number % 20) {
                (Some(route), _) => (route, Edit::Create),
                (None, 18) => {
                    let route = self.pick(|route| !route.is_by_endpoints())?;
                    removed = Some(route);
                    (route, Edit::Remove)
                }
                (None, number) => (self.pick(|_| true)?, if number % 2 == 0 { Edit::Rename } else { Edit::InPlace }),
            };
            edits.push(self.follow(route, edit)?);
        }
        Ok(edits)
    }

    fn pick(&self, fits: impl Fn(&Route) -> bool) -> anyhow::Result<&'a Route> {
        let fitting: Vec<&Route> = self.routes.routes.iter().filter(|route| fits(route)).collect();
        fastrand::choice(fitting).context("no route fits")
    }

    /// Makes an edit and asks until it is live.
    fn follow(&mut self, route: &Route, edit: Edit) -> anyhow::Result<Live> {
        let old = self.ask(route)?.with_context(|| format!("{} answers neither of its upstreams", route.host))?;
        let new = match (edit, old) {
            (Edit::Remove, _) => Serving::Gone,
            (_, Serving::A) => Serving::B,
            (_, Serving::B | Serving::Gone) => Serving::A,
        };
        let text = self.routes.text(route, new);
        route.set_right(&[old, new]);
        let done = edit.make(&route.file(), &text).context("edit a manifest")?;
        while self.ask(route)? != Some(new) {
            if done.elapsed() > LIMIT {
                bail!("{}: {} is not live after {LIMIT:?}", route.host, edit.name());
            }
            std::thread::sleep(PROBE_PAUSE);
        }
        let milliseconds = done.elapsed().as_secs_f64() * 1e3;
        route.set_right(&[new]);
        for _ in 0..N_CONFIRMED {
            self.ask(route)?;
        }
        let object = if route.is_by_endpoints() { "EndpointSlice" } else { "Ingress" };
        Ok(Live { what: format!("{object}: {}", edit.name()), milliseconds })
    }

    /// Asks, and counts a wrong answer.
    fn ask(&mut self, route: &Route) -> anyhow::Result<Option<Serving>> {
        let before = route.right();
        let answer = self.connection.get(&route.host, "/").with_context(|| format!("ask for {}", route.host))?;
        if !routes::is_right(&answer, before, route.right()) {
            eprintln!("wrong answer to {}: {answer:?}", route.host);
            self.n_wrong += 1;
        }
        Ok(Serving::of(&answer))
    }
}

/// Prints the distribution of each kind of edit and of all, and returns the 99th percentile of all.
fn print_table(edits: &[Live]) -> f64 {
    report::line(&format!("{:<34}{:>7}{:>9}{:>9}{:>9}{:>9}{:>9}", "edit", "count", "min", "p50", "p90", "p99", "max"));
    let mut kinds: Vec<&str> = edits.iter().map(|edit| edit.what.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        print_row(kind, edits.iter().filter(|edit| edit.what == kind));
    }
    print_row("all", edits.iter())
}

fn print_row<'e>(name: &str, edits: impl Iterator<Item = &'e Live>) -> f64 {
    let all: Vec<f64> = edits.map(|edit| edit.milliseconds).collect();
    let of = |q| quantile(&all, q).unwrap_or_default();
    report::line(&format!(
        "{name:<34}{:>7}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>9.2}",
        all.len(),
        of(0.0),
        of(0.5),
        of(0.9),
        of(0.99),
        of(1.0)
    ));
    of(0.99)
}
