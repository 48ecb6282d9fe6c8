//! Hand-overs, as this process takes part in them: what the protocol asks of the data plane, and how a process begins and
//! ends because of it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use controller_sync::source::recall::{self, LastGood, SourceHandle};
use controller_sync::sync::SyncRequest;
use controller_sync::upgrade::message::Section;
use controller_sync::upgrade::path::HandoffPath;
use controller_sync::upgrade::{
    DataPlane, HandoverMetrics, Incumbent, ListeningSocket, Retired, Successor, UpgradeConfig,
};
use gateway::{EndpointNews, HealthHandle, InheritedSockets, LimitTables, Listeners, Server, TicketKeys};
use routing::Endpoint;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};

use super::flags::HandoffFlags;

/// The section with the hash of the model, as sixteen hexadecimal digits.
const DIGEST: &str = "model-digest";
/// The section with the keys of TLS session tickets, in the form of `TicketKeys`.
const TICKETS: &str = "tls-ticket-keys-1";
/// The section with the buckets of clients, in the form of `LimitTables`.
const LIMITS: &str = "limits-1";
/// The section with what was learnt about endpoints.
const ENDPOINTS: &str = "endpoints-1";
/// The section with the last good versions of objects whose newest cannot be used.
const LAST_GOOD: &str = "last-good-objects-1";

/// The data plane of this process, as the protocol sees it.
pub(crate) struct Plane {
    listeners: Listeners,
    ticket_keys: Arc<TicketKeys>,
    limits: Arc<LimitTables>,
    health: HealthHandle,
    source: SourceHandle,
    requests: mpsc::Sender<SyncRequest>,
}

/// This process in hand-overs.
pub(crate) struct Handover {
    plane: Arc<Plane>,
    config: UpgradeConfig,
    path: HandoffPath,
    metrics: HandoverMetrics,
}

impl Handover {
    /// A process that takes part in hand-overs at a path.
    pub(crate) fn new(
        flags: &HandoffFlags,
        path: &std::path::Path,
        server: &Server,
        source: SourceHandle,
        requests: mpsc::Sender<SyncRequest>,
    ) -> anyhow::Result<Self> {
        let config = UpgradeConfig {
            version: super::version::version().to_owned(),
            limit: flags.handoff_timeout,
            probation: flags.handoff_probation,
            program: program()?,
            arguments: super::flags::inherited(std::env::args_os()),
        };
        let (listeners, ticket_keys) = (server.listeners().clone(), Arc::clone(server.ticket_keys()));
        let (limits, health) = (Arc::clone(server.limits()), server.health().clone());
        let plane = Arc::new(Plane { listeners, ticket_keys, limits, health, source, requests });
        let metrics = HandoverMetrics::new(server.metrics().registry()).context("metrics")?;
        Ok(Self { plane, config, path: HandoffPath::new(path), metrics })
    }

    /// Listens: with the sockets of the process that serves already, or, when there is none, with sockets of its own.
    /// Returns where the next hand-over is taken.
    pub(crate) async fn begin(
        &self,
        server: &Server,
        leaving: watch::Receiver<bool>,
    ) -> anyhow::Result<Option<UnixListener>> {
        // Without resources nothing can be proved, so an incumbent is bothered when they are live. It may end meanwhile.
        if self.path.connect().await?.is_some() {
            tracing::info!("a gateway serves already: this one will take over from it");
            server.published().await;
            if let Some(channel) = self.path.connect().await? {
                // What is adopted is not accepted from before the incumbent says so.
                self.plane.listeners.pause();
                let (plane, config) = (Arc::clone(&self.plane), self.config.clone());
                let path = self.path.clone();
                let successor = Successor::new(plane, config, self.metrics.clone(), path, channel, leaving);
                return successor.take_over().await.context("no hand-over to this process");
            }
        }
        listen(&self.plane.listeners).await?;
        Ok(Some(self.path.prepare()?.show()?))
    }

    /// Takes hand-over connections until another process is the gateway; never ends without a socket.
    pub(crate) async fn serve(
        self,
        listener: Option<UnixListener>,
        requests: mpsc::Receiver<()>,
        leaving: watch::Receiver<bool>,
    ) -> Retired {
        match listener {
            Some(listener) => {
                Incumbent::new(self.plane, self.config, self.metrics, requests, leaving).run(listener).await
            }
            None => std::future::pending().await,
        }
    }
}

/// Binds everything that the flags and the first snapshot ask for.
pub(crate) async fn listen(listeners: &Listeners) -> anyhow::Result<()> {
    listeners.listen(InheritedSockets::new())?;
    match listeners.first_bind().await.into_iter().next() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// Where the program of this process was when it started: after an update of the package, the new one is there.
fn program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("find the program of this process")?;
    if program.as_os_str().as_encoded_bytes().ends_with(b" (deleted)") {
        bail!("the program of this process is deleted already");
    }
    Ok(program)
}

// === impl Plane ===

impl Plane {
    async fn bound(&self) -> Result<(), String> {
        match self.listeners.first_bind().await.into_iter().next() {
            Some(error) => Err(error.to_string()),
            None => Ok(()),
        }
    }

    /// Goes on with a part of the state. One in another form is done without.
    async fn take(&self, Section { name, bytes }: Section) {
        let is_understood = match name.as_str() {
            DIGEST => {
                let ours = format!("{:016x}", self.digest().await);
                let is_same = *bytes == ours.as_bytes();
                tracing::info!(model = ours, is_same, "the model, compared with that of the old process");
                true
            }
            TICKETS => self.ticket_keys.import(&bytes),
            LIMITS => self.limits.import(&bytes),
            LAST_GOOD => self.recall(&bytes).await,
            ENDPOINTS => self.learn(&bytes).await,
            _ => false,
        };
        if !is_understood {
            tracing::warn!(name, "a part of the old process's state is in an unknown form");
        }
    }

    /// Returns when last good versions are live. Returns whether they are in a form that is known.
    async fn recall(&self, bytes: &[u8]) -> bool {
        let Some(objects) = recall::import(bytes) else { return false };
        let n_objects = objects.len();
        if n_objects > 0 {
            let is_live = self.source.recall(objects).await;
            tracing::info!(n_objects, is_live, "objects of which the old process knows a last good version");
        }
        true
    }

    /// Goes on with what the old process has learnt about endpoints. Returns whether that is in a form that is known.
    async fn learn(&self, bytes: &[u8]) -> bool {
        let Some(EndpointNews { n_known, down }) = gateway::import_endpoints(&self.endpoints().await, bytes) else {
            return false;
        };
        tracing::info!(n_known, n_down = down.len(), "endpoints that the old process has learnt about");
        self.health.take_out(down).await;
        true
    }

    async fn last_good(&self) -> Vec<LastGood> {
        let unread = self.source.unread().await;
        self.ask(|answer| SyncRequest::LastGood(unread, answer)).await.unwrap_or_default()
    }

    async fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.ask(SyncRequest::Endpoints).await.unwrap_or_default()
    }

    /// Asks the sync loop; `None` when it has ended.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> SyncRequest) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.ok()?;
        answered.await.ok()
    }
}

impl DataPlane for Plane {
    async fn list(&self) -> io::Result<Vec<OwnedFd>> {
        self.listeners.list().await
    }

    async fn pause(&self) {
        self.listeners.pause();
    }

    async fn resume(&self) {
        self.listeners.resume();
    }

    async fn retire(&self) {
        self.listeners.close().await;
    }

    /// In the order in which a successor goes on with it: what is compared or looked up comes after what makes it.
    async fn state(&self, with_resources: bool) -> Vec<Section> {
        let mut state = Vec::new();
        let mut add = |name: &str, bytes| state.push(Section { name: name.to_owned(), bytes });
        if with_resources {
            add(LAST_GOOD, recall::export(&self.last_good().await));
        }
        add(DIGEST, format!("{:016x}", self.digest().await).into_bytes().into());
        add(TICKETS, self.ticket_keys.export());
        add(LIMITS, self.limits.export());
        add(ENDPOINTS, gateway::export_endpoints(&self.endpoints().await).into());
        state
    }

    async fn adopt(&self, sockets: Vec<ListeningSocket>, state: Vec<Section>) -> Result<(), String> {
        for section in state {
            self.take(section).await;
        }
        let n_sockets = sockets.len();
        let inherited: InheritedSockets =
            sockets.into_iter().map(|ListeningSocket { key, descriptor }| (key, descriptor)).collect();
        if inherited.len() != n_sockets {
            return Err("two sockets of one address".to_owned());
        }
        self.listeners.listen(inherited).map_err(|error| error.to_string())?;
        self.bound().await
    }

    async fn prove(&self) -> Result<(), String> {
        self.listeners.prove().await.map_err(|error| error.to_string())
    }

    async fn digest(&self) -> u64 {
        self.ask(SyncRequest::Digest).await.unwrap_or_default()
    }
}

/// How long a process that is told to leave during a hand-over may take to say so to the other one.
pub(crate) const GOODBYE: Duration = Duration::from_secs(2);
