//! A peer that changes while it serves: what the changes do to the requests beside them, and when they are live.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::results::{Figures, Span, quantiles};
use super::scenario::{Body, Change};
use super::turn::{Bench, Measured, OTHER, SMALL, float};
use crate::client::Connection;
use crate::interrupt;
use crate::load::{Answered, Exchange, Load, Outcome};
use crate::peers::{HOST, Located, MOVED_HOST, POOL_HOST, Running, Setting};

/// Requests a second beside the changes, and the connections they come over.
const BESIDE: (f64, u32) = (500.0, 16);
/// Edits of a turn: at least and at most.
const EDITS: (usize, usize) = (2, 20);
/// Right answers in a row that make an edit live.
const CONFIRMED: u32 = 20;
/// Pause between two questions about an edit.
const PROBE_PAUSE: Duration = Duration::from_millis(1);
/// An edit that is not live by then is not going to be.
const EDIT_LIMIT: Duration = Duration::from_secs(15);
/// Time between two changes of endpoints, none of which is waited for.
const BETWEEN_ENDPOINTS: Duration = Duration::from_millis(250);
/// Upgrades of a turn, and the time after each.
const UPGRADES: usize = 3;
const AFTER_UPGRADE: Duration = Duration::from_millis(500);
/// Endpoints that are in the pool at a time; the others wait for their turn.
const IN_POOL: usize = 3;
/// The span of time in which failures are counted together.
const SPAN: Duration = Duration::from_millis(250);

/// What the changes of a turn came to.
#[derive(Default)]
struct Changed {
    n: usize,
    /// Milliseconds until each was live, where that is seen.
    live: Vec<f64>,
}

impl Bench<'_> {
    /// Starts a peer, looks at a load in quiet, and then at the same load beside changes.
    pub(super) fn measure_changes(&self, of: Change, routes: u32, located: &Located) -> anyhow::Result<Measured> {
        let is_upgraded = of == Change::Process;
        let pool = self.pool_after(0);
        let setting = Setting { routes, is_upgraded, pool: &pool, ..self.setting };
        let mut running = located.start(&setting, self.directory, HOST)?;
        let (rate, connections) = BESIDE;
        let mut target = self.target(&running, Exchange::Kept, connections, Body::Small);
        if of == Change::Endpoints {
            POOL_HOST.clone_into(&mut target.host);
        }
        let load = Load::paced(target, rate)?;
        interrupt::sleep(Duration::from_secs(self.plan.warm_up.into()))?;
        load.measure();
        interrupt::sleep(Duration::from_secs(self.plan.seconds.into()))?;
        let began = Instant::now();
        let changed = match of {
            Change::Route => self.edits(&running, &setting)?,
            Change::Endpoints => self.endpoints(&running, &setting)?,
            Change::Process => upgrades(&running)?,
        };
        running.process.check()?;
        let outcome = load.end();
        let n_before = outcome.failed.iter().filter(|at| **at < began).count();
        let errors = (n_before > 0).then(|| {
            format!("{n_before} errors before anything changed: {}", outcome.first_error.as_deref().unwrap_or_default())
        });
        Ok(Measured { figures: figures(outcome, began, &changed), errors })
    }

    /// The endpoints after so many changes, each of which replaces one.
    fn pool_after(&self, n_changes: usize) -> Vec<SocketAddr> {
        self.setting.pool.iter().copied().cycle().skip(n_changes).take(IN_POOL).collect()
    }

    /// Edits a route until the time is over, and sees when each edit is live.
    fn edits(&self, running: &Running, setting: &Setting<'_>) -> anyhow::Result<Changed> {
        let end = Instant::now() + Duration::from_secs(self.plan.seconds.into());
        let mut live = Vec::new();
        let mut is_moved = false;
        while live.len() < EDITS.0 || (Instant::now() < end && live.len() < EDITS.1) {
            is_moved = !is_moved;
            live.push(edit(running, &Setting { is_moved, ..*setting })?);
            interrupt::sleep(Duration::from_millis(fastrand::u64(0..100)))?;
        }
        Ok(Changed { n: live.len(), live })
    }

    /// Replaces one endpoint after the other until the time is over.
    fn endpoints(&self, running: &Running, setting: &Setting<'_>) -> anyhow::Result<Changed> {
        let end = Instant::now() + Duration::from_secs(self.plan.seconds.into());
        let mut n = 0;
        while Instant::now() < end {
            n += 1;
            running.edit(&Setting { pool: &self.pool_after(n), ..*setting })?;
            interrupt::sleep(BETWEEN_ENDPOINTS)?;
        }
        Ok(Changed { n, live: Vec::new() })
    }
}

fn upgrades(running: &Running) -> anyhow::Result<Changed> {
    for _ in 0..UPGRADES {
        running.upgrade()?;
        interrupt::sleep(AFTER_UPGRADE)?;
    }
    Ok(Changed { n: UPGRADES, live: Vec::new() })
}

/// Makes an edit, and returns the milliseconds until new connections are answered by the new upstream for good.
fn edit(running: &Running, setting: &Setting<'_>) -> anyhow::Result<f64> {
    let right = if setting.is_moved { OTHER } else { SMALL };
    let began = running.edit(setting)?;
    let mut live = None;
    let mut n_right = 0;
    while n_right < CONFIRMED {
        let answer = Connection::to(running.addresses.plain).get(MOVED_HOST, "/");
        if answer.is_ok_and(|answer| answer.status == 200 && answer.body == right) {
            live.get_or_insert_with(|| began.elapsed());
            n_right += 1;
        } else {
            (live, n_right) = (None, 0);
            if began.elapsed() > EDIT_LIMIT {
                bail!("an edit is not live after {EDIT_LIMIT:?}");
            }
        }
        interrupt::sleep(PROBE_PAUSE)?;
    }
    Ok(live.unwrap_or(EDIT_LIMIT).as_secs_f64() * 1e3)
}

/// What changes since a moment did to a load that began in quiet.
fn figures(outcome: Outcome, began: Instant, changed: &Changed) -> Figures {
    let (quiet, beside): (Vec<Answered>, Vec<_>) = outcome.answers.iter().partition(|answer| answer.at < began);
    let milliseconds = |answers: &[Answered]| answers.iter().map(|answer| answer.milliseconds()).collect::<Vec<_>>();
    Figures {
        quantiles: quantiles(&changed.live),
        quiet: quantiles(&milliseconds(&quiet)),
        beside: quantiles(&milliseconds(&beside)),
        timeline: timeline(&outcome, began),
        samples: Some(float((beside.len() + outcome.failed.len()) as u64)),
        changes: Some(float(changed.n as u64)),
        failures: Some(float(outcome.n_errors)),
        first_failure: outcome.first_error,
        ..Figures::default()
    }
}

/// The load in spans of time, seen from the first change.
fn timeline(outcome: &Outcome, began: Instant) -> Vec<Span> {
    let place = |at: Instant| {
        let seconds = match at.checked_duration_since(began) {
            Some(after) => after.as_secs_f64(),
            None => -began.duration_since(at).as_secs_f64(),
        };
        #[expect(clippy::cast_possible_truncation, reason = "a turn has few spans")]
        let place = (seconds / SPAN.as_secs_f64()).floor() as i32;
        place
    };
    let empty = |place: i32| Span { at: f64::from(place) * SPAN.as_secs_f64(), failed: 0, longest: 0.0 };
    let mut spans = BTreeMap::new();
    for answer in &outcome.answers {
        let place = place(answer.at);
        let span = spans.entry(place).or_insert_with(|| empty(place));
        span.longest = span.longest.max(answer.milliseconds());
    }
    for at in &outcome.failed {
        let place = place(*at);
        spans.entry(place).or_insert_with(|| empty(place)).failed += 1;
    }
    spans.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_do_is_told_from_the_quiet_before_them() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let answer = |millis, micros| Answered { at: after(millis), micros };
        let outcome = Outcome {
            n_errors: 2,
            first_error: Some("reset".to_owned()),
            answers: vec![answer(900, 1_000), answer(1_100, 4_000), answer(1_200, 2_000), answer(1_300, 9_000)],
            failed: vec![after(1_310), after(1_320)],
        };
        let figures = figures(outcome, after(1_000), &Changed { n: 3, live: vec![5.0] });
        let at = |quantiles: &[(f64, f64)], q| quantiles.iter().find(|(at, _)| *at == q).map(|(_, value)| *value);
        assert_eq!((at(&figures.quiet, 1.0), at(&figures.beside, 1.0)), (Some(1.0), Some(9.0)));
        assert_eq!((figures.failures, figures.changes, figures.at(0.5)), (Some(2.0), Some(3.0), Some(5.0)));
        let spans: Vec<_> = figures.timeline.iter().map(|span| (span.at, span.failed, span.longest)).collect();
        assert_eq!(spans, [(-0.25, 0, 1.0), (0.0, 0, 4.0), (0.25, 2, 9.0)]);
    }
}
