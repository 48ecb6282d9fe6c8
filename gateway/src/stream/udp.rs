//! The datagrams of one port: each client has a session with one endpoint, which ends with the last answer that is
//! expected, or when nothing passes for too long (nginx `proxy_responses`, `proxy_timeout`).
//!
//! One task reads what clients send and alone knows who has a session. Each session has a task that sends the answers of
//! its endpoint from the socket that the client has sent to. What does not fit anywhere is dropped, as networks do.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use routing::model::ListenerKey;
use routing::{Backend, BackendState, CompiledStream, Endpoint, StreamSettings};
use rustix::net::{RecvFlags, recv};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::task::coop::consume_budget;

use super::{Activity, Attempts, blame, counters, cut};
use crate::clock;
use crate::connections::ConnectionHandle;
use crate::listener::{Shared, Stop, stopped};
use crate::upstream;

/// The longest datagram.
const MAX_DATAGRAM: usize = 65_535;
/// The part of all connections that the sessions of one port may be, and their number: each has a port of this machine,
/// and senders can be made up.
const SHARE: usize = 4;
const MAX_SESSIONS: usize = 4096;
/// How long a session may be silent that was never answered.
const UNANSWERED: Duration = Duration::from_secs(30);
/// What a session awaits that takes no datagram any more.
const CLOSED: u64 = u64::MAX;
/// What wakes a session: an answer, or word that nobody takes its datagrams.
const TOLD: Interest = Interest::READABLE.add(Interest::ERROR);

/// The datagrams of one port.
pub(crate) struct Datagrams {
    listener: ListenerKey,
    socket: Arc<UdpSocket>,
    shared: Arc<Shared>,
    sessions: HashMap<SocketAddr, Known>,
    tasks: JoinSet<(SocketAddr, Arc<Session>)>,
}

/// The session of a client.
struct Known {
    session: Arc<Session>,
    /// What was known of its backend when its endpoint was last looked for there.
    state: Arc<BackendState>,
}

/// What passes between a client and an endpoint.
struct Session {
    upstream: UdpSocket,
    endpoint: Arc<Endpoint>,
    backend: Arc<Backend>,
    settings: StreamSettings,
    /// Answers that are still expected, or [`CLOSED`].
    awaited: AtomicU64,
    is_answered: AtomicBool,
    activity: Activity,
}

/// Binds a socket for datagrams, with the rules of those for connections.
pub(crate) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

impl Datagrams {
    /// Nothing has come yet.
    pub(crate) fn new(listener: ListenerKey, socket: Arc<UdpSocket>, shared: Arc<Shared>) -> Self {
        Self { listener, socket, shared, sessions: HashMap::new(), tasks: JoinSet::new() }
    }

    /// Takes what comes, unless it is paused, until it is told to stop. Sessions end with it, or go on by themselves.
    pub(crate) async fn run(mut self, mut is_paused: watch::Receiver<bool>, mut stop: watch::Receiver<Option<Stop>>) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let (socket, paused) = (Arc::clone(&self.socket), *is_paused.borrow_and_update());
            tokio::select! {
                biased;
                stop = stopped(&mut stop) => {
                    match stop {
                        Stop::Leave => self.tasks.detach_all(),
                        // The port is free for whoever wants it next.
                        Stop::Close => self.tasks.shutdown().await,
                    }
                    return;
                }
                Some(ended) = self.tasks.join_next() => if let Ok((client, session)) = ended {
                    self.forget(&client, &session);
                },
                changed = is_paused.changed() => if changed.is_err() { return },
                readable = socket.readable(), if !paused => if readable.is_ok() {
                    self.take(&mut buffer);
                    // What always has more to read must not keep a thread for itself.
                    consume_budget().await;
                },
            }
        }
    }

    fn forget(&mut self, client: &SocketAddr, session: &Arc<Session>) {
        // The client may have another one already.
        if self.sessions.get(client).is_some_and(|known| Arc::ptr_eq(&known.session, session)) {
            self.sessions.remove(client);
        }
    }

    /// Takes one datagram.
    fn take(&mut self, buffer: &mut [u8]) {
        // An error is about what was sent before, or there is nothing after all.
        let Ok((length, client)) = self.socket.try_recv_from(buffer) else { return };
        let datagram = buffer.get(..length).unwrap_or_default();
        let snapshot = self.shared.live.pin();
        let Some(stream) = snapshot.stream(&self.listener) else { return };
        if let Some(known) = self.sessions.get_mut(&client)
            && known.is_current(stream)
            && known.session.send(datagram)
        {
            return;
        }
        let Shared { connections, max_connections, metrics, .. } = &*self.shared;
        let most = (max_connections / SHARE).min(MAX_SESSIONS);
        let is_full = connections.n_open() >= *max_connections || self.tasks.len() >= most;
        if is_full || !connections.admits() {
            metrics.connections_refused.inc();
            return;
        }
        let Some(session) = self.open(stream, &snapshot.settings().stream, datagram) else {
            counters(stream, &self.listener, metrics).unreachable.inc();
            tracing::debug!(listener = %self.listener, %client, "no endpoint can be reached");
            return;
        };
        counters(stream, &self.listener, metrics).connected.inc();
        let (session, handle) = (Arc::new(session), connections.open());
        handle.begin_tunnel();
        let state = Arc::clone(&session.backend.state());
        self.sessions.insert(client, Known { session: Arc::clone(&session), state });
        let (socket, shared) = (Arc::clone(&self.socket), Arc::clone(&self.shared));
        self.tasks.spawn(async move {
            session.answer(&socket, client, &handle, &shared).await;
            session.awaited.store(CLOSED, Ordering::Release);
            (client, session)
        });
    }

    /// A session whose first datagram is on its way.
    fn open(&self, stream: &CompiledStream, settings: &StreamSettings, datagram: &[u8]) -> Option<Session> {
        let mut attempts = Attempts::new(stream, settings, &self.shared.metrics)?;
        while let Some(endpoint) = attempts.next() {
            let upstream = match connect(endpoint.key.address) {
                Ok(upstream) => upstream,
                Err(error) => {
                    attempts.fail(endpoint, &error);
                    continue;
                }
            };
            let session = Session {
                upstream,
                endpoint,
                backend: Arc::clone(attempts.backend),
                settings: settings.clone(),
                awaited: AtomicU64::new(0),
                is_answered: AtomicBool::new(false),
                activity: Activity::begin(),
            };
            session.send(datagram);
            return Some(session);
        }
        None
    }
}

impl Known {
    /// Whether the endpoint still is one of those that the stream goes to.
    fn is_current(&mut self, stream: &CompiledStream) -> bool {
        if !stream.leads_to(&self.session.backend) {
            return false;
        }
        let state = self.session.backend.state();
        if !Arc::ptr_eq(&state, &self.state) {
            if !state.endpoints.iter().any(|endpoint| endpoint.key == self.session.endpoint.key) {
                return false;
            }
            self.state = Arc::clone(&state);
        }
        true
    }
}

/// A socket that speaks with an endpoint and with nobody else.
fn connect(endpoint: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if endpoint.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = Socket::new(Domain::for_address(endpoint), Type::DGRAM.nonblocking(), None)?;
    socket.bind(&SocketAddr::new(any, 0).into())?;
    socket.connect(&endpoint.into())?;
    UdpSocket::from_std(socket.into())
}

/// Returns when nothing more is waited for because the gateway drains.
async fn drained(handle: &ConnectionHandle) {
    let deadline = poll_fn(|context| {
        handle.register(context.waker());
        handle.drain_deadline().map_or(Poll::Pending, Poll::Ready)
    });
    tokio::time::sleep_until(deadline.await).await;
}

impl Session {
    /// Sends a datagram to the endpoint. Returns whether the session still takes any.
    fn send(&self, datagram: &[u8]) -> bool {
        let more = u64::from(self.settings.responses);
        let add = |awaited: u64| (awaited != CLOSED).then(|| awaited.saturating_add(more).min(CLOSED - 1));
        if self.awaited.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).is_err() {
            return false;
        }
        self.activity.touch();
        // By the socket itself, which need not be known to be writable. An error is about an earlier datagram.
        let socket = SockRef::from(&self.upstream);
        let _ = socket.send(datagram).or_else(|_| socket.send(datagram));
        true
    }

    /// Sends answers to the client until there are no more to come.
    async fn answer(&self, socket: &UdpSocket, client: SocketAddr, handle: &ConnectionHandle, shared: &Shared) {
        let relay = async {
            while !self.close_if_answered() {
                let Ok(told) = self.upstream.ready(TOLD).await else { return };
                let interest = if told.is_readable() { Interest::READABLE } else { Interest::ERROR };
                if let ControlFlow::Break(error) = self.pass(interest, socket, client) {
                    tracing::debug!(endpoint = %self.endpoint.key.address, %error, "endpoint takes no datagrams");
                    blame(&self.backend, &self.endpoint, &error, &self.settings, &shared.metrics);
                    return;
                }
                consume_budget().await;
            }
        };
        tokio::select! {
            () = relay => {}
            () = self.cease() => {}
            () = drained(handle) => {}
            () = cut(handle) => {}
        }
    }

    /// Returns when nothing has passed for too long.
    async fn cease(&self) {
        self.activity.cease(self.settings.timeout.min(UNANSWERED)).await;
        if self.is_answered.load(Ordering::Relaxed) {
            self.activity.cease(self.settings.timeout).await;
        }
    }

    /// Passes one answer on, if that is what was told.
    fn pass(&self, told: Interest, socket: &UdpSocket, client: SocketAddr) -> ControlFlow<io::Error> {
        let mut buffer = [0; MAX_DATAGRAM];
        let receive = || Ok(recv(&self.upstream, &mut buffer[..], RecvFlags::empty())?.0);
        match self.upstream.try_io(told, receive) {
            Ok(length) => {
                let _ = SockRef::from(socket).send_to(buffer.get(..length).unwrap_or_default(), &client.into());
                self.activity.touch();
                self.is_answered.store(true, Ordering::Relaxed);
                upstream::succeed(&self.endpoint, clock::now());
                let less = |awaited: u64| (awaited != CLOSED).then(|| awaited.saturating_sub(1));
                // Only this task closes the session.
                let _ = self.awaited.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
                ControlFlow::Continue(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    /// Closes the session when no answer is expected any more: a datagram that comes later begins another one.
    fn close_if_answered(&self) -> bool {
        self.awaited.compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}
