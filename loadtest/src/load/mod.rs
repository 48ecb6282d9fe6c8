//! Load on a proxy, from a thread of its own: what is asked, how often, and what came of it.

mod http1;
mod http2;
mod idle;
mod paced;
mod websocket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use parking_lot::Mutex;

pub(crate) use http1::is_answered_over_tls;
pub(crate) use idle::hold;

use crate::tls::ClientTls;

/// Wait of a connection after an error, so that a dead peer is not stormed.
const AFTER_ERROR: Duration = Duration::from_millis(10);
/// An answer that takes longer is an error.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Latencies that a connection keeps; the first ones stay, which is seconds more than any turn takes.
const MAX_SAMPLES: usize = 1 << 20;

/// The domain of the hosts that have a certificate of their own.
pub(crate) const CERTIFICATES_DOMAIN: &str = "certificates.example";

/// The form of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// HTTP/1.1 on a connection that is kept.
    Kept,
    /// HTTP/1.1 on a connection of its own.
    NewConnection,
    /// HTTP/1.1 over TLS, each on a connection with a full handshake.
    FullHandshake,
    /// HTTP/1.1 over TLS, each on a connection with a full handshake for any of so many hosts: see
    /// [`certificate_host`].
    HandshakeOfAny { hosts: u32 },
    /// HTTP/1.1 over TLS, each on a connection that resumes a session.
    Resumption,
    /// HTTP/2 over TLS, with several streams on each connection.
    Http2 { streams: u32 },
    /// Unary gRPC calls over TLS, with several streams on each connection.
    Grpc { streams: u32 },
    /// Messages on a WebSocket, each sent when the echo of the one before has come.
    WebSocket,
}

/// One of the hosts that have a certificate of their own.
pub(crate) fn certificate_host(number: u32) -> String {
    format!("host-{number}.{CERTIFICATES_DOMAIN}")
}

/// What is asked, and the answer that is right.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) client_tls: ClientTls,
    pub(crate) host: String,
    pub(crate) path: &'static str,
    /// Body of a request; empty for a `GET`.
    pub(crate) upload: Arc<[u8]>,
    /// Body of a right answer.
    pub(crate) download: Arc<[u8]>,
    pub(crate) exchange: Exchange,
    pub(crate) connections: u32,
}

impl Outcome {
    /// The times of all exchanges that ended while it was measured.
    pub(crate) fn milliseconds(&self) -> Vec<f64> {
        self.answers.iter().map(|answer| answer.milliseconds()).collect()
    }
}

impl Answered {
    /// The time from the question, or from when it was due.
    pub(crate) fn milliseconds(self) -> f64 {
        f64::from(self.micros) / 1e3
    }
}

/// Load that is under way; it ends when this is dropped.
pub(crate) struct Load {
    counters: Arc<Counters>,
    threads: Vec<JoinHandle<()>>,
}

/// What all connections share.
#[derive(Default)]
struct Counters {
    answered: AtomicU64,
    errors: AtomicU64,
    is_measured: AtomicBool,
    is_over: AtomicBool,
    first_error: Mutex<Option<String>>,
    /// Exchanges that were measured, of the connections that have ended.
    answers: Mutex<Vec<Answered>>,
    /// When exchanges that were measured failed.
    failed: Mutex<Vec<Instant>>,
}

/// An exchange with a right answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    /// When the answer was there.
    pub(crate) at: Instant,
    pub(crate) micros: u32,
}

/// What one connection, or one stream, has measured; it is added to the rest when this is dropped.
struct Samples {
    counters: Arc<Counters>,
    answers: Vec<Answered>,
}

/// What came of a load.
pub(crate) struct Outcome {
    pub(crate) n_errors: u64,
    pub(crate) first_error: Option<String>,
    /// Exchanges that ended while it was measured, in no order.
    pub(crate) answers: Vec<Answered>,
    /// When exchanges failed while it was measured.
    pub(crate) failed: Vec<Instant>,
}

impl Load {
    /// Starts connections that ask again as soon as they are answered.
    pub(crate) fn closed(target: Target) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start threads")?;
        let counters = Arc::new(Counters::default());
        let for_thread = Arc::clone(&counters);
        let body = move || runtime.block_on(ask_all(target, &for_thread));
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(body).context("start threads")?;
        Ok(Self { counters, threads: vec![thread] })
    }

    /// Starts kept connections that ask `rate` questions a second together, whether answers come in time or not: the
    /// time of an answer is counted from when its question was due.
    pub(crate) fn paced(target: Target, rate: f64) -> anyhow::Result<Self> {
        let counters = Arc::new(Counters::default());
        let threads = paced::start(target, rate, &counters)?;
        Ok(Self { counters, threads })
    }

    /// Right answers until now.
    pub(crate) fn n_answered(&self) -> u64 {
        self.counters.answered.load(Ordering::Relaxed)
    }

    /// From now on, latencies are kept.
    pub(crate) fn measure(&self) {
        self.counters.is_measured.store(true, Ordering::Relaxed);
    }

    /// Ends the load.
    pub(crate) fn end(mut self) -> Outcome {
        self.join();
        Outcome {
            n_errors: self.counters.errors.load(Ordering::Relaxed),
            first_error: self.counters.first_error.lock().take(),
            answers: std::mem::take(&mut *self.counters.answers.lock()),
            failed: std::mem::take(&mut *self.counters.failed.lock()),
        }
    }

    fn join(&mut self) {
        self.counters.is_measured.store(false, Ordering::Relaxed);
        self.counters.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.join();
    }
}

// === impl Counters, Samples ===

impl Counters {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Counts what failed while it was measured. Before, a peer may still warm up; after, whatever is under way is cut
    /// off.
    fn fail(&self, error: &io::Error) {
        if self.is_measured.load(Ordering::Relaxed) {
            self.errors.fetch_add(1, Ordering::Relaxed);
            self.first_error.lock().get_or_insert_with(|| error.to_string());
            self.failed.lock().push(Instant::now());
        }
    }
}

impl Samples {
    fn new(counters: &Arc<Counters>) -> Self {
        Self { counters: Arc::clone(counters), answers: Vec::new() }
    }

    /// Counts a right answer to a question that was asked, or due, at `since`.
    fn answered(&mut self, since: Instant) {
        self.counters.answered.fetch_add(1, Ordering::Relaxed);
        if self.counters.is_measured.load(Ordering::Relaxed) && self.answers.len() < MAX_SAMPLES {
            let at = Instant::now();
            let micros = u32::try_from(at.saturating_duration_since(since).as_micros()).unwrap_or(u32::MAX);
            self.answers.push(Answered { at, micros });
        }
    }
}

impl Drop for Samples {
    fn drop(&mut self) {
        self.counters.answers.lock().append(&mut self.answers);
    }
}

async fn ask_all(target: Target, counters: &Arc<Counters>) {
    let connections = target.connections;
    let target = Arc::new(target);
    let tasks: Vec<_> =
        (0..connections).map(|_| tokio::spawn(ask(Arc::clone(&target), Arc::clone(counters)))).collect();
    for task in tasks {
        // A task that panicked has answered nothing more, which the counts show.
        let _ = task.await;
    }
}

/// Asks over one connection at a time until it is over.
async fn ask(target: Arc<Target>, counters: Arc<Counters>) {
    while !counters.is_over() {
        let result = match target.exchange {
            Exchange::Kept => http1::kept(&target, &counters).await,
            Exchange::NewConnection => http1::new_connection(&target, &counters).await,
            Exchange::FullHandshake | Exchange::HandshakeOfAny { .. } | Exchange::Resumption => {
                http1::new_tls(&target, &counters).await
            }
            Exchange::Http2 { streams } => http2::converse(&target, streams, false, &counters).await,
            Exchange::Grpc { streams } => http2::converse(&target, streams, true, &counters).await,
            Exchange::WebSocket => websocket::converse(&target, &counters).await,
        };
        if let Err(error) = result {
            counters.fail(&error);
            tokio::time::sleep(AFTER_ERROR).await;
        }
    }
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}
