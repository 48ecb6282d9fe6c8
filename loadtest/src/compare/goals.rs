//! What Penstock is to reach, as ratios to peers of the same run and as sizes.

use super::results::{Figure, Figures, Results};
use crate::peers::Peer;

const MIB: f64 = 1048576.0;
const KIB: f64 = 1024.0;

/// A goal, and what was found.
pub(super) struct Goal {
    pub(super) what: &'static str,
    /// The figure, as text; `None` when it was not measured.
    pub(super) found: Option<String>,
    pub(super) is_met: bool,
}

/// All goals.
pub(super) fn goals(results: &Results) -> Vec<Goal> {
    let cpu_ratio = |scenario, to| ratio(results, scenario, to, Figures::cpu);
    let penstock = |scenario, figure: Figure| results.median(scenario, Peer::Penstock, figure);
    let of_each = |scenario| {
        let count = penstock(scenario, |figures| figures.samples)?;
        Some(penstock(scenario, |figures| figures.memory)? / count / KIB)
    };
    let more_routes = || Some(penstock("routes-10000", Figures::cpu)? / penstock("routes-1", Figures::cpu)?);
    let mebibytes = |scenario| Some(penstock(scenario, |figures| figures.memory)? / MIB);
    vec![
        at_most("small answers: CPU at most 1.05 x bare Pingora", cpu_ratio("small-64", Peer::Bare), 1.05, "x"),
        at_most("small answers: CPU at most 0.8 x Envoy", cpu_ratio("small-64", Peer::Envoy), 0.8, "x"),
        at_most("HTTP/2 over TLS: CPU at most 1.1 x bare Pingora", cpu_ratio("http2", Peer::Bare), 1.1, "x"),
        at_most("answers of 1 MiB: CPU at most nginx", cpu_ratio("download", Peer::Nginx), 1.0, "x"),
        at_most("requests of 1 MiB: CPU at most nginx", cpu_ratio("upload", Peer::Nginx), 1.0, "x"),
        at_most("full TLS handshakes: CPU at most nginx", cpu_ratio("tls-full", Peer::Nginx), 1.0, "x"),
        at_most("10,000 routes: CPU at most 1.03 x one route", more_routes(), 1.03, "x"),
        at_most("memory with one route: at most 25 MiB", mebibytes("routes-1"), 25.0, "MiB"),
        at_most("memory with 10,000 routes: at most 80 MiB", mebibytes("routes-10000"), 80.0, "MiB"),
        at_most("an idle connection: at most 40 KiB", of_each("idle-plain"), 40.0, "KiB"),
        at_most("an idle TLS connection: at most 56 KiB", of_each("idle-tls"), 56.0, "KiB"),
        at_most("an edit is live: p99 at most 10 ms", results.quantile("edits", Peer::Penstock, 0.99), 10.0, "ms"),
        at_most(
            "edits fail no request",
            results.column("edits", Peer::Penstock, |figures| figures.failures).into_iter().reduce(f64::max),
            0.0,
            "failures",
        ),
    ]
}

fn at_most(what: &'static str, found: Option<f64>, limit: f64, unit: &str) -> Goal {
    Goal {
        what,
        is_met: found.is_some_and(|found| found <= limit),
        found: found.map(|found| format!("{found:.2} {unit}")),
    }
}

/// Penstock's median as a multiple of a peer's.
pub(super) fn ratio(results: &Results, scenario: &str, to: Peer, figure: Figure) -> Option<f64> {
    Some(results.median(scenario, Peer::Penstock, figure)? / results.median(scenario, to, figure)?)
}
