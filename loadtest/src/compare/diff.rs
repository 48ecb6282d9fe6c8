//! `loadtest diff`: two runs compared, where the rounds of each say how much is noise.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::results::{Figure, Figures, Results, find};
use crate::peers::Peer;
use crate::report;
use crate::statistics::{median, quantile};

/// A change of less than this share is not named, however quiet the rounds were.
const SMALLEST: f64 = 0.02;
/// Figures that are compared; of all of them, less is better.
const FIGURES: [(&str, Figure); 7] = [
    ("CPU µs/request", Figures::cpu),
    ("p50 ms", |figures| figures.at(0.5)),
    ("p99 ms", |figures| figures.at(0.99)),
    ("p99 ms beside changes", |figures| find(&figures.beside, 0.99)),
    ("memory bytes", |figures| figures.memory),
    ("start ms", |figures| figures.start),
    ("failures", |figures| figures.failures),
];

#[derive(Args)]
pub(crate) struct DiffFlags {
    /// results.json of the earlier run
    old: PathBuf,
    /// results.json of the later run
    new: PathBuf,
}

/// A figure whose rounds do not overlap in the two runs.
#[derive(Debug, PartialEq)]
struct Change {
    what: String,
    old: f64,
    new: f64,
}

/// Runs the command: 1 when something is worse.
pub(crate) fn diff(flags: &DiffFlags) -> anyhow::Result<ExitCode> {
    let (old, new) = (Results::load(&flags.old)?, Results::load(&flags.new)?);
    let (changes, n_compared) = changes(&old, &new);
    if n_compared == 0 {
        bail!("the two runs have no scenario of a peer in common");
    }
    let (worse, better): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| change.new > change.old);
    for (title, changes) in [("worse", &worse), ("better", &better)] {
        for Change { what, old, new } in changes {
            let ratio = if *old == 0.0 { String::new() } else { format!(" ({:.2} x)", new / old) };
            report::line(&format!("{title}: {what}: {old:.2} -> {new:.2}{ratio}"));
        }
    }
    report::line(&format!("{n_compared} figures compared: {} worse, {} better", worse.len(), better.len()));
    Ok(if worse.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn changes(old: &Results, new: &Results) -> (Vec<Change>, usize) {
    let mut changes = Vec::new();
    let mut n_compared = 0;
    for scenario in &old.plan.scenarios {
        for peer in old.peers.iter().map(|info| info.peer) {
            for (name, figure) in FIGURES {
                let columns = (old.column(scenario, peer, figure), new.column(scenario, peer, figure));
                if columns.0.is_empty() || columns.1.is_empty() {
                    continue;
                }
                n_compared += 1;
                changes.extend(change(&describe(scenario, peer, name), &columns.0, &columns.1));
            }
        }
    }
    (changes, n_compared)
}

fn describe(scenario: &str, peer: Peer, figure: &str) -> String {
    format!("{scenario}, {}: {figure}", peer.name())
}

/// The change of a figure, if it is more than noise: no round of the one run is between rounds of the other.
fn change(what: &str, old: &[f64], new: &[f64]) -> Option<Change> {
    let least = |column: &[f64]| quantile(column, 0.0);
    let most = |column: &[f64]| quantile(column, 1.0);
    let is_apart = least(new)? > most(old)? || most(new)? < least(old)?;
    let (old, new) = (median(old)?, median(new)?);
    let is_large = (new - old).abs() > SMALLEST * old.abs();
    (is_apart && is_large).then(|| Change { what: what.to_owned(), old, new })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_overlap_are_noise() {
        assert_eq!(change("x", &[10.0, 12.0, 14.0], &[13.0, 16.0, 17.0]), None);
    }

    #[test]
    fn rounds_apart_are_a_change() {
        let expected = Change { what: "x".to_owned(), old: 12.0, new: 16.0 };
        assert_eq!(change("x", &[10.0, 12.0, 14.0], &[15.0, 16.0, 17.0]), Some(expected));
    }

    #[test]
    fn a_change_of_a_hundredth_is_not_named() {
        assert_eq!(change("x", &[100.0], &[101.0]), None);
        assert!(change("x", &[0.0], &[1.0]).is_some());
    }
}
