//! `loadtest propagation`: time from the answer of a real API server, which has taken a change, to the first right answer
//! of the gateway; Traefik's provider for the annotations of ingress-nginx is beside it on the same API server.

mod churn;
mod probe;
mod scene;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use self::churn::Churn;
use self::probe::{Outcome, Right};
use self::scene::{Scene, Subject};
use crate::statistics::quantile;
use crate::{procfs, report, workspace};

/// How long the way to the gateway is cut by `--gap`.
const GAP: Duration = Duration::from_millis(50);
/// 99 of 100 changes of Ingresses are live within this time.
const GOAL: f64 = 25.0;
/// An endpoint that was removed gets no request after this time.
const ENDPOINT_GOAL: f64 = 50.0;
/// With all of them there, the gateway is ready after this time, in seconds.
const START_GOAL: f64 = 5.0;
/// For one change of Traefik's, the gateway is asked for this many: Traefik waits for two seconds before each.
const PER_CHANGE_OF_TRAEFIK: u32 = 10;

#[derive(Args)]
pub(crate) struct PropagationFlags {
    /// Ingresses that are there already
    #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    ingresses: u32,
    /// Changes of each kind, once in quiet and once beside others
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    changes: u32,
    /// Changes a second of other Ingresses, for the second half
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    beside: u32,
    /// Leaves Traefik out
    #[arg(long)]
    alone: bool,
    /// Cuts the way to the gateway for 50 ms, once. The run has to see it and to fail
    #[arg(long)]
    gap: bool,
}

/// What one kind of change came to.
struct Row {
    what: &'static str,
    outcomes: Vec<Outcome>,
}

/// Runs the command: 0 when the goals are met.
pub(crate) fn propagation(flags: &PropagationFlags) -> anyhow::Result<ExitCode> {
    let program = workspace::build_gateway()?;
    workspace::build_cluster()?;
    let runtime = tokio::runtime::Runtime::new().context("start threads")?;
    runtime.block_on(async {
        let scene = Scene::set(flags.ingresses).await?;
        let gateway = scene.start_gateway(&program).await?;
        let traefik = if flags.alone { None } else { Some(scene.start_traefik().await?) };
        report::line(&format!(
            "Milliseconds from the answer of the API server to the first right answer: {} Ingresses\n",
            flags.ingresses
        ));
        let mut is_good = run(&scene, &gateway, flags, flags.changes, true).await?;
        if let Some(traefik) = &traefik {
            run(&scene, traefik, flags, flags.changes.div_ceil(PER_CHANGE_OF_TRAEFIK), false).await?;
        }
        report::line(&format!("load average of the machine: {}", procfs::load_average()?));
        let ready = gateway.ready.as_secs_f64();
        report::goal(
            "ready within 5 s of the start, with all Ingresses",
            ready <= START_GOAL,
            &format!("{ready:.2} s"),
        );
        is_good &= ready <= START_GOAL;
        Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Measures one gateway, in quiet and beside other changes. Whether it meets the goals.
async fn run(
    scene: &Scene,
    subject: &Subject,
    flags: &PropagationFlags,
    n_changes: u32,
    has_goals: bool,
) -> anyhow::Result<bool> {
    let mut is_good = true;
    for is_quiet in [true, false] {
        let churn = (!is_quiet).then(|| Churn::start(scene.cluster(), flags.ingresses, flags.beside));
        let kinds: &[&'static str] = if has_goals { &KINDS } else { &KINDS[..N_OF_INGRESSES] };
        let mut rows: Vec<Row> = kinds.iter().map(|what| Row { what, outcomes: Vec::new() }).collect();
        measure(scene, subject, &mut rows, n_changes, flags.gap && is_quiet && has_goals).await?;
        let beside = match churn {
            Some(churn) => format!("beside {:.0} changes a second", churn.end().await),
            None => "in quiet".to_owned(),
        };
        report::line(&format!("{}, {beside}", subject.name));
        print(&rows);
        let (all, endpoints): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.what != ENDPOINT);
        if has_goals {
            is_good &= judge("p99 of changed Ingresses <= 25 ms", &all, GOAL);
            is_good &= judge("last request to a removed endpoint <= 50 ms", &endpoints, ENDPOINT_GOAL);
            let n_wrong: usize = rows.iter().flat_map(|row| &row.outcomes).map(|outcome| outcome.n_wrong).sum();
            report::goal("no answer but the old or the new one", n_wrong == 0, &format!("{n_wrong} others"));
            is_good &= n_wrong == 0;
        }
        report::line("");
    }
    Ok(is_good)
}

/// What is changed, Ingresses first.
const KINDS: [&str; 4] = ["Ingress: created", "Ingress: moved", "Ingress: deleted", ENDPOINT];
const N_OF_INGRESSES: usize = 3;
const ENDPOINT: &str = "EndpointSlice: emptied";

/// Makes the changes, and follows each. Endpoints where there is a row for them: of two with one address, on different
/// ports, Traefik takes one.
async fn measure(
    scene: &Scene,
    subject: &Subject,
    rows: &mut [Row],
    n_changes: u32,
    with_gap: bool,
) -> anyhow::Result<()> {
    for number in 0..n_changes {
        // Changes meet every state of the gateway.
        tokio::time::sleep(Duration::from_millis(20).mul_f64(fastrand::f64())).await;
        let name = format!("new-{}", scene.next());
        let host = format!("{name}.test");
        let steps =
            [(Right::NotFound, Right::By("a")), (Right::By("a"), Right::By("b")), (Right::By("b"), Right::NotFound)];
        for (row, (old, new)) in rows.iter_mut().zip(steps) {
            let probe = subject.follow(&host, old, new);
            if with_gap && number == n_changes / 2 && old == Right::NotFound {
                subject.cut(GAP).await;
            }
            match new {
                Right::By(service) if old == Right::NotFound => scene.create(&name, &host, service).await,
                Right::By(service) => scene.lead(&name, &host, service).await,
                Right::NotFound => scene.delete(&name).await,
            }
            row.outcomes.push(probe.changed().await.context(row.what)?);
        }
        if let Some(row) = rows.get_mut(N_OF_INGRESSES) {
            let probe = subject.leave("pair.test", "b");
            scene.set_endpoint(false).await;
            row.outcomes.push(probe.changed().await.context(ENDPOINT)?);
            scene.set_endpoint(true).await;
            subject.until("pair.test", Right::By("b")).await.context("EndpointSlice: brought back")?;
        }
    }
    Ok(())
}

fn print(rows: &[Row]) {
    report::line(&format!(
        "{:<26}{:>7}{:>9}{:>9}{:>9}{:>9}{:>9}{:>7}",
        "change", "count", "min", "p50", "p90", "p99", "max", "wrong"
    ));
    for row in rows {
        let all = milliseconds([row]);
        let of = |q| quantile(&all, q).unwrap_or_default();
        let n_wrong: usize = row.outcomes.iter().map(|outcome| outcome.n_wrong).sum();
        report::line(&format!(
            "{:<26}{:>7}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>7}",
            row.what,
            all.len(),
            of(0.0),
            of(0.5),
            of(0.9),
            of(0.99),
            of(1.0),
            n_wrong
        ));
    }
}

fn judge(what: &str, rows: &[&Row], goal: f64) -> bool {
    let p99 = quantile(&milliseconds(rows.iter().copied()), 0.99).unwrap_or(f64::INFINITY);
    report::goal(what, p99 <= goal, &format!("{p99:.1} ms"));
    p99 <= goal
}

fn milliseconds<'r>(rows: impl IntoIterator<Item = &'r Row>) -> Vec<f64> {
    rows.into_iter().flat_map(|row| &row.outcomes).map(|outcome| outcome.delay.as_secs_f64() * 1e3).collect()
}
