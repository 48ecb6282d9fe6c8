//! Load at a fixed rate over all routes, which watches that nobody is given a wrong answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::client::Connection;
use crate::routes::{Routes, is_right};

/// Connections, each with a thread.
const N_CONNECTIONS: u32 = 4;

/// Load that is under way.
pub(super) struct Background {
    counters: Arc<Counters>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Counters {
    answered: AtomicU64,
    wrong: AtomicU64,
    is_over: AtomicBool,
}

impl Background {
    /// Starts to ask `rate` questions a second, whether answers come in time or not.
    pub(super) fn start(address: SocketAddr, routes: &Arc<Routes>, rate: u32) -> anyhow::Result<Self> {
        let counters = Arc::new(Counters::default());
        let pause = Duration::from_secs(1) * N_CONNECTIONS / rate.max(1);
        let start = || {
            let (routes, counters) = (Arc::clone(routes), Arc::clone(&counters));
            let body = move || ask(address, &routes, &counters, pause);
            std::thread::Builder::new().name("background".to_owned()).spawn(body)
        };
        let threads = (0..N_CONNECTIONS).map(|_| start()).collect::<Result<_, _>>().context("start threads")?;
        Ok(Self { counters, threads })
    }

    /// Answers until now.
    pub(super) fn n_answered(&self) -> u64 {
        self.counters.answered.load(Ordering::Relaxed)
    }

    /// Answers that were neither the old nor the new one, and questions without an answer.
    pub(super) fn n_wrong(&self) -> u64 {
        self.counters.wrong.load(Ordering::Relaxed)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.counters.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn ask(address: SocketAddr, routes: &Routes, counters: &Counters, pause: Duration) {
    let mut connection = Connection::to(address);
    let mut next = Instant::now();
    while !counters.is_over.load(Ordering::Relaxed) {
        let Some(route) = fastrand::choice(&routes.routes) else { return };
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next += pause;
        let before = route.right();
        let answer = connection.get(&route.host, "/");
        let after = route.right();
        if answer.as_ref().is_ok_and(|answer| is_right(answer, before, after)) {
            counters.answered.fetch_add(1, Ordering::Relaxed);
        } else {
            counters.wrong.fetch_add(1, Ordering::Relaxed);
            eprintln!("wrong answer to {}: {answer:?}, right were {before:03b} and {after:03b}", route.host);
        }
    }
}
