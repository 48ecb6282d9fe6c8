//! Connections that are slow on purpose.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::site::{HOST, Site, bulk_request, connect};
use super::watch::{self, mebibytes};
use super::{Honest, HostileFlags, Row};

/// How long a connection is looked at that does not end.
pub(super) const LIMIT: Duration = Duration::from_secs(15);
/// Between the opening of one connection and that of the next: all of them together would be a flood, whose sender
/// needs as much of the processors as the gateway.
const PAUSE: Duration = Duration::from_millis(1);
/// A head, a handshake and a first byte have 10 s; the end of thousands of connections takes a moment.
const GONE: Duration = Duration::from_millis(10_500);
/// How many connections are slow with bodies, which may take their time.
const SLOW_BODIES: u32 = 500;
/// Bytes of memory that a slow body may need.
const BODY_MEMORY: u64 = 128 << 10;

/// A way to be slow.
pub(super) struct Attack {
    pub(super) what: &'static str,
    is_tls: bool,
    pace: Pace,
}

/// What is done with time.
#[derive(Clone, Copy)]
enum Pace {
    /// Nothing is ever sent.
    Silent,
    /// So much of a message is sent, and a byte more of it every now and then.
    Drip(&'static [u8]),
    /// The head of a request is sent at once, its body by bytes. It is not cut off, and must cost little.
    Body,
    /// A large answer is taken by kilobytes. It is not cut off as long as it is taken, and must cost little.
    Read,
}

/// All that are tried.
pub(super) const ALL: &[Attack] = &[
    Attack { what: "silent connections", is_tls: false, pace: Pace::Silent },
    Attack {
        what: "slow heads",
        is_tls: false,
        pace: Pace::Drip(b"GET / HTTP/1.1\r\nHost: bench.example\r\nX-Slow: "),
    },
    Attack { what: "half a preface of HTTP/2", is_tls: false, pace: Pace::Drip(b"PRI * HTT") },
    Attack { what: "silent TLS connections", is_tls: true, pace: Pace::Silent },
    Attack { what: "half a ClientHello", is_tls: true, pace: Pace::Drip(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]) },
    Attack { what: "slow bodies", is_tls: false, pace: Pace::Body },
    Attack { what: "slow readers", is_tls: false, pace: Pace::Read },
];

/// Tries one.
pub(super) fn row(attack: &Attack, site: &Site, flags: &HostileFlags) -> anyhow::Result<Row> {
    let gateway = site.gateway()?;
    let honest = Honest::start(site, &gateway, flags.rate)?;
    let is_cut_off = matches!(attack.pace, Pace::Silent | Pace::Drip(_));
    let n_connections = if is_cut_off { flags.connections } else { SLOW_BODIES.min(flags.connections) };
    let address = if attack.is_tls { gateway.https } else { gateway.address };
    let (lives, needed) = watch::during(&gateway, || all(address, attack.pace, n_connections))?;
    let waits = honest.end();
    let memory = needed.memory / u64::from(n_connections);
    if !is_cut_off {
        return Ok(Row {
            what: attack.what,
            goal: format!("{n_connections} cost <= 128 KiB each, p99 <= 2 x"),
            found: format!("{} KiB each, {}", memory >> 10, waits.text()),
            is_met: memory <= BODY_MEMORY && waits.is_met(),
        });
    }
    let n_left = lives.iter().filter(|life| life.is_none()).count();
    let longest = lives.iter().flatten().max().copied().unwrap_or_default();
    Ok(Row {
        what: attack.what,
        goal: format!("{n_connections} gone within 10 s, p99 <= 2 x"),
        found: format!(
            "{n_left} left, {:.1} s, {:.0} MiB, {}",
            longest.as_secs_f64(),
            mebibytes(needed.memory),
            waits.text()
        ),
        is_met: n_left == 0 && longest <= GONE && waits.is_met(),
    })
}

/// Opens connections and returns how long each lived; `None` for those that are left.
fn all(address: SocketAddr, pace: Pace, n_connections: u32) -> anyhow::Result<Vec<Option<Duration>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start threads")?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for number in 0..n_connections {
            tasks.spawn(async move {
                tokio::time::sleep(PAUSE * number).await;
                let stream = match pace {
                    Pace::Read => connect_narrow(address).await,
                    Pace::Silent | Pace::Drip(_) | Pace::Body => connect(address).await,
                };
                let began = Instant::now();
                let end = tokio::time::timeout(LIMIT, live(stream.context("connect")?, pace));
                anyhow::Ok(end.await.ok().map(|()| began.elapsed()))
            });
        }
        tasks.join_all().await.into_iter().collect()
    })
}

/// A connection whose system takes little that nobody reads.
async fn connect_narrow(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    tokio::time::timeout(LIMIT, socket.connect(address)).await?
}

/// Returns when the other side has ended the connection.
async fn live(mut stream: TcpStream, pace: Pace) {
    let (first, pause): (&[u8], _) = match pace {
        Pace::Silent => (b"", LIMIT),
        Pace::Drip(first) => (first, Duration::from_secs(3)),
        Pace::Body => (&crate::http::post(HOST, "/sink", 1 << 20), Duration::from_secs(1)),
        Pace::Read => (&bulk_request(), Duration::from_secs(1)),
    };
    if stream.write_all(first).await.is_err() {
        return;
    }
    let mut buffer = [0; 1024];
    loop {
        if matches!(pace, Pace::Read) {
            tokio::time::sleep(pause).await;
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            }
        }
        tokio::select! {
            read = stream.read(&mut buffer) => if !read.is_ok_and(|n_read| n_read > 0) {
                return;
            },
            () = tokio::time::sleep(pause), if !matches!(pace, Pace::Silent) => if stream.write_all(b"a").await.is_err() {
                return;
            },
        }
    }
}
