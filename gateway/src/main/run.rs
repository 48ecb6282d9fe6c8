//! `gateway run`: wires a source, the sync loop and the data plane, and stays until it is told to go.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use controller_sync::metrics::SyncMetrics;
use controller_sync::source::directory::DirectorySource;
use controller_sync::source::recall::SourceHandle;
use controller_sync::status::StatusesHandle;
use controller_sync::sync::{Sync, SyncRequest};
use gateway::{AccessLog, AccessLogFormat, Dump, PodIdentity, Server, ServerConfig};
use routing::LiveRouting;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use super::flags::RunFlags;
use super::handover::Handover;
use super::lifecycle::{self, Farewell, Signals};
use super::{logging, manifests, version};

/// Batches that a source may be ahead of the sync loop.
const EVENT_QUEUE: usize = 64;

/// What a running gateway consists of.
pub(crate) struct Parts {
    /// Everything that is not traffic runs here.
    pub(crate) control: Runtime,
    pub(crate) server: Server,
    /// What is written back to a cluster.
    pub(crate) statuses: Option<StatusesHandle>,
    pub(crate) signals: Signals,
    /// This process in hand-overs; `None` when it takes part in none.
    pub(crate) handover: Option<Handover>,
}

/// Runs the command.
pub(crate) fn run(flags: &RunFlags, ignored: &[String]) -> anyhow::Result<ExitCode> {
    logging::start();
    if let Some(address) = shared_address(flags) {
        eprintln!(
            "gateway: {address} is given for two purposes; each of --http, --https, --status, --admin, --validating-webhook \
             needs its own"
        );
        return Ok(ExitCode::from(2));
    }
    for flag in ignored {
        tracing::warn!("flag {flag} of ingress-nginx is accepted and has no effect");
    }
    let parts = start(flags)?;
    let farewell = Farewell { lame_duck: flags.lame_duck, drain_timeout: flags.drain_timeout };
    lifecycle::stay(parts, farewell, || {})
}

/// Starts everything, listens nowhere, and waits for nothing.
pub(crate) fn start(flags: &RunFlags) -> anyhow::Result<Parts> {
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .context("start threads")?;
    let mut signals = control.block_on(async { Signals::new() })?;
    let is_cluster = flags.manifests.is_empty();
    let config = manifests::config(&flags.meaning, &flags.http, &flags.https, &own_addresses(flags));
    let config = if is_cluster { flags.cluster.config(config) } else { config };
    let client = is_cluster.then(|| flags.cluster.connect(&control)).transpose()?;
    let live = Arc::new(LiveRouting::new());
    let (requests, asked) = mpsc::channel(4);
    let endpoint = |client| flags.cluster.webhook.endpoint(requests.clone(), client, &control);
    let webhook = client.as_ref().map(endpoint).transpose()?.flatten();
    let server = Server::start(
        ServerConfig {
            threads: threads(flags.threads),
            status: flags.status,
            admin: flags.admin,
            identity: identity(&flags.meaning.controller_class),
            access_log: flags.access_log.format().map(access_log).transpose()?,
            webhook,
        },
        Arc::clone(&live),
        control.handle(),
        dump(requests.clone()),
    )?;
    version::register(server.metrics().registry()).context("metrics")?;
    let metrics = SyncMetrics::new(server.metrics().registry()).context("metrics")?;
    let mut sync = Sync::new(config.clone(), live, metrics, server.on_published());
    let (sender, events) = mpsc::channel(EVENT_QUEUE);
    let mut statuses = None;
    let source = if let Some(client) = client {
        let cluster = flags.cluster.start(client, config, &control, server.metrics().registry())?;
        sync = sync.with_board(cluster.board);
        statuses = Some(cluster.statuses);
        let handle = SourceHandle::Kube(cluster.source.handle());
        control.spawn(cluster.source.run(sender));
        handle
    } else {
        let source = DirectorySource::open(flags.manifests.clone(), config)?;
        let handle = source.handle();
        signals.reread(handle.clone());
        control.spawn(source.run(sender));
        SourceHandle::Directory(handle)
    };
    start_sync(sync, events, asked)?;
    let path = flags.handoff.handoff_socket.as_deref();
    let handover = path.map(|path| Handover::new(&flags.handoff, path, &server, source, requests)).transpose()?;
    Ok(Parts { control, server, statuses, signals, handover })
}

/// Where the gateway listens for others than clients: routes must not lead there.
fn own_addresses(flags: &RunFlags) -> Vec<SocketAddr> {
    [flags.status, flags.admin].into_iter().chain(flags.cluster.webhook.validating_webhook).collect()
}

/// An address that is given twice: one listener would hide the other.
fn shared_address(flags: &RunFlags) -> Option<SocketAddr> {
    let mut addresses: Vec<SocketAddr> =
        flags.http.iter().chain(&flags.https).copied().chain(own_addresses(flags)).collect();
    // Port 0 is another one each time.
    addresses.retain(|address| address.port() != 0);
    addresses.sort_unstable();
    addresses.windows(2).find(|pair| pair.first() == pair.last()).and_then(|pair| pair.first().copied())
}

/// The sync loop has a thread of its own: a large compilation must not keep probes waiting.
fn start_sync(
    sync: Sync,
    events: mpsc::Receiver<controller_sync::source::SourceEvent>,
    asked: mpsc::Receiver<SyncRequest>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start threads")?;
    let body = move || runtime.block_on(sync.run(events, asked));
    std::thread::Builder::new().name("sync".to_owned()).spawn(body).context("start threads")?;
    Ok(())
}

fn threads(wanted: Option<u16>) -> usize {
    let available = || std::thread::available_parallelism().map_or(1, usize::from);
    wanted.map_or_else(available, usize::from)
}

fn access_log(format: AccessLogFormat) -> anyhow::Result<Arc<AccessLog>> {
    AccessLog::start(format, std::io::stdout()).map(Arc::new).context("start the access log")
}

fn identity(class: &str) -> PodIdentity {
    let variable = |name| std::env::var(name).unwrap_or_default();
    PodIdentity { class: class.to_owned(), namespace: variable("POD_NAMESPACE"), pod: variable("POD_NAME") }
}

/// Asks the sync loop for its model.
fn dump(requests: mpsc::Sender<SyncRequest>) -> Dump {
    Arc::new(move || {
        let requests = requests.clone();
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let _ = requests.send(SyncRequest::Dump(answer)).await;
            answered.await.unwrap_or_default()
        })
    })
}
