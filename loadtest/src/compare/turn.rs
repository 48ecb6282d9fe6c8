//! One peer in one scenario for some seconds.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::results::{Figures, Plan, quantiles};
use super::scenario::{Body, Idle, Kind};
use crate::client::Connection;
use crate::interrupt;
use crate::load::{self, Exchange, Load, Outcome, Target};
use crate::peers::{GRPC_HOST, HOST, Located, MOVED_HOST, Running, Setting, route_host};
use crate::process::Process;
use crate::procfs::{self, CpuTime};
use crate::tls::{Certificate, ClientTls};
use crate::upstream::{BULK_PATH, GRPC_PATH, SINK_PATH, WEBSOCKET_PATH, bulk};

/// Body of a small answer.
pub(crate) const SMALL: &str =
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";
/// Body of an answer of the other upstream.
pub(crate) const OTHER: &str = "other";
/// A message of gRPC: not compressed, 16 bytes.
const GRPC_MESSAGE: &[u8] = b"\0\0\0\0\x10\x0a\x0eabcdefghijklmn";
/// Connections at a fixed rate, and on a proxy with many routes.
const CONNECTIONS: u32 = 64;
/// Requests a second beside edits, and the connections they come over.
const BESIDE_EDITS: (f64, u32) = (200.0, 4);
/// Edits of a turn: at least and at most.
const EDITS: (usize, usize) = (4, 20);
/// Right answers in a row that make an edit live.
const CONFIRMED: u32 = 20;
/// Pause between two questions about an edit.
const PROBE_PAUSE: Duration = Duration::from_millis(1);
/// An edit that is not live by then is not going to be.
const EDIT_LIMIT: Duration = Duration::from_secs(15);
/// Time in which a peer that has nothing to do comes to rest.
const REST: Duration = Duration::from_secs(1);

/// What all turns of a run share.
pub(super) struct Bench<'a> {
    pub(super) setting: Setting<'a>,
    pub(super) upstream: &'a Process,
    pub(super) plan: &'a Plan,
    pub(super) clients: &'a Clients,
    /// For the files of peers that are started for one turn.
    pub(super) directory: &'a Path,
    /// Requests a second of the slowest peer.
    pub(super) slowest: Option<f64>,
}

/// Clients of TLS.
pub(super) struct Clients {
    http1: ClientTls,
    resuming: ClientTls,
    http2: ClientTls,
}

/// What a turn came to.
pub(super) struct Measured {
    pub(super) figures: Figures,
    /// Requests that failed and should not have.
    pub(super) errors: Option<String>,
}

/// The counters at one moment of a turn.
struct Sample {
    at: Instant,
    peer: CpuTime,
    client: Duration,
    upstream: Duration,
    machine: Duration,
    n_answered: u64,
}

impl Clients {
    pub(super) fn new(certificate: &Certificate) -> anyhow::Result<Self> {
        Ok(Self {
            http1: certificate.client("http/1.1", false)?,
            resuming: certificate.client("http/1.1", true)?,
            http2: certificate.client("h2", true)?,
        })
    }
}

impl Bench<'_> {
    /// Measures a peer that serves.
    pub(super) fn measure(&self, kind: Kind, running: &Running) -> anyhow::Result<Measured> {
        match kind {
            Kind::Closed { exchange, connections, body } => {
                let load = Load::closed(self.target(running, exchange, connections, body))?;
                self.watch(running, load)
            }
            Kind::Paced { percent } => {
                let Some(slowest) = self.slowest else { bail!("the slowest peer is not known") };
                let target = self.target(running, Exchange::Kept, CONNECTIONS, Body::Small);
                self.watch(running, Load::paced(target, slowest * f64::from(percent) / 100.0)?)
            }
            Kind::Idle { n, over } => self.idle(running, n, over),
            Kind::Edits => self.edits(running),
            Kind::Routes { .. } => bail!("a peer with many routes is started for each turn"),
        }
    }

    /// Starts a peer with many routes and measures it.
    pub(super) fn measure_start(&self, n_routes: u32, located: &Located) -> anyhow::Result<Measured> {
        let host = route_host(n_routes - 1);
        let setting = Setting { routes: n_routes, ..self.setting };
        let began = Instant::now();
        let running = located.start(&setting, self.directory, &host)?;
        let start = began.elapsed().as_secs_f64() * 1e3;
        interrupt::sleep(REST)?;
        let memory = float(running.process.memory()?);
        let target = Target { host, ..self.target(&running, Exchange::Kept, CONNECTIONS, Body::Small) };
        let mut measured = self.watch(&running, Load::closed(target)?)?;
        measured.figures.memory = Some(memory);
        measured.figures.start = Some(start);
        Ok(measured)
    }

    fn target(&self, running: &Running, exchange: Exchange, connections: u32, body: Body) -> Target {
        let client_tls = match exchange {
            Exchange::Resumption => &self.clients.resuming,
            Exchange::Http2 { .. } | Exchange::Grpc { .. } => &self.clients.http2,
            _ => &self.clients.http1,
        };
        let is_grpc = matches!(exchange, Exchange::Grpc { .. });
        let (path, upload, download): (_, Vec<u8>, Vec<u8>) = match (exchange, body) {
            (Exchange::Grpc { .. }, _) => (GRPC_PATH, GRPC_MESSAGE.into(), GRPC_MESSAGE.into()),
            (Exchange::WebSocket, _) => (WEBSOCKET_PATH, Vec::new(), Vec::new()),
            (_, Body::Small) => ("/", Vec::new(), SMALL.into()),
            (_, Body::Download) => (BULK_PATH, Vec::new(), bulk()),
            (_, Body::Upload) => (SINK_PATH, bulk(), SMALL.into()),
        };
        Target {
            plain: running.addresses.plain,
            tls: running.addresses.tls,
            client_tls: client_tls.clone(),
            host: if is_grpc { GRPC_HOST } else { HOST }.to_owned(),
            path,
            upload: upload.into(),
            download: download.into(),
            exchange,
            connections,
        }
    }

    /// Looks at a load after it has warmed up.
    fn watch(&self, running: &Running, load: Load) -> anyhow::Result<Measured> {
        interrupt::sleep(Duration::from_secs(self.plan.warm_up.into()))?;
        load.measure();
        let before = Sample::take(running, self.upstream, &load)?;
        interrupt::sleep(Duration::from_secs(self.plan.seconds.into()))?;
        let after = Sample::take(running, self.upstream, &load)?;
        if after.n_answered == before.n_answered {
            let error = load.end().first_error;
            bail!("nothing was answered: {}", error.unwrap_or_else(|| "no error".to_owned()));
        }
        let memory = running.process.memory()?;
        let outcome = load.end();
        let mut figures = figures(&before, &after);
        figures.quantiles = quantiles(&milliseconds(&outcome));
        figures.memory = Some(float(memory));
        let errors = (outcome.n_errors > 0).then(|| {
            format!("{} errors, the first: {}", outcome.n_errors, outcome.first_error.clone().unwrap_or_default())
        });
        Ok(Measured { figures, errors })
    }

    /// Opens connections, and sees what each of them adds to the memory of the peer.
    fn idle(&self, running: &Running, n: u32, over: Idle) -> anyhow::Result<Measured> {
        let n = n.min(self.setting.max_connections);
        let exchange = if over == Idle::WebSocket { Exchange::WebSocket } else { Exchange::Kept };
        let target = self.target(running, exchange, n, Body::Small);
        let before = running.process.memory()?;
        let after = load::hold(&target, n, over == Idle::Tls, || {
            interrupt::sleep(REST)?;
            running.process.memory()
        })??;
        let memory = float(after.saturating_sub(before));
        let figures = Figures { memory: Some(memory), samples: Some(f64::from(n)), ..Figures::default() };
        Ok(Measured { figures, errors: None })
    }

    /// Edits a route until the time is over, and sees when each edit is live, and what it does to others.
    fn edits(&self, running: &Running) -> anyhow::Result<Measured> {
        let (rate, connections) = BESIDE_EDITS;
        let beside = self.target(running, Exchange::Kept, connections, Body::Small);
        let load = Load::paced(beside, rate)?;
        load.measure();
        let end = Instant::now() + Duration::from_secs((self.plan.warm_up + self.plan.seconds).into());
        let mut times = Vec::new();
        let mut is_moved = false;
        while times.len() < EDITS.0 || (Instant::now() < end && times.len() < EDITS.1) {
            is_moved = !is_moved;
            times.push(self.edit(running, is_moved)?);
            interrupt::sleep(Duration::from_millis(fastrand::u64(0..100)))?;
        }
        if is_moved {
            self.edit(running, false)?;
        }
        let Outcome { n_errors, first_error, .. } = load.end();
        if let Some(error) = first_error {
            eprintln!("{}: {n_errors} requests beside the edits failed, the first: {error}", running.peer.name());
        }
        let figures = Figures {
            quantiles: quantiles(&times),
            samples: Some(float(times.len() as u64)),
            failures: Some(float(n_errors)),
            ..Figures::default()
        };
        Ok(Measured { figures, errors: None })
    }

    /// Makes an edit, and returns the milliseconds until new connections are answered by the new upstream for good.
    fn edit(&self, running: &Running, is_moved: bool) -> anyhow::Result<f64> {
        let right = if is_moved { OTHER } else { SMALL };
        let began = Instant::now();
        running.edit(&Setting { is_moved, ..self.setting })?;
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
}

impl Sample {
    fn take(running: &Running, upstream: &Process, load: &Load) -> anyhow::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            peer: running.process.cpu_time()?,
            client: procfs::cpu_time_alone(std::process::id())?.total(),
            upstream: upstream.cpu_time()?.total(),
            machine: procfs::machine_cpu_time()?,
            n_answered: load.n_answered(),
        })
    }
}

/// What each request cost between two moments.
fn figures(before: &Sample, after: &Sample) -> Figures {
    let n_requests = float(after.n_answered.saturating_sub(before.n_answered).max(1));
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / n_requests;
    let seconds = after.at.duration_since(before.at).as_secs_f64();
    let since = |of: fn(&Sample) -> Duration| of(after).saturating_sub(of(before));
    let peer = after.peer.since(before.peer);
    let client = since(|sample| sample.client);
    let others = since(|sample| sample.machine).saturating_sub(peer.total() + client + since(|sample| sample.upstream));
    Figures {
        user: Some(micros(peer.user)),
        system: Some(micros(peer.system)),
        requests_a_second: Some(n_requests / seconds),
        client: Some(client.as_secs_f64() / seconds),
        others: Some(others.as_secs_f64() / seconds),
        samples: Some(n_requests),
        ..Figures::default()
    }
}

fn milliseconds(outcome: &Outcome) -> Vec<f64> {
    outcome.latencies.iter().map(|micros| f64::from(*micros) / 1e3).collect()
}

#[expect(clippy::cast_precision_loss, reason = "bytes and counts here are below 2^52")]
fn float(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_what_was_used_for_each_request_in_between() {
        let start = Instant::now();
        let millis = Duration::from_millis;
        let sample = |seconds, user, system, client, upstream, machine, n_answered| Sample {
            at: start + Duration::from_secs(seconds),
            peer: CpuTime { user: millis(user), system: millis(system) },
            client: millis(client),
            upstream: millis(upstream),
            machine: millis(machine),
            n_answered,
        };
        let before = sample(1, 500, 500, 300, 400, 9_000, 1_000);
        let after = sample(3, 1_500, 1_100, 1_100, 600, 12_000, 101_000);
        let figures = figures(&before, &after);
        assert_eq!((figures.user, figures.system, figures.cpu()), (Some(10.0), Some(6.0), Some(16.0)));
        assert_eq!(figures.requests_a_second, Some(50_000.0));
        assert_eq!(figures.client, Some(0.4));
        assert!((figures.others.unwrap() - 0.2).abs() < 1e-9, "{figures:?}");
    }
}
