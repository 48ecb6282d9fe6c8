//! Honest clients beside an attack: how long they wait.

use std::time::Duration;

use crate::load::{Load, Outcome};
use crate::peers::Gateway;
use crate::statistics::quantile;

use super::site::Site;

/// Connections of honest clients.
const CONNECTIONS: u32 = 4;
/// How long they are alone with the gateway.
const ALONE: Duration = Duration::from_secs(3);
/// Below this, in milliseconds, a wait is one for a processor and tells nothing about the gateway.
const NOISE: f64 = 5.0;
/// With an attack beside them they may wait this many times as long.
const GOAL: f64 = 2.0;

/// Honest clients that ask at a fixed rate.
pub(super) struct Honest {
    load: Load,
    alone: f64,
}

/// How long honest clients waited, the 99th of a hundred, in milliseconds.
pub(super) struct Waits {
    alone: f64,
    beside: f64,
    n_errors: u64,
}

impl Honest {
    /// Measures how long they wait alone, and lets them go on.
    pub(super) fn start(site: &Site, gateway: &Gateway, rate: u32) -> anyhow::Result<Self> {
        let load = || Load::paced(site.target(gateway, CONNECTIONS)?, f64::from(rate));
        let before = load()?;
        std::thread::sleep(ALONE / 3);
        before.measure();
        std::thread::sleep(ALONE);
        let alone = p99(&before.end());
        let load = load()?;
        load.measure();
        Ok(Self { load, alone })
    }

    /// Ends them.
    pub(super) fn end(self) -> Waits {
        let outcome = self.load.end();
        Waits { alone: self.alone, beside: p99(&outcome), n_errors: outcome.n_errors }
    }
}

impl Waits {
    /// Whether they hardly noticed.
    pub(super) fn is_met(&self) -> bool {
        self.n_errors == 0 && self.beside <= (GOAL * self.alone).max(NOISE)
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        let Self { alone, beside, n_errors } = self;
        format!("p99 {alone:.2} -> {beside:.2} ms, {n_errors} errors")
    }
}

fn p99(outcome: &Outcome) -> f64 {
    quantile(&outcome.milliseconds(), 0.99).unwrap_or(f64::INFINITY)
}
