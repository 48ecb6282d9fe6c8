//! One peer in one scenario for some seconds.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::results::{Figures, Plan, quantiles};
use super::scenario::{Body, Idle, Kind};
use crate::interrupt;
use crate::load::{self, Exchange, Load, Target, certificate_host};
use crate::peers::{GRPC_HOST, HOST, Located, Running, Setting, route_host};
use crate::process::Process;
use crate::procfs::{self, CpuTime};
use crate::tls::{Certificate, Certificates, ClientTls};
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
/// Connections that make handshakes at a time.
const HANDSHAKES: u32 = 32;
/// Time in which a peer that has nothing to do comes to rest.
const REST: Duration = Duration::from_secs(1);

/// What all turns of a run share.
pub(super) struct Bench<'a> {
    pub(super) setting: Setting<'a>,
    pub(super) upstream: &'a Process,
    pub(super) plan: &'a Plan,
    pub(super) clients: &'a Clients,
    /// Those of a scenario with many.
    pub(super) certificates: Option<&'a Certificates>,
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
            Kind::Routes { .. } | Kind::Certificates { .. } | Kind::Changes { .. } => {
                bail!("it is started for each turn")
            }
        }
    }

    /// Starts a peer for the turn and measures it.
    pub(super) fn measure_anew(&self, kind: Kind, located: &Located) -> anyhow::Result<Measured> {
        match kind {
            Kind::Routes { n } => self.measure_routes(n, located),
            Kind::Certificates { n } => self.measure_certificates(n, located),
            Kind::Changes { of, routes } => self.measure_changes(of, routes, located),
            Kind::Closed { .. } | Kind::Paced { .. } | Kind::Idle { .. } => {
                self.measure(kind, &located.start(&self.setting, self.directory, HOST)?)
            }
        }
    }

    fn measure_routes(&self, n_routes: u32, located: &Located) -> anyhow::Result<Measured> {
        let host = route_host(n_routes - 1);
        let setting = Setting { routes: n_routes, ..self.setting };
        let began = Instant::now();
        let running = located.start(&setting, self.directory, &host)?;
        let target = Target { host, ..self.target(&running, Exchange::Kept, CONNECTIONS, Body::Small) };
        self.watch_started(&running, target, began.elapsed())
    }

    fn measure_certificates(&self, n: u32, located: &Located) -> anyhow::Result<Measured> {
        let Some(certificates) = self.certificates else { bail!("there are no certificates") };
        let setting = Setting { certificates: &certificates.files, ..self.setting };
        let began = Instant::now();
        let mut running = located.start(&setting, self.directory, HOST)?;
        let exchange = Exchange::HandshakeOfAny { hosts: n };
        let target = Target {
            client_tls: certificates.client.clone(),
            host: certificate_host(n - 1),
            ..self.target(&running, exchange, HANDSHAKES, Body::Small)
        };
        running.process.wait_for(|| load::is_answered_over_tls(&target))?;
        self.watch_started(&running, target, began.elapsed())
    }

    /// Measures a peer that took so long to start.
    fn watch_started(&self, running: &Running, target: Target, start: Duration) -> anyhow::Result<Measured> {
        interrupt::sleep(REST)?;
        let memory = float(running.process.memory()?);
        let mut measured = self.watch(running, Load::closed(target)?)?;
        measured.figures.memory = Some(memory);
        measured.figures.start = Some(start.as_secs_f64() * 1e3);
        Ok(measured)
    }

    pub(super) fn target(&self, running: &Running, exchange: Exchange, connections: u32, body: Body) -> Target {
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
        figures.quantiles = quantiles(&outcome.milliseconds());
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

#[expect(clippy::cast_precision_loss, reason = "bytes and counts here are below 2^52")]
pub(super) fn float(n: u64) -> f64 {
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
