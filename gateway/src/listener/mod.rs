//! Listeners come and go at run time: the manager compares what the snapshot wants with what is bound.

mod handle;
mod pausable;
mod proof;
mod secure;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

pub(crate) use handle::Endpoint;
pub use handle::{EndpointError, InheritedSockets, Listeners};
pub use proof::ProofError;
pub use secure::{CertificateSource, SecureEndpoint};

use pingora::apps::ServerApp;
use pingora::server::ShutdownWatch;
use routing::model::{Listener, ListenerKey, Origin, Protocol};
use routing::{LiveRouting, Scheme};
use rustls::sign::CertifiedKey;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::application::Application;
use crate::client_certificate::ClientIdentity;
use crate::connection::{Connection, ConnectionInfo, Limits, Transport};
use crate::connections::Connections;
use crate::proxy_header;
use crate::stream::{self, Datagrams};
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
    /// Listeners of streams that cannot be bound. Their authors are users, whose mistake keeps nobody else waiting.
    unbound: BTreeSet<ListenerKey>,
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
}

/// How a listener ends. Connections that were accepted live on in either case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nobody wants it any more: sessions of datagrams, which are answered from its socket, end with it.
    Close,
    /// The process leaves, and finishes what is open.
    Leave,
}

struct Bound {
    listener: Arc<Listener>,
    socket: BoundSocket,
    stop: watch::Sender<Option<Stop>>,
    task: JoinHandle<()>,
}

enum BoundSocket {
    /// For HTTP, with what accepts.
    Http(Arc<TcpListener>, Arc<Acceptor>),
    /// For connections that are passed on.
    Streams(Arc<TcpListener>),
    /// For datagrams.
    Datagrams(Arc<UdpSocket>),
}

// === impl ListenerManager ===

impl ListenerManager {
    /// A manager with nothing bound. Its listeners accept while `is_paused` is false.
    #[must_use]
    pub(crate) fn new(shared: Arc<Shared>, is_paused: watch::Receiver<bool>) -> Self {
        let (inherited, unbound) = (InheritedSockets::new(), BTreeSet::new());
        Self { shared, bound: BTreeMap::new(), is_paused, inherited, unbound }
    }

    /// Uses these sockets where an address is wanted, and closes those that were left of the last call.
    fn inherit(&mut self, sockets: InheritedSockets) {
        self.inherited = sockets;
    }

    /// Copies of all sockets.
    fn list(&self) -> io::Result<Vec<OwnedFd>> {
        self.bound.values().map(|bound| bound.socket.as_fd().try_clone_to_owned()).collect()
    }

    /// What accepts for one of the listeners of requests, whichever.
    fn any(&self) -> Option<Arc<Acceptor>> {
        self.bound.values().find_map(|bound| match &bound.socket {
            BoundSocket::Http(_, acceptor) => Some(Arc::clone(acceptor)),
            BoundSocket::Streams(_) | BoundSocket::Datagrams(_) => None,
        })
    }

    /// Whether a listener of streams waits for its address.
    fn has_unbound(&self) -> bool {
        !self.unbound.is_empty()
    }

    /// Binds what the snapshot wants and closes what it no longer does. Returns what could not be bound for requests; the
    /// next call tries again.
    pub(crate) async fn reconcile(&mut self) -> Vec<ListenError> {
        let snapshot = self.shared.live.pin();
        let wanted: BTreeMap<ListenerKey, Arc<Listener>> =
            snapshot.listeners().map(|(key, listener)| (*key, Arc::clone(listener))).collect();
        let stays = |key: &ListenerKey, bound: &Bound| wanted.get(key).is_some_and(|wanted| bound.serves(wanted));
        let gone = self.bound.extract_if(.., |key, bound| !stays(key, bound));
        for (key, bound) in gone.collect::<Vec<_>>() {
            bound.end(Stop::Close).await;
            tracing::info!(listener = %key, "listener closed");
        }
        self.unbound.retain(|key| wanted.contains_key(key));
        let mut errors = Vec::new();
        for (key, listener) in wanted {
            if self.bound.contains_key(&key) {
                continue;
            }
            match self.open(key, &listener) {
                Ok(bound) => {
                    tracing::info!(listener = %key, "listening");
                    self.unbound.remove(&key);
                    self.bound.insert(key, bound);
                }
                Err(error) => match listener.stream().map(|route| &route.origin) {
                    None => errors.push(error),
                    Some(Origin { kind, namespace, name, place }) => {
                        // Said once, however often it is tried.
                        if self.unbound.insert(key) {
                            tracing::error!(%error, "{kind} {namespace}/{name}: {place}: its port is not there");
                        }
                    }
                },
            }
        }
        errors
    }

    /// Closes all sockets. Connections that were accepted live on.
    pub(crate) async fn close_all(&mut self) {
        for (_, bound) in std::mem::take(&mut self.bound) {
            bound.end(Stop::Leave).await;
        }
    }

    /// Must be called inside the runtime that carries the traffic.
    fn open(&mut self, key: ListenerKey, listener: &Arc<Listener>) -> Result<Bound, ListenError> {
        let service = match &listener.protocol {
            Protocol::Http => Service::Plain,
            Protocol::Tls => {
                let fake = Arc::clone(&self.shared.fake_certificate);
                let tickets = Arc::clone(&self.shared.ticket_keys);
                Service::Tls(Arc::new(TlsTerminator::new(Arc::clone(&self.shared.live), key, fake, tickets)?))
            }
            Protocol::Tcp(_) => Service::Stream,
            Protocol::Udp(_) => return self.open_datagrams(key, listener),
        };
        let is_stream = matches!(service, Service::Stream);
        let socket = self.inherited.remove(&key).map_or_else(|| bind(key.address), adopt);
        let socket = Arc::new(socket.map_err(|error| ListenError::Bind { address: key.address, error })?);
        let (stop, stopped) = watch::channel(None);
        let acceptor = Arc::new(Acceptor { key, service, shared: Arc::clone(&self.shared) });
        let pausable = Pausable::new(Arc::clone(&socket), self.is_paused.clone());
        let task = tokio::spawn(Arc::clone(&acceptor).run(pausable, stopped));
        let socket = if is_stream { BoundSocket::Streams(socket) } else { BoundSocket::Http(socket, acceptor) };
        Ok(Bound { listener: Arc::clone(listener), socket, stop, task })
    }

    fn open_datagrams(&mut self, key: ListenerKey, listener: &Arc<Listener>) -> Result<Bound, ListenError> {
        let adopt = |socket: OwnedFd| UdpSocket::from_std(socket.into());
        let socket = self.inherited.remove(&key).map_or_else(|| stream::bind_udp(key.address), adopt);
        let socket = Arc::new(socket.map_err(|error| ListenError::Bind { address: key.address, error })?);
        let (stop, stopped) = watch::channel(None);
        let datagrams = Datagrams::new(key, Arc::clone(&socket), Arc::clone(&self.shared));
        let task = tokio::spawn(datagrams.run(self.is_paused.clone(), stopped));
        Ok(Bound { listener: Arc::clone(listener), socket: BoundSocket::Datagrams(socket), stop, task })
    }
}

impl Bound {
    /// Whether it does what is wanted. Where streams go is looked up for each of them.
    fn serves(&self, wanted: &Listener) -> bool {
        self.listener.protocol == wanted.protocol || (self.listener.stream().is_some() && wanted.stream().is_some())
    }

    async fn end(self, how: Stop) {
        let _ = self.stop.send(Some(how));
        // The socket is closed when the task has ended too.
        let _ = self.task.await;
    }
}

impl AsFd for BoundSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Http(socket, _) | Self::Streams(socket) => socket.as_fd(),
            Self::Datagrams(socket) => socket.as_fd(),
        }
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
    service: Service,
    shared: Arc<Shared>,
}

/// What becomes of a connection.
enum Service {
    /// Requests are read from it.
    Plain,
    /// Requests are read from what is in it.
    Tls(Arc<TlsTerminator>),
    /// It is passed on as it is.
    Stream,
}

impl Acceptor {
    async fn run(self: Arc<Self>, mut socket: Pausable, mut stop: watch::Receiver<Option<Stop>>) {
        loop {
            tokio::select! {
                biased;
                _ = stopped(&mut stop) => return,
                accepted = socket.accept() => match accepted {
                    Ok((stream, peer)) => self.take(stream, peer),
                    Err(error) => self.rest_after(&error).await,
                },
            }
        }
    }

    /// Starts serving a connection, or closes it at once when there are too many, or too little memory: an honest client
    /// behind it gets its descriptor back sooner than it would time out.
    fn take(self: &Arc<Self>, client: TcpStream, peer: SocketAddr) {
        let connections = &self.shared.connections;
        if connections.n_open() >= self.shared.max_connections || !connections.admits() {
            self.shared.metrics.connections_refused.inc();
            return;
        }
        match self.service {
            Service::Stream => drop(tokio::spawn(stream::serve_tcp(Arc::clone(&self.shared), self.key, client, peer))),
            Service::Plain | Service::Tls(_) => drop(tokio::spawn(serve(Arc::clone(self), client, peer))),
        }
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

/// Returns when the listener is to end, and how.
pub(crate) async fn stopped(stop: &mut watch::Receiver<Option<Stop>>) -> Stop {
    // Without a sender there is nobody left to want it.
    stop.wait_for(Option::is_some).await.ok().and_then(|stop| *stop).unwrap_or(Stop::Close)
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
    let (io, scheme, server_name, identity) = match &acceptor.service {
        Service::Plain | Service::Stream => (Transport::plain(stream), Scheme::Http, None, ClientIdentity::Unasked),
        Service::Tls(tls) => match tls.accept(stream, &snapshot, limits.head).await {
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
