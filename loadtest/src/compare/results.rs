//! What was measured, as the file in which it is kept.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::peers::Peer;
use crate::statistics::{median, quantile};

/// The form of the file.
const FORMAT: u32 = 1;
/// The name of the file in the directory of a run.
pub(crate) const FILE: &str = "results.json";

/// A run, or what there is of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Results {
    format: u32,
    pub(crate) machine: Machine,
    pub(crate) plan: Plan,
    pub(crate) peers: Vec<PeerInfo>,
    /// Peers that could not be had, with the reason.
    pub(crate) missing: BTreeMap<String, String>,
    /// Requests a second of the slowest peer, from which fixed rates are derived.
    pub(crate) slowest: Option<f64>,
    /// Whether everything that was planned was measured.
    pub(crate) is_complete: bool,
    pub(crate) turns: Vec<Turn>,
    /// Where the time of peers goes.
    #[serde(default)]
    pub(crate) profiles: Vec<Profile>,
}

/// A flame graph of a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Profile {
    pub(crate) peer: Peer,
    /// Its name in the directory of the run, or why there is none.
    pub(crate) file: Result<String, String>,
    /// What the strict gate adds to its CPU time, in percent.
    #[serde(default)]
    pub(crate) gate: Option<f64>,
}

/// Where a run took place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) kernel: String,
    /// Seconds since 1970 at the start.
    pub(crate) started: u64,
}

/// What was to be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) scenarios: Vec<String>,
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
    pub(crate) warm_up: u32,
    /// Threads of each peer.
    pub(crate) threads: usize,
}

/// A peer that was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerInfo {
    pub(crate) peer: Peer,
    pub(crate) version: String,
    pub(crate) command: String,
}

/// One peer in one round of one scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Turn {
    pub(crate) scenario: String,
    pub(crate) peer: Peer,
    pub(crate) round: u32,
    /// Of the machine, over the last minute.
    pub(crate) load_average: f64,
    /// Why the turn counts for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(flatten)]
    pub(crate) figures: Figures,
}

/// What a turn has shown; what a scenario does not measure is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Microseconds of CPU time of the peer for each request, in user space and in the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests_a_second: Option<f64>,
    /// Processors that the client kept busy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client: Option<f64>,
    /// Processors that programs outside of the run kept busy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) others: Option<f64>,
    /// Milliseconds at quantiles: of the latency, or of the time until an edit is live.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) quantiles: Vec<(f64, f64)>,
    /// The same of the latency before anything changes, and while it does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) quiet: Vec<(f64, f64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) beside: Vec<(f64, f64)>,
    /// Bytes of memory of the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<f64>,
    /// Milliseconds from the start of the peer to its first right answer for the last route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start: Option<f64>,
    /// Requests that failed, where that is what is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failures: Option<f64>,
    /// What the first of them was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first_failure: Option<String>,
    /// Edits, exchanges of endpoints, or upgrades.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) changes: Option<f64>,
    /// The load beside them, as time goes by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) timeline: Vec<Span>,
    /// Requests, or connections, that were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) samples: Option<f64>,
}

/// A short time of a turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Span {
    /// Seconds from the first change to its begin; negative before.
    pub(crate) at: f64,
    /// Requests that failed in it.
    pub(crate) failed: u32,
    /// Milliseconds of the slowest answer that ended in it.
    pub(crate) longest: f64,
}

/// A figure of a turn.
pub(crate) type Figure = fn(&Figures) -> Option<f64>;
/// Values of a turn at quantiles.
pub(crate) type Quantiles = fn(&Figures) -> &[(f64, f64)];

impl Results {
    pub(crate) fn new(machine: Machine, plan: Plan) -> Self {
        Self {
            format: FORMAT,
            machine,
            plan,
            peers: Vec::new(),
            missing: BTreeMap::new(),
            slowest: None,
            is_complete: false,
            turns: Vec::new(),
            profiles: Vec::new(),
        }
    }

    /// Reads a file.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let results: Self = serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?;
        if results.format != FORMAT {
            bail!("{}: format {} is not {FORMAT}", path.display(), results.format);
        }
        Ok(results)
    }

    /// Writes the file; when that fails the old one is still there.
    pub(crate) fn save(&self, directory: &Path) -> anyhow::Result<()> {
        let save = || {
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.flush()?;
            file.persist(directory.join(FILE))?;
            anyhow::Ok(())
        };
        save().with_context(|| format!("write {}", directory.join(FILE).display()))
    }

    /// Whether a turn was measured and counts.
    pub(crate) fn has(&self, scenario: &str, peer: Peer, round: u32) -> bool {
        self.valid(scenario, peer).any(|turn| turn.round == round)
    }

    /// The turns that count.
    pub(crate) fn valid(&self, scenario: &str, peer: Peer) -> impl Iterator<Item = &Turn> {
        self.turns.iter().filter(move |turn| turn.scenario == scenario && turn.peer == peer && turn.error.is_none())
    }

    /// A figure of the turns that count.
    pub(crate) fn column(&self, scenario: &str, peer: Peer, figure: Figure) -> Vec<f64> {
        self.valid(scenario, peer).filter_map(|turn| figure(&turn.figures)).collect()
    }

    /// The median of a figure over the rounds.
    pub(crate) fn median(&self, scenario: &str, peer: Peer, figure: Figure) -> Option<f64> {
        median(&self.column(scenario, peer, figure))
    }

    /// The median over the rounds of what lies at a quantile.
    pub(crate) fn quantile(&self, scenario: &str, peer: Peer, q: f64) -> Option<f64> {
        self.quantile_of(scenario, peer, |figures| &figures.quantiles, q)
    }

    /// The same of other quantiles than those.
    pub(crate) fn quantile_of(&self, scenario: &str, peer: Peer, of: Quantiles, q: f64) -> Option<f64> {
        let all: Vec<f64> = self.valid(scenario, peer).filter_map(|turn| find(of(&turn.figures), q)).collect();
        median(&all)
    }
}

impl Figures {
    /// Microseconds of CPU time for each request.
    pub(crate) fn cpu(&self) -> Option<f64> {
        Some(self.user? + self.system?)
    }

    /// The same of the quantiles of latencies.
    pub(crate) fn at(&self, q: f64) -> Option<f64> {
        find(&self.quantiles, q)
    }
}

/// What lies at a quantile that was kept.
pub(crate) fn find(quantiles: &[(f64, f64)], q: f64) -> Option<f64> {
    quantiles.iter().find(|(at, _)| (at - q).abs() < 1e-9).map(|(_, value)| *value)
}

/// The quantiles that are kept of samples in milliseconds.
pub(crate) fn quantiles(samples: &[f64]) -> Vec<(f64, f64)> {
    const KEPT: [f64; 13] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0];
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    KEPT.iter().filter_map(|q| Some((*q, quantile(&sorted, *q)?))).collect()
}
