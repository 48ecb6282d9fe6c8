//! The only place that starts services: the traffic runtime with its listeners, and the status and admin endpoints.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::HttpServerOptions;
use pingora::server::configuration::ServerConf;
use routing::LiveRouting;
use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Notify, oneshot, watch};

use crate::admin::{AdminState, Dump, Readiness, admin_router, status_router};
use crate::application::Application;
use crate::connections::Connections;
use crate::filter::Gatekeeper;
use crate::health::HealthChecks;
use crate::listener::{ListenError, ListenerManager, Shared};
use crate::proxy::Gateway;
use crate::telemetry::{AccessLog, Metrics, PodIdentity};
use crate::tls::{TlsSetupError, fake_certificate};

/// Idle connections to upstreams that are kept, over all of them.
const UPSTREAM_POOL: usize = 16_384;
/// Attempts that Pingora allows at most; rules allow fewer.
const MAX_ATTEMPTS: usize = 16;
/// Descriptors that are kept back for logs, health checks, status and the resolver.
const RESERVED_DESCRIPTORS: u64 = 128;
/// A listener that could not be bound is tried again this often.
const BIND_RETRY: Duration = Duration::from_secs(1);

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
}

/// Why the data plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A socket cannot be bound.
    #[error("bind {what} {address}: {error}")]
    Bind {
        /// What it is for.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the kernel says.
        error: io::Error,
    },
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
    reconcile: Arc<Notify>,
    recheck: Arc<Notify>,
    close: Option<oneshot::Sender<oneshot::Sender<()>>>,
    first_bind: Option<oneshot::Receiver<Vec<ListenError>>>,
}

impl Server {
    /// Starts the data plane. Nothing is bound for clients yet: listeners come with the first snapshot. The status and
    /// admin endpoints, and health checks, run on `control`, so that traffic and they do not wait for each other.
    pub fn start(
        config: ServerConfig,
        live: Arc<LiveRouting>,
        control: &Handle,
        dump: Dump,
    ) -> Result<Self, ServerError> {
        let ServerConfig { threads, status, admin, identity, access_log } = config;
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
        serve_http(control, "status endpoint", status, status_router(state.clone()))?;
        serve_http(control, "admin endpoint", admin, admin_router(state))?;
        let recheck = Arc::new(Notify::new());
        let checks = HealthChecks::new(Arc::clone(&live), Arc::clone(&metrics));
        control.spawn(checks.run(Arc::clone(&recheck)));
        let traffic = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("traffic")
            .enable_all()
            .build()
            .map_err(ServerError::Runtime)?;
        let (shutdown, is_shutdown) = watch::channel(false);
        // Passwords are hashed beside the traffic: half of the processors is left to it.
        let gatekeeper = Gatekeeper::new(threads / 2).ok_or(ServerError::Randomness)?;
        let gateway = Gateway::new(Arc::clone(&live), Arc::clone(&metrics), access_log.clone(), gatekeeper);
        let shared = Arc::new(Shared {
            application: Arc::new(Application::new(proxy(gateway, threads), Arc::clone(&live))),
            live,
            connections: Arc::clone(&connections),
            metrics: Arc::clone(&metrics),
            shutdown: is_shutdown,
            fake_certificate: fake_certificate()?,
            max_connections: max_connections(),
        });
        let reconcile = Arc::new(Notify::new());
        let (close, closing) = oneshot::channel();
        let (bound, first_bind) = oneshot::channel();
        let manager = ListenerManager::new(shared);
        traffic.spawn(manage(manager, Arc::clone(&reconcile), Arc::clone(&readiness), bound, closing));
        Ok(Self {
            traffic,
            connections,
            readiness,
            metrics,
            access_log,
            shutdown,
            reconcile,
            recheck,
            close: Some(close),
            first_bind: Some(first_bind),
        })
    }

    /// Tells the listeners and the health checks that something was published. Cheap, and to be called after each.
    pub fn on_published(&self) -> impl Fn() + Send + Sync + 'static {
        let (reconcile, recheck) = (Arc::clone(&self.reconcile), Arc::clone(&self.recheck));
        let readiness = Arc::clone(&self.readiness);
        move || {
            readiness.set_published();
            reconcile.notify_one();
            recheck.notify_one();
        }
    }

    /// Waits until the listeners of the first snapshot are bound, or could not be: those are returned.
    pub async fn first_bind(&mut self) -> Vec<ListenError> {
        match self.first_bind.take() {
            Some(bound) => bound.await.unwrap_or_default(),
            None => Vec::new(),
        }
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

    /// Closes the listening sockets, and the connections as they become idle; returns when none is left or after
    /// `limit`. Returns how many were cut.
    pub async fn drain(&mut self, limit: Duration) -> usize {
        self.leave();
        if let Some(close) = self.close.take() {
            let (closed, is_closed) = oneshot::channel();
            if close.send(closed).is_ok() {
                let _ = is_closed.await;
            }
        }
        let _ = self.shutdown.send(true);
        self.connections.drain();
        let _ = tokio::time::timeout(limit, self.connections.wait_until_none()).await;
        self.connections.n_open()
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

/// Binds and closes listeners as snapshots come, until it is told to close all of them.
async fn manage(
    mut manager: ListenerManager,
    reconcile: Arc<Notify>,
    readiness: Arc<Readiness>,
    bound: oneshot::Sender<Vec<ListenError>>,
    mut closing: oneshot::Receiver<oneshot::Sender<()>>,
) {
    let mut bound = Some(bound);
    let mut must_retry = false;
    loop {
        tokio::select! {
            () = reconcile.notified() => {}
            () = tokio::time::sleep(BIND_RETRY), if must_retry => {}
            closed = &mut closing => {
                manager.close_all().await;
                if let Ok(closed) = closed {
                    let _ = closed.send(());
                }
                return;
            }
        }
        let errors = manager.reconcile().await;
        must_retry = !errors.is_empty();
        if errors.is_empty() {
            readiness.set_listening();
        }
        match bound.take() {
            Some(bound) => drop(bound.send(errors)),
            None => errors.iter().for_each(|error| tracing::error!(%error, "listener is not there")),
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

fn serve_http(
    runtime: &Handle,
    what: &'static str,
    address: SocketAddr,
    router: axum::Router,
) -> Result<(), ServerError> {
    let bind_error = |error| ServerError::Bind { what, address, error };
    let socket = std::net::TcpListener::bind(address).map_err(bind_error)?;
    socket.set_nonblocking(true).map_err(bind_error)?;
    let _guard = runtime.enter();
    let socket = TcpListener::from_std(socket).map_err(bind_error)?;
    runtime.spawn(async move {
        // Ends only with the runtime.
        let _ = axum::serve(socket, router).await;
    });
    Ok(())
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
