//! The report as text: what was measured where, a table for each scenario, the goals.

use std::fmt::Write as _;

use super::goals::{Goal, goals};
use super::results::{Figure, Figures, Quantiles, Results, Turn};
use super::scenario::{self, Change, Kind, Scenario};
use crate::peers::Peer;
use crate::statistics::quantile;

/// A client that is this busy may be what limits the throughput.
const BUSY_CLIENT: f64 = 0.9;

/// A table with its column heads; the rows are in the order of their rank.
pub(super) struct Table {
    pub(super) heads: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

/// The whole report.
pub(super) fn render(results: &Results) -> String {
    let mut text = String::from("# Proxies side by side\n\n");
    for line in preface(results) {
        let _ = writeln!(text, "- {line}");
    }
    text.push_str("\n## Peers\n\n");
    text.push_str(&table(&peers(results)));
    for scenario in measured(results) {
        let _ = write!(text, "\n## {} (`{}`)\n\n", scenario.title, scenario.id);
        text.push_str(&table(&figures(results, scenario)));
    }
    text.push_str("\n## Goals of Penstock\n\n");
    text.push_str(&table(&goal_table(results)));
    let invalid = invalid(results);
    if !invalid.is_empty() {
        text.push_str("\n## Turns that count for nothing\n\n");
        for line in invalid {
            let _ = writeln!(text, "- {line}");
        }
    }
    text
}

/// The scenarios of the plan of which something was measured.
pub(super) fn measured(results: &Results) -> impl Iterator<Item = &'static Scenario> {
    let is_measured = |scenario: &&Scenario| results.turns.iter().any(|turn| turn.scenario == scenario.id);
    results.plan.scenarios.iter().filter_map(|id| scenario::find(id)).filter(is_measured)
}

/// Where and how it was measured.
pub(super) fn preface(results: &Results) -> Vec<String> {
    let Results { machine, plan, .. } = results;
    let mut lines = Vec::new();
    if !results.is_complete {
        lines.push("**Incomplete: the run was cut off, and this is what it had.**".to_owned());
    }
    lines.push(format!(
        "{} x {}, Linux {}; everything on one machine, over its loopback",
        machine.processors, machine.processor, machine.kernel
    ));
    lines.push(format!(
        "{} rounds of {} s after {} s of warm-up, peers in random order within a round; {} threads for each peer",
        plan.rounds, plan.seconds, plan.warm_up, plan.threads
    ));
    let loads: Vec<f64> = results.turns.iter().map(|turn| turn.load_average).collect();
    let others: Vec<f64> = results.turns.iter().filter_map(|turn| turn.figures.others).collect();
    let of = |samples: &[f64], q| quantile(samples, q).unwrap_or_default();
    lines.push(format!(
        "load average {:.1} to {:.1}; other programs kept {:.2} processors busy in the middle, {:.2} at most",
        of(&loads, 0.0),
        of(&loads, 1.0),
        of(&others, 0.5),
        of(&others, 1.0)
    ));
    lines.push("figures are medians over the rounds, with least and most where they are ranked; the rank is by CPU time of the \
                proxy for a request, because the processors are shared; * marks a throughput that the client limited".to_owned());
    lines.extend(results.missing.iter().map(|(name, reason)| format!("**{name} is missing**: {reason}")));
    lines
}

pub(super) fn peers(results: &Results) -> Table {
    let rows = results
        .peers
        .iter()
        .map(|info| vec![info.peer.name().to_owned(), info.version.clone(), format!("`{}`", info.command)]);
    Table { heads: vec!["peer", "version", "command"], rows: rows.collect() }
}

/// What was measured in a scenario.
pub(super) fn figures(results: &Results, scenario: &Scenario) -> Table {
    match scenario.kind {
        Kind::Idle { .. } => ranked(
            results,
            scenario,
            |figures| figures.memory,
            &[
                ("connections", |results, id, peer| median(results, id, peer, |figures| figures.samples, 0)),
                ("KiB for each", |results, id, peer| {
                    let count = results.median(id, peer, |figures| figures.samples)?;
                    Some(format!("{:.1}", results.median(id, peer, |figures| figures.memory)? / count / 1024.0))
                }),
            ],
        ),
        Kind::Changes { of: Change::Route, .. } => {
            ranked(results, scenario, |figures| figures.at(0.5), &[&LIVE[..], &BESIDE].concat())
        }
        Kind::Changes { .. } => ranked(results, scenario, |figures| figures.failures, &BESIDE),
        Kind::Closed { .. } | Kind::Paced { .. } => ranked(results, scenario, Figures::cpu, &REQUESTS),
        Kind::Routes { .. } | Kind::Certificates { .. } => {
            let columns = [
                &REQUESTS[..],
                &[("start ms", (|results, id, peer| median(results, id, peer, |figures| figures.start, 0)) as Cell)],
            ];
            ranked(results, scenario, Figures::cpu, &columns.concat())
        }
    }
}

/// A cell of a table; empty when it was not measured.
type Cell = fn(&Results, &str, Peer) -> Option<String>;

const LIVE: [(&str, Cell); 3] = [
    ("p50 ms until live", |results, id, peer| at(results, id, peer, 0.5)),
    ("p99 ms", |results, id, peer| at(results, id, peer, 0.99)),
    ("most ms", |results, id, peer| at(results, id, peer, 1.0)),
];

const BESIDE: [(&str, Cell); 6] = [
    ("changes", |results, id, peer| median(results, id, peer, |figures| figures.changes, 0)),
    ("requests beside", |results, id, peer| median(results, id, peer, |figures| figures.samples, 0)),
    ("failed, most of a round", |results, id, peer| {
        let failed = results.column(id, peer, |figures| figures.failures).into_iter().reduce(f64::max)?;
        let first = results.valid(id, peer).find_map(|turn| turn.figures.first_failure.as_deref());
        Some(first.map_or_else(|| format!("{failed:.0}"), |first| format!("{failed:.0} ({first})")))
    }),
    ("p99 ms in quiet", |results, id, peer| quantile_of(results, id, peer, |figures| &figures.quiet, 0.99)),
    ("p99 ms beside changes", |results, id, peer| quantile_of(results, id, peer, |figures| &figures.beside, 0.99)),
    ("most ms beside", |results, id, peer| quantile_of(results, id, peer, |figures| &figures.beside, 1.0)),
];

const REQUESTS: [(&str, Cell); 10] = [
    ("CPU µs/request", |results, id, peer| median(results, id, peer, Figures::cpu, 1)),
    ("least..most", |results, id, peer| {
        let column = results.column(id, peer, Figures::cpu);
        Some(format!("{:.1}..{:.1}", quantile(&column, 0.0)?, quantile(&column, 1.0)?))
    }),
    ("user", |results, id, peer| median(results, id, peer, |figures| figures.user, 1)),
    ("kernel", |results, id, peer| median(results, id, peer, |figures| figures.system, 1)),
    ("to nginx", |results, id, peer| ratio(results, id, peer, Peer::Nginx)),
    ("to bare", |results, id, peer| ratio(results, id, peer, Peer::Bare)),
    ("requests/s", |results, id, peer| {
        let is_limited = results.median(id, peer, |figures| figures.client)? >= BUSY_CLIENT;
        let rate = results.median(id, peer, |figures| figures.requests_a_second)?;
        Some(format!("{rate:.0}{}", if is_limited { "*" } else { "" }))
    }),
    ("p50 ms", |results, id, peer| at(results, id, peer, 0.5)),
    ("p99 ms", |results, id, peer| at(results, id, peer, 0.99)),
    ("memory MiB", |results, id, peer| {
        Some(format!("{:.1}", results.median(id, peer, |figures| figures.memory)? / 1048576.0))
    }),
];

fn ranked(results: &Results, scenario: &Scenario, rank: Figure, columns: &[(&'static str, Cell)]) -> Table {
    let mut peers: Vec<(Option<f64>, Peer)> =
        results.peers.iter().map(|info| (results.median(scenario.id, info.peer, rank), info.peer)).collect();
    peers.sort_by(|a, b| a.0.unwrap_or(f64::INFINITY).total_cmp(&b.0.unwrap_or(f64::INFINITY)));
    let row = |(figure, peer): &(Option<f64>, Peer)| {
        let name = match (figure, scenario.refusal(*peer)) {
            (None, Some(reason)) => format!("{} (takes no part: {reason})", peer.name()),
            (None, _) => format!("{} (no valid round)", peer.name()),
            (Some(_), _) => peer.name().to_owned(),
        };
        let cells = columns.iter().map(|(_, cell)| cell(results, scenario.id, *peer).unwrap_or_default());
        std::iter::once(name).chain(cells).collect()
    };
    let heads = std::iter::once("peer").chain(columns.iter().map(|(head, _)| *head)).collect();
    Table { heads, rows: peers.iter().map(row).collect() }
}

/// What is to be reached, what was found, and what to do about it.
pub(super) fn goal_table(results: &Results) -> Table {
    let rows = goals(results).into_iter().map(|Goal { what, scenario, found, is_met, next }| {
        let (verdict, next) = match (&found, is_met) {
            (None, _) => ("not measured", format!("`--scenarios {scenario}`")),
            (Some(_), true) => ("met", String::new()),
            (Some(_), false) => ("**not met**", next.to_owned()),
        };
        vec![what.to_owned(), found.unwrap_or_default(), verdict.to_owned(), next]
    });
    Table { heads: vec!["goal", "found", "", "next step"], rows: rows.collect() }
}

/// Turns with errors.
pub(super) fn invalid(results: &Results) -> Vec<String> {
    let describe = |turn: &Turn| {
        let error = turn.error.as_ref()?;
        Some(format!("{}, {}, round {}: {error}", turn.scenario, turn.peer.name(), turn.round))
    };
    results.turns.iter().filter_map(describe).collect()
}

fn median(results: &Results, scenario: &str, peer: Peer, figure: Figure, digits: usize) -> Option<String> {
    results.median(scenario, peer, figure).map(|value| format!("{value:.digits$}"))
}

fn at(results: &Results, scenario: &str, peer: Peer, q: f64) -> Option<String> {
    results.quantile(scenario, peer, q).map(|value| format!("{value:.2}"))
}

fn quantile_of(results: &Results, scenario: &str, peer: Peer, of: Quantiles, q: f64) -> Option<String> {
    results.quantile_of(scenario, peer, of, q).map(|value| format!("{value:.2}"))
}

fn ratio(results: &Results, scenario: &str, peer: Peer, to: Peer) -> Option<String> {
    let of = |peer| results.median(scenario, peer, Figures::cpu);
    Some(format!("{:.2}", of(peer)? / of(to)?))
}

fn table(Table { heads, rows }: &Table) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let rule: Vec<String> = heads.iter().map(|_| "---".to_owned()).collect();
    let rows: String = rows.iter().map(|row| line(row)).collect();
    format!("{}{}{rows}", line(&heads), line(&rule))
}
