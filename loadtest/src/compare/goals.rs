//! What Penstock is to reach, as ratios to peers of the same run and as sizes, and what would bring it nearer.

use super::results::{Figure, Figures, Results};
use crate::peers::Peer;

const MIB: f64 = 1048576.0;
const KIB: f64 = 1024.0;

/// A goal, and what was found.
pub(super) struct Goal {
    pub(super) what: &'static str,
    /// The scenarios that show it, as `--scenarios` takes them.
    pub(super) scenario: &'static str,
    /// The figure, as text; `None` when it was not measured.
    pub(super) found: Option<String>,
    pub(super) is_met: bool,
    /// What to do when it is not met.
    pub(super) next: &'static str,
}

/// All goals.
pub(super) fn goals(results: &Results) -> Vec<Goal> {
    [of_requests(results), of_sizes(results), of_changes(results)].into_iter().flatten().collect()
}

fn of_requests(results: &Results) -> Vec<Goal> {
    let cpu_ratio = |scenario, to| ratio(results, scenario, to, Figures::cpu);
    let penstock = |scenario| results.median(scenario, Peer::Penstock, Figures::cpu);
    let more_routes = || Some(penstock("routes-10000")? / penstock("routes-1")?);
    let gate = || results.profiles.iter().find(|profile| profile.peer == Peer::Penstock)?.gate;
    let small = "the widest functions of Penstock's flame graph that bare Pingora's has not; instructions by \
                 callgrind before and after (FINDINGS.md)";
    vec![
        at_most(
            "small answers: CPU at most 1.05 x bare Pingora",
            "small-64",
            cpu_ratio("small-64", Peer::Bare),
            1.05,
            "x",
        )
        .or(small),
        at_most("small answers: CPU at most 0.8 x Envoy", "small-64", cpu_ratio("small-64", Peer::Envoy), 0.8, "x")
            .or("Pingora's own share: one map of headers instead of two, fewer wake-ups of a request"),
        at_most("small answers: the strict gate adds at most 3 % of CPU", "small-64", gate(), 3.0, "%")
            .or("`gateway::gate` and `gateway::framing` in the flame graph"),
        at_most("HTTP/2 over TLS: CPU at most 1.1 x bare Pingora", "http2", cpu_ratio("http2", Peer::Bare), 1.1, "x")
            .or("perf record under `--scenarios http2`: what is done for each stream and could be for each connection"),
        at_most("answers of 1 MiB: CPU at most nginx", "download", cpu_ratio("download", Peer::Nginx), 1.0, "x").or(
            "perf record under `--scenarios download`: pieces of another size (`connection::PIECE`), copies of a piece",
        ),
        at_most("requests of 1 MiB: CPU at most nginx", "upload", cpu_ratio("upload", Peer::Nginx), 1.0, "x").or(
            "perf record under `--scenarios upload`: pieces of another size (`connection::PIECE`), copies of a piece",
        ),
        at_most("full TLS handshakes: CPU at most nginx", "tls-full", cpu_ratio("tls-full", Peer::Nginx), 1.0, "x")
            .or("perf record under `--scenarios tls-full`: what is done beside the signature and the key exchange"),
        at_most("10,000 routes: CPU at most 1.03 x one route", "routes-1,routes-10000", more_routes(), 1.03, "x")
            .or("`cargo bench -p routing`; when a lookup is below 1 µs it is the noise of the rounds: more of them"),
    ]
}

fn of_sizes(results: &Results) -> Vec<Goal> {
    let memory = |scenario| results.median(scenario, Peer::Penstock, |figures| figures.memory);
    let mebibytes = |scenario| Some(memory(scenario)? / MIB);
    let of_each = |scenario| {
        let count = results.median(scenario, Peer::Penstock, |figures| figures.samples)?;
        Some(memory(scenario)? / count / KIB)
    };
    vec![
        at_most("memory with one route: at most 25 MiB", "routes-1", mebibytes("routes-1"), 25.0, "MiB")
            .or("smaps of a gateway at rest: stacks of threads, arenas of the allocator, pages of the program"),
        at_most("memory with 10,000 routes: at most 80 MiB", "routes-10000", mebibytes("routes-10000"), 80.0, "MiB")
            .or("`loadtest memory`: bytes of a route, which the objects and the snapshot both keep"),
        at_most("an idle connection: at most 40 KiB", "idle-plain", of_each("idle-plain"), 40.0, "KiB")
            .or("buffers of a connection that waits for its next request: give them back"),
        at_most("an idle TLS connection: at most 56 KiB", "idle-tls", of_each("idle-tls"), 56.0, "KiB")
            .or("buffers of a connection that waits for its next request, and those of the TLS session"),
    ]
}

fn of_changes(results: &Results) -> Vec<Goal> {
    let failures = |scenario| {
        let failures = results.column(scenario, Peer::Penstock, |figures| figures.failures);
        failures.into_iter().reduce(f64::max)
    };
    let live = results.quantile("edits-10000", Peer::Penstock, 0.99);
    vec![
        at_most("an edit at 10,000 routes is live: p99 at most 10 ms", "edits-10000", live, 10.0, "ms")
            .or("`loadtest live`: whether the watch of files, the reading or the compilation takes the time"),
        at_most("edits fail no request", "edits-10000", failures("edits-10000"), 0.0, "failures")
            .or("the first failure of the scenario names the case"),
        at_most("endpoints that come and go fail no request", "endpoints", failures("endpoints"), 0.0, "failures")
            .or("the first failure of the scenario names the case"),
        at_most("upgrades fail no request", "upgrade", failures("upgrade"), 0.0, "failures")
            .or("`loadtest upgrade`, which tells by the form of a request which are lost"),
    ]
}

fn at_most(what: &'static str, scenario: &'static str, found: Option<f64>, limit: f64, unit: &str) -> Goal {
    Goal {
        what,
        scenario,
        is_met: found.is_some_and(|found| found <= limit),
        found: found.map(|found| format!("{found:.2} {unit}")),
        next: "",
    }
}

impl Goal {
    /// What to do when it is not met.
    fn or(self, next: &'static str) -> Self {
        Self { next, ..self }
    }
}

/// Penstock's median as a multiple of a peer's.
fn ratio(results: &Results, scenario: &str, to: Peer, figure: Figure) -> Option<f64> {
    Some(results.median(scenario, Peer::Penstock, figure)? / results.median(scenario, to, figure)?)
}
