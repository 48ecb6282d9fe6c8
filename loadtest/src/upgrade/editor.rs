//! Edits of Ingresses and EndpointSlices that go on while processes come and go, each followed until it is live.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};

use crate::client::Connection;
use crate::edit::Edit;
use crate::routes::{Route, Routes, Serving};

/// Pause between two edits.
const PAUSE: Duration = Duration::from_millis(50);
/// Pause between two questions about an edit.
const PROBE_PAUSE: Duration = Duration::from_millis(1);
/// An edit that is not live by then is not going to be.
const LIMIT: Duration = Duration::from_secs(10);

/// Edits that are under way.
pub(super) struct Editor {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<u32>>,
}

impl Editor {
    /// Starts to edit random routes.
    pub(super) fn start(address: SocketAddr, routes: Arc<Routes>) -> anyhow::Result<Self> {
        let is_over = Arc::<AtomicBool>::default();
        let over = Arc::clone(&is_over);
        let body = move || edit(address, &routes, &over);
        let thread = std::thread::Builder::new().name("editor".to_owned()).spawn(body).context("start threads")?;
        Ok(Self { is_over, thread })
    }

    /// Makes no more edits. Returns how many there were; an error when one of them did not become live.
    pub(super) fn stop(self) -> anyhow::Result<u32> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the editor panicked"))?
    }
}

fn edit(address: SocketAddr, routes: &Routes, is_over: &AtomicBool) -> anyhow::Result<u32> {
    let mut n_edits = 0;
    while !is_over.load(Ordering::Relaxed) {
        let route = fastrand::choice(&routes.routes).context("there are no routes")?;
        let new = match ask(address, route)? {
            Serving::A => Serving::B,
            Serving::B | Serving::Gone => Serving::A,
        };
        let edit = if n_edits % 2 == 0 { Edit::Rename } else { Edit::InPlace };
        let done = edit.make(&route.file(), &routes.text(route, new)).context("edit a manifest")?;
        while ask(address, route)? != new {
            if done.elapsed() > LIMIT {
                bail!("{}: {} is not live after {LIMIT:?}", route.host, edit.name());
            }
            std::thread::sleep(PROBE_PAUSE);
        }
        n_edits += 1;
        std::thread::sleep(PAUSE);
    }
    Ok(n_edits)
}

/// Asks whoever accepts connections now.
fn ask(address: SocketAddr, route: &Route) -> anyhow::Result<Serving> {
    let began = Instant::now();
    let answer = Connection::to(address).get(&route.host, "/");
    let answer = answer.with_context(|| format!("ask for {} ({:?})", route.host, began.elapsed()))?;
    Serving::of(&answer).with_context(|| format!("wrong answer to {}: {answer:?}", route.host))
}
