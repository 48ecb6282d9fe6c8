//! Load at a fixed rate: each question is due at a time of its own, however long the answers before it take.
//!
//! The connections are threads that block, because their timers are finer than those of a runtime.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::http1::{is_answered, request};
use super::{AFTER_ERROR, Counters, Samples, TIMEOUT, Target};

/// Bytes of the stack of a thread, which does little.
const STACK: usize = 256 << 10;

/// When questions are due.
struct Schedule {
    start: Instant,
    pause: Duration,
    n_taken: AtomicU32,
}

impl Schedule {
    /// When the next question is due; whoever takes it asks it.
    fn take(&self) -> Instant {
        self.start + self.pause * self.n_taken.fetch_add(1, Ordering::Relaxed)
    }
}

/// Starts a thread for each connection.
pub(super) fn start(target: Target, rate: f64, counters: &Arc<Counters>) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let pause = Duration::from_secs_f64(1.0 / rate.max(1.0));
    let schedule = Arc::new(Schedule { start: Instant::now(), pause, n_taken: AtomicU32::new(0) });
    let target = Arc::new(target);
    let start = |_| {
        let (target, schedule, counters) = (Arc::clone(&target), Arc::clone(&schedule), Arc::clone(counters));
        let thread = std::thread::Builder::new().name("paced".to_owned()).stack_size(STACK);
        thread.spawn(move || ask(&target, &schedule, &counters)).context("start threads")
    };
    (0..target.connections).map(start).collect()
}

fn ask(target: &Target, schedule: &Schedule, counters: &Arc<Counters>) {
    let request = request(target);
    let mut samples = Samples::new(counters);
    let mut stream = None;
    let mut received = Vec::with_capacity(16 << 10);
    while !counters.is_over() {
        let due = schedule.take();
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        match exchange(&mut stream, target, &request, &mut received) {
            Ok(()) => samples.answered(due),
            Err(error) => {
                stream = None;
                counters.fail(&error);
                std::thread::sleep(AFTER_ERROR);
            }
        }
    }
}

/// Asks, on a new connection when there is none.
fn exchange(kept: &mut Option<TcpStream>, target: &Target, request: &[u8], received: &mut Vec<u8>) -> io::Result<()> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect_timeout(&target.plain, TIMEOUT)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream
        }
    };
    stream.write_all(request)?;
    received.clear();
    let mut buffer = [0; 16 << 10];
    loop {
        let n_read = stream.read(&mut buffer)?;
        if n_read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received.extend(buffer.iter().take(n_read));
        if let Some(is_last) = is_answered(received, &target.download)? {
            *kept = (!is_last).then_some(stream);
            return Ok(());
        }
    }
}
