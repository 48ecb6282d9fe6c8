//! Listeners come and go at run time: the manager compares what the snapshot wants with what is bound.

mod handle;
mod pausable;
mod proof;
mod secure;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

pub(crate) use handle::Endpoint;
pub use handle::{EndpointError, InheritedSockets, Listeners};
pub use proof::ProofError;
pub use secure::{CertificateSource, SecureEndpoint};

use pingora::apps::ServerApp;
use pingora::server::ShutdownWatch;
use routing::model::{ListenerKey, Protocol, Transport as ListenerTransport};
use routing::{LiveRouting, Scheme};
use rustls::sign::CertifiedKey;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::application::Application;
use crate::client_certificate::ClientIdentity;
use crate::connection::{Connection, ConnectionInfo, Limits, Transport};
use crate::connections::{Connections, Shortage};
use crate::proxy_header;
use crate::telemetry::Metrics;
use crate::tickets::TicketKeys;
use crate::tls::{HandshakeError, TlsSetupError, TlsTerminator};
use pausable::{EXHAUSTION_PAUSE, Pausable};

/// Connections that the kernel keeps for us while we are busy.
const BACKLOG: i32 = 4096;

/// Binds and closes listeners as snapshots ask for them.
pub(crate) struct ListenerManager {
    shared: Arc<Shared>,
    bound: BTreeMap<ListenerKey, Bound>,
    is_paused: watch::Receiver<bool>,
    /// Sockets that need not be bound any more.
    inherited: InheritedSockets,
}

/// What all listeners share.
pub(crate) struct Shared {
    /// Where the snapshot of the moment is.
    pub live: Arc<LiveRouting>,
    /// What serves the connections.
    pub application: Arc<Application>,
    /// All open connections.
    pub connections: Arc<Connections>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Turns true when the gateway drains.
    pub shutdown: ShutdownWatch,
    /// What is presented where there is no certificate.
    pub fake_certificate: Arc<CertifiedKey>,
    /// What session tickets are sealed by.
    pub ticket_keys: Arc<TicketKeys>,
    /// How many connections may be open at a time.
    pub max_connections: usize,
}

/// Why a listener is not there.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The socket cannot be bound.
    #[error("bind {address}: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the kernel says.
        error: io::Error,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// The protocol is not served.
    #[error("listener {0}: only HTTP and TLS listeners are served")]
    Protocol(ListenerKey),
}

struct Bound {
    protocol: Protocol,
    socket: Arc<TcpListener>,
    acceptor: Arc<Acceptor>,
    /// Set to true to close the socket. Connections that were accepted live on.
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

// === impl ListenerManager ===

impl ListenerManager {
    /// A manager with nothing bound. Its listeners accept while `is_paused` is false.
    #[must_use]
    pub(crate) fn new(shared: Arc<Shared>, is_paused: watch::Receiver<bool>) -> Self {
        Self { shared, bound: BTreeMap::new(), is_paused, inherited: InheritedSockets::new() }
    }

    /// Uses these sockets where an address is wanted, and closes those that were left of the last call.
    fn inherit(&mut self, sockets: InheritedSockets) {
        self.inherited = sockets;
    }

    /// Copies of all sockets.
    fn list(&self) -> io::Result<Vec<OwnedFd>> {
        self.bound.values().map(|bound| bound.socket.as_fd().try_clone_to_owned()).collect()
    }

    /// What accepts for one of the listeners, whichever.
    fn any(&self) -> Option<Arc<Acceptor>> {
        self.bound.values().next().map(|bound| Arc::clone(&bound.acceptor))
    }

    /// Binds what the snapshot wants and closes what it no longer does. Returns what could not be bound; the next call
    /// tries again.
    pub(crate) async fn reconcile(&mut self) -> Vec<ListenError> {
        let snapshot = self.shared.live.pin();
        let wanted: BTreeMap<ListenerKey, Protocol> =
            snapshot.listeners().map(|(key, listener)| (*key, listener.protocol.clone())).collect();
        let gone = self.bound.extract_if(.., |key, bound| wanted.get(key) != Some(&bound.protocol));
        for (key, bound) in gone.collect::<Vec<_>>() {
            bound.close().await;
            tracing::info!(listener = %key, "listener closed");
        }
        let mut errors = Vec::new();
        for (key, protocol) in wanted {
            if self.bound.contains_key(&key) {
                continue;
            }
            match self.open(key, protocol.clone()) {
                Ok(bound) => {
                    tracing::info!(listener = %key, "listening");
                    self.bound.insert(key, bound);
                }
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    /// Closes all sockets. Connections that were accepted live on.
    pub(crate) async fn close_all(&mut self) {
        for (_, bound) in std::mem::take(&mut self.bound) {
            bound.close().await;
        }
    }

    /// Must be called inside the runtime that carries the traffic.
    fn open(&mut self, key: ListenerKey, protocol: Protocol) -> Result<Bound, ListenError> {
        let tls = match &protocol {
            Protocol::Http => None,
            Protocol::Tls => {
                let fake = Arc::clone(&self.shared.fake_certificate);
                let tickets = Arc::clone(&self.shared.ticket_keys);
                Some(Arc::new(TlsTerminator::new(Arc::clone(&self.shared.live), key, fake, tickets)?))
            }
            Protocol::Tcp(_) | Protocol::Udp(_) => return Err(ListenError::Protocol(key)),
        };
        if key.transport != ListenerTransport::Tcp {
            return Err(ListenError::Protocol(key));
        }
        let socket = self.inherited.remove(&key.address).map_or_else(|| bind(key.address), adopt);
        let socket = Arc::new(socket.map_err(|error| ListenError::Bind { address: key.address, error })?);
        let (stop, stopped) = watch::channel(false);
        let acceptor = Arc::new(Acceptor { key, tls, shared: Arc::clone(&self.shared) });
        let pausable = Pausable::new(Arc::clone(&socket), self.is_paused.clone());
        let task = tokio::spawn(Arc::clone(&acceptor).run(pausable, stopped));
        Ok(Bound { protocol, socket, acceptor, stop, task })
    }
}

impl Bound {
    async fn close(self) {
        let _ = self.stop.send(true);
        // The socket is closed when the task has ended too.
        let _ = self.task.await;
    }
}

/// Binds a socket for listening. An IPv6 address takes IPv4 clients too, as nginx's `listen [::]:80` does on Linux.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A socket that another process has bound. It listens already, and does not block.
fn adopt(socket: OwnedFd) -> io::Result<TcpListener> {
    TcpListener::from_std(socket.into())
}

// === the accept loop ===

/// Accepts the connections of one listener.
struct Acceptor {
    key: ListenerKey,
    tls: Option<Arc<TlsTerminator>>,
    shared: Arc<Shared>,
}

impl Acceptor {
    async fn run(self: Arc<Self>, mut socket: Pausable, mut stopped: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                biased;
                () = wait_until_true(&mut stopped) => return,
                accepted = socket.accept() => match accepted {
                    Ok((stream, peer)) => self.take(stream, peer),
                    Err(error) => self.rest_after(&error).await,
                },
            }
        }
    }

    /// Starts serving a connection, or closes it at once when there are too many, or too little memory: an honest client
    /// behind it gets its descriptor back sooner than it would time out.
    fn take(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let connections = &self.shared.connections;
        if connections.n_open() >= self.shared.max_connections || connections.shortage() > Shortage::None {
            self.shared.metrics.connections_refused.inc();
            return;
        }
        tokio::spawn(serve(Arc::clone(self), stream, peer));
    }

    /// An error of accept() is about one connection that is gone already, or about the whole process, which gets no
    /// better by trying at once.
    async fn rest_after(&self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | WouldBlock) {
            return;
        }
        self.shared.metrics.accept_errors.inc();
        tracing::warn!(listener = %self.key, %error, "cannot accept connections");
        tokio::time::sleep(EXHAUSTION_PAUSE).await;
    }
}

/// Returns when the value is true, or can no longer become so.
async fn wait_until_true(value: &mut watch::Receiver<bool>) {
    let _ = value.wait_for(|value| *value).await;
}

/// Serves one connection from its first byte to its last.
async fn serve(acceptor: Arc<Acceptor>, mut stream: TcpStream, peer: SocketAddr) {
    let shared = &acceptor.shared;
    let handle = shared.connections.open();
    // Answers are written when they are complete; waiting for more would only add latency.
    let _ = stream.set_nodelay(true);
    let snapshot = shared.live.pin();
    let settings = snapshot.settings();
    let limits = Limits::of(settings);
    let mut relayed = None;
    if settings.use_proxy_protocol {
        match proxy_header::read(&mut stream, settings.proxy_protocol_header_timeout).await {
            // nginx demands the header of everybody, and believes it of `proxy-real-ip-cidr`.
            Ok(ends) => relayed = ends.filter(|_| settings.trusted_proxies.contain(peer.ip())),
            Err(error) => {
                shared.metrics.proxy_header_failures.inc();
                tracing::debug!(listener = %acceptor.key, %peer, %error, "no PROXY header");
                return;
            }
        }
    }
    let (io, scheme, server_name, identity) = match &acceptor.tls {
        None => (Transport::plain(stream), Scheme::Http, None, ClientIdentity::Unasked),
        Some(tls) => match tls.accept(stream, &snapshot, limits.head).await {
            Ok((stream, identity)) => {
                let server_name = stream.get_ref().1.server_name().map(Into::into);
                (Transport::tls(stream), Scheme::Https, server_name, identity)
            }
            Err(error) => {
                let reason = if matches!(error, HandshakeError::Timeout) { "timeout" } else { "protocol" };
                shared.metrics.handshake_failures.with_label_values(&[reason]).inc();
                tracing::debug!(listener = %acceptor.key, %peer, %error, "no TLS connection");
                return;
            }
        },
    };
    let info = ConnectionInfo::new(acceptor.key, scheme, peer, relayed, server_name, handle);
    let info = ConnectionInfo { identity, ..info };
    drop(snapshot);
    converse(acceptor, io, info, limits).await;
}

/// Serves the requests of a connection.
async fn converse(acceptor: Arc<Acceptor>, io: Transport, info: ConnectionInfo, limits: Limits) {
    let Ok(connection) = Connection::new(io, info, limits) else { return };
    let shared = &acceptor.shared;
    // What comes back is a stream that Pingora will not use again.
    drop(shared.application.process_new(Box::new(connection), &shared.shutdown).await);
}
