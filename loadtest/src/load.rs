//! Load in a closed loop: connections that ask again as soon as they are answered, on a thread of their own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http;

/// Wait of a connection after an error, so that a dead peer is not stormed.
const AFTER_ERROR: Duration = Duration::from_millis(10);
/// An answer that takes longer is an error.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is asked, and the answer that is right.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) body: String,
    pub(crate) n_connections: u32,
}

/// Load that is under way; it ends when this is dropped.
pub(crate) struct Load {
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Counters {
    answered: AtomicU64,
    errors: AtomicU64,
    is_over: AtomicBool,
}

impl Load {
    pub(crate) fn start(target: Target) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start threads")?;
        let counters = Arc::new(Counters::default());
        let for_thread = Arc::clone(&counters);
        let body = move || {
            runtime.block_on(async {
                let n_connections = target.n_connections;
                let target = Arc::new(target);
                let connections: Vec<_> = (0..n_connections)
                    .map(|_| tokio::spawn(ask(Arc::clone(&target), Arc::clone(&for_thread))))
                    .collect();
                for connection in connections {
                    // A task that panicked has answered nothing more, which the counts show.
                    let _ = connection.await;
                }
            });
        };
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(body).context("start threads")?;
        Ok(Self { counters, thread: Some(thread) })
    }

    /// Right answers until now.
    pub(crate) fn n_answered(&self) -> u64 {
        self.counters.answered.load(Ordering::Relaxed)
    }

    /// Wrong or missing answers until now.
    pub(crate) fn n_errors(&self) -> u64 {
        self.counters.errors.load(Ordering::Relaxed)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.counters.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Asks over one connection at a time until it is over.
async fn ask(target: Arc<Target>, counters: Arc<Counters>) {
    while !counters.is_over.load(Ordering::Relaxed) {
        if converse(&target, &counters).await.is_err() {
            counters.errors.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(AFTER_ERROR).await;
        }
    }
}

async fn converse(target: &Target, counters: &Counters) -> io::Result<()> {
    let mut stream = TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    let request = http::request(&target.host, "/");
    let mut received = Vec::with_capacity(4096);
    while !counters.is_over.load(Ordering::Relaxed) {
        stream.write_all(&request).await?;
        received.clear();
        let is_last = tokio::time::timeout(TIMEOUT, read_answer(&mut stream, &mut received, &target.body)).await??;
        counters.answered.fetch_add(1, Ordering::Relaxed);
        if is_last {
            break;
        }
    }
    Ok(())
}

/// Reads one answer, which must be the right one, and tells whether the connection ends with it.
async fn read_answer(stream: &mut TcpStream, received: &mut Vec<u8>, right: &str) -> io::Result<bool> {
    loop {
        if stream.read_buf(received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(head) = http::head(received)?
            && let Some(body) = received.get(head.length..head.length + head.body)
        {
            if head.status != 200 || body != right.as_bytes() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "wrong answer"));
            }
            return Ok(head.is_last);
        }
    }
}
