//! More clients than there is a processor for.

use std::time::Duration;

use super::Row;
use super::site::Site;
use crate::load::Load;
use crate::peers::Gateway;

pub(super) const WHAT: &str = "overload";
/// Clients that ask again as soon as they are answered, and keep every processor busy.
const ENOUGH: u32 = 64;
/// So many times as many.
const TIMES: u32 = 3;
/// The share of the answers that there must still be.
const GOAL: f64 = 0.9;
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(5);

/// Compares the answers a second for enough clients and for too many.
pub(super) fn row(site: &Site) -> anyhow::Result<Row> {
    let gateway = site.gateway()?;
    let (capacity, _) = answers(site, &gateway, ENOUGH)?;
    let (goodput, n_errors) = answers(site, &gateway, TIMES * ENOUGH)?;
    let share = goodput / capacity;
    Ok(Row {
        what: WHAT,
        goal: format!("{TIMES} x the clients: >= {:.0} % of the answers", 100.0 * GOAL),
        found: format!("{:.0} %: {capacity:.0} -> {goodput:.0} answers a second, {n_errors} errors", 100.0 * share),
        is_met: share >= GOAL && n_errors == 0,
    })
}

#[expect(clippy::cast_precision_loss, reason = "answers of a few seconds")]
fn answers(site: &Site, gateway: &Gateway, connections: u32) -> anyhow::Result<(f64, u64)> {
    let load = Load::closed(site.target(gateway, connections)?)?;
    std::thread::sleep(WARM_UP);
    load.measure();
    let before = load.n_answered();
    std::thread::sleep(MEASURED);
    let n_answered = load.n_answered() - before;
    Ok((n_answered as f64 / MEASURED.as_secs_f64(), load.end().n_errors))
}
