//! The only place that starts services: the traffic runtime with its listeners, and the status and admin endpoints.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::HttpServerOptions;
use pingora::server::configuration::ServerConf;
use routing::LiveRouting;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Notify, watch};

use crate::admin::{AdminState, Dump, Readiness, admin_router, status_router};
use crate::application::Application;
use crate::connection::LINGER;
use crate::connections::Connections;
use crate::filter::{Gatekeeper, LimitTables};
use crate::health::{HealthChecks, HealthHandle};
use crate::listener::{Endpoint, ListenerManager, Listeners, SecureEndpoint, Shared};
use crate::memory;
use crate::proxy::Gateway;
use crate::relay::{Pool, Relay};
use crate::telemetry::{AccessLog, Metrics, PodIdentity};
use crate::tickets::TicketKeys;
use crate::tls::{TlsSetupError, fake_certificate};

/// Idle connections to upstreams that are kept, over all of them.
const UPSTREAM_POOL: usize = 16_384;
/// Attempts that Pingora allows at most; rules allow fewer.
const MAX_ATTEMPTS: usize = 16;
/// How long connections that are cut may take: a client that does not close its side is not waited for any longer.
const FAREWELL: Duration = LINGER.saturating_add(Duration::from_secs(1));
/// Descriptors that are kept back for logs, health checks, status and the resolver.
const RESERVED_DESCRIPTORS: u64 = 128;

/// What the flags say about the data plane.
pub struct ServerConfig {
    /// Threads that carry traffic.
    pub threads: usize,
    /// Where probes and Prometheus ask.
    pub status: SocketAddr,
    /// Where the operator asks.
    pub admin: SocketAddr,
    /// Who this process is.
    pub identity: PodIdentity,
    /// The access log; `None` for none.
    pub access_log: Option<Arc<AccessLog>>,
    /// Where an API server asks; `None` for nowhere.
    pub webhook: Option<SecureEndpoint>,
}

/// Why the data plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A runtime cannot be started.
    #[error("start threads: {0}")]
    Runtime(io::Error),
    /// The operating system has no randomness.
    #[error("no source of randomness")]
    Randomness,
    /// Metrics clash.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
}

/// The running data plane.
pub struct Server {
    traffic: Runtime,
    connections: Arc<Connections>,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    access_log: Option<Arc<AccessLog>>,
    shutdown: watch::Sender<bool>,
    is_published: watch::Sender<bool>,
    reconcile: Arc<Notify>,
    recheck: Arc<Notify>,
    listeners: Listeners,
    ticket_keys: Arc<TicketKeys>,
    health: HealthHandle,
    limits: Arc<LimitTables>,
}

impl Server {
    /// Starts the data plane. Nothing is bound yet: that is up to [`Self::listeners`]. The status and admin endpoints, and
    /// health checks, run on `control`, so that traffic and they do not wait for each other.
    pub fn start(
        config: ServerConfig,
        live: Arc<LiveRouting>,
        control: &Handle,
        dump: Dump,
    ) -> Result<Self, ServerError> {
        let ServerConfig { threads, status, admin, identity, access_log, webhook } = config;
        let connections = Arc::new(Connections::new());
        let metrics =
            Arc::new(Metrics::new(&identity, Arc::clone(&live), Arc::clone(&connections), access_log.clone())?);
        let readiness = Arc::new(Readiness::default());
        let state = AdminState {
            readiness: Arc::clone(&readiness),
            metrics: Arc::clone(&metrics),
            connections: Arc::clone(&connections),
            live: Arc::clone(&live),
            dump,
        };
        let plain = |what, address, router| Endpoint { what, address, router, certificate: None };
        let mut endpoints = vec![
            plain("status endpoint", status, status_router(state.clone())),
            plain("admin endpoint", admin, admin_router(state)),
        ];
        endpoints.extend(webhook.map(|webhook| webhook.named("webhook")));
        let recheck = Arc::new(Notify::new());
        let checks = HealthChecks::new(Arc::clone(&live), Arc::clone(&metrics));
        let health = checks.handle();
        control.spawn(checks.run(Arc::clone(&recheck)));
        control.spawn(memory::watch(Arc::clone(&connections)));
        let traffic = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("traffic")
            .enable_all()
            .build()
            .map_err(ServerError::Runtime)?;
        let (shutdown, is_shutdown) = watch::channel(false);
        // Passwords are hashed beside the traffic: half of the processors is left to it.
        let gatekeeper = Gatekeeper::new(threads / 2).ok_or(ServerError::Randomness)?;
        let limits = Arc::clone(gatekeeper.limits());
        let pool = Arc::new(Pool::new(threads, UPSTREAM_POOL / threads.max(1)));
        control.spawn(Arc::clone(&pool).keep_swept());
        let relay = Relay::new(pool, MAX_ATTEMPTS);
        let gateway = Gateway::new(Arc::clone(&live), Arc::clone(&metrics), access_log.clone(), gatekeeper, relay);
        let ticket_keys = Arc::new(TicketKeys::new().ok_or(ServerError::Randomness)?);
        let shared = Arc::new(Shared {
            ticket_keys: Arc::clone(&ticket_keys),
            application: Arc::new(Application::new(proxy(gateway, threads), Arc::clone(&live))),
            live,
            connections: Arc::clone(&connections),
            metrics: Arc::clone(&metrics),
            shutdown: is_shutdown,
            fake_certificate: fake_certificate()?,
            max_connections: max_connections(),
        });
        let reconcile = Arc::new(Notify::new());
        let listeners = Listeners::new(
            |is_paused| ListenerManager::new(shared, is_paused),
            endpoints,
            Arc::clone(&readiness),
            Arc::clone(&reconcile),
            traffic.handle().clone(),
            control.clone(),
        );
        Ok(Self {
            traffic,
            connections,
            readiness,
            metrics,
            access_log,
            shutdown,
            is_published: watch::Sender::new(false),
            reconcile,
            recheck,
            listeners,
            ticket_keys,
            health,
            limits,
        })
    }

    /// Tells the listeners and the health checks that something was published. Cheap, and to be called after each.
    pub fn on_published(&self) -> impl Fn() + Send + Sync + 'static {
        let (reconcile, recheck) = (Arc::clone(&self.reconcile), Arc::clone(&self.recheck));
        let readiness = Arc::clone(&self.readiness);
        let is_published = self.is_published.clone();
        move || {
            readiness.set_published();
            is_published.send_replace(true);
            reconcile.notify_one();
            recheck.notify_one();
        }
    }

    /// Waits for the first snapshot.
    pub async fn published(&self) {
        // The sender lives as long as this does.
        let _ = self.is_published.subscribe().wait_for(|is_published| *is_published).await;
    }

    /// The listening sockets.
    #[must_use]
    pub fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// What TLS session tickets are sealed by.
    #[must_use]
    pub fn ticket_keys(&self) -> &Arc<TicketKeys> {
        &self.ticket_keys
    }

    /// The active checks.
    #[must_use]
    pub fn health(&self) -> &HealthHandle {
        &self.health
    }

    /// What clients have done of late.
    #[must_use]
    pub fn limits(&self) -> &Arc<LimitTables> {
        &self.limits
    }

    /// Where others register what they count.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Lame duck: the readiness probe fails from now on, everything else goes on.
    pub fn leave(&self) {
        self.readiness.set_leaving();
    }

    /// Closes the listening sockets, and the connections as they become idle; returns when none is left, or, after
    /// `limit`, when those that are left were closed. Returns how many were.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.leave();
        // First, so that whoever sees that nobody listens any more is also told to close.
        self.connections.drain();
        self.listeners.close().await;
        let _ = self.shutdown.send(true);
        let _ = tokio::time::timeout(limit, self.connections.wait_until_none()).await;
        let n_cut = self.connections.n_open();
        if n_cut > 0 {
            self.connections.cut();
            let _ = tokio::time::timeout(FAREWELL, self.connections.wait_until_none()).await;
        }
        n_cut
    }

    /// Ends the threads and writes what the access log still holds, within `limit`.
    pub fn stop(self, limit: Duration) {
        self.traffic.shutdown_timeout(limit);
        let deadline = std::time::Instant::now() + limit;
        while self.access_log.as_ref().is_some_and(|log| !log.is_flushed()) && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}

fn proxy(gateway: Gateway, threads: usize) -> pingora_proxy::HttpProxy<Gateway> {
    let conf = ServerConf {
        threads,
        // Pingora counts the pool by thread.
        upstream_keepalive_pool_size: UPSTREAM_POOL / threads.max(1),
        max_retries: MAX_ATTEMPTS,
        ..ServerConf::default()
    };
    let mut proxy = pingora_proxy::http_proxy(&Arc::new(conf), gateway);
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    options.h2_idle_timeout = Some(Duration::from_secs(75));
    proxy.server_options = Some(options);
    proxy
}

/// How many connections of clients fit: each may need a second descriptor for its upstream.
fn max_connections() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // The soft limit is for programs that use select(); nobody minds more.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    usize::try_from(descriptors.saturating_sub(RESERVED_DESCRIPTORS) / 2).unwrap_or(usize::MAX).max(16)
}
