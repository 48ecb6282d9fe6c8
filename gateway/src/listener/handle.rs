//! The listening sockets of the process as one: those of clients, which follow the snapshots, and those of operators.
//! All are listed, paused and resumed together, because they are handed over together.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use routing::model::ListenerKey;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::pausable::Pausable;
use super::proof::{self, ProofError};
use super::secure::{self, CertificateSource};
use super::{ListenError, ListenerManager, adopt, bind};
use crate::admin::Readiness;

/// A listener that could not be bound is tried again this often.
const BIND_RETRY: Duration = Duration::from_secs(1);

/// Listening sockets that another process has bound, by what they listen to.
pub type InheritedSockets = BTreeMap<ListenerKey, OwnedFd>;

/// All listening sockets of the process. Copies speak of the same ones.
#[derive(Clone)]
pub struct Listeners(Arc<Inner>);

struct Inner {
    is_paused: watch::Sender<bool>,
    commands: mpsc::Sender<Command>,
    /// What is needed to listen, until it does.
    unbound: Mutex<Option<Unbound>>,
    first_bind: Mutex<Option<oneshot::Receiver<Vec<ListenError>>>>,
    /// The sockets of operators.
    own: Mutex<Vec<Arc<TcpListener>>>,
}

/// Everything that is there before the first socket.
pub(crate) struct Unbound {
    /// For listeners of clients.
    pub manager: ListenerManager,
    /// Becomes ready with them.
    pub readiness: Arc<Readiness>,
    /// Says that there is another snapshot.
    pub reconcile: Arc<Notify>,
    /// Carries the traffic.
    pub traffic: Handle,
    /// Carries everything else.
    pub control: Handle,
    /// The endpoints for operators.
    pub endpoints: Vec<Endpoint>,
    commands: mpsc::Receiver<Command>,
    bound: oneshot::Sender<Vec<ListenError>>,
}

/// An endpoint that is not for clients.
pub(crate) struct Endpoint {
    /// What it is called where it cannot be bound.
    pub what: &'static str,
    pub address: SocketAddr,
    pub router: axum::Router,
    /// With TLS by this certificate; `None` without TLS.
    pub certificate: Option<CertificateSource>,
}

/// Why an endpoint is not there.
#[derive(Debug, thiserror::Error)]
#[error("bind {what} {address}: {error}")]
pub struct EndpointError {
    what: &'static str,
    address: SocketAddr,
    error: io::Error,
}

/// What the task that manages listeners can be asked for.
enum Command {
    List(oneshot::Sender<io::Result<Vec<OwnedFd>>>),
    Prove(oneshot::Sender<Result<(), ProofError>>),
    Close(oneshot::Sender<()>),
}

impl Listeners {
    /// Nothing is bound yet. The closure gets what tells listeners whether they are paused.
    pub(crate) fn new(
        manager: impl FnOnce(watch::Receiver<bool>) -> ListenerManager,
        endpoints: Vec<Endpoint>,
        readiness: Arc<Readiness>,
        reconcile: Arc<Notify>,
        traffic: Handle,
        control: Handle,
    ) -> Self {
        let (is_paused, pauses) = watch::channel(false);
        let (sender, commands) = mpsc::channel(4);
        let (bound, first_bind) = oneshot::channel();
        let manager = manager(pauses);
        let unbound = Unbound { manager, readiness, reconcile, traffic, control, endpoints, commands, bound };
        Self(Arc::new(Inner {
            is_paused,
            commands: sender,
            unbound: Mutex::new(Some(unbound)),
            first_bind: Mutex::new(Some(first_bind)),
            own: Mutex::default(),
        }))
    }

    /// Binds the endpoints for operators, and from now on what snapshots ask for. Sockets that are inherited are not
    /// bound again; those that nobody wants are closed. A second call does nothing.
    ///
    /// # Errors
    ///
    /// When an endpoint cannot be bound.
    pub fn listen(&self, mut inherited: InheritedSockets) -> Result<(), EndpointError> {
        let unbound = self.0.unbound.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(unbound) = unbound else { return Ok(()) };
        let Unbound { mut manager, readiness, reconcile, traffic, control, endpoints, commands, bound } = unbound;
        let _guard = control.enter();
        for Endpoint { what, address, router, certificate } in endpoints {
            let socket = inherited.remove(&ListenerKey::tcp(address)).map_or_else(|| bind(address), adopt);
            let socket = Arc::new(socket.map_err(|error| EndpointError { what, address, error })?);
            let pausable = Pausable::new(Arc::clone(&socket), self.0.is_paused.subscribe());
            self.0.own.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
            control.spawn(async move {
                // Either ends only with the runtime.
                match certificate {
                    Some(certificate) => secure::serve(pausable, router, certificate).await,
                    None => drop(axum::serve(pausable, router).await),
                }
            });
        }
        manager.inherit(inherited);
        traffic.spawn(manage(manager, reconcile, readiness, bound, commands));
        Ok(())
    }

    /// Waits until the listeners of the first snapshot are bound, or could not be: those are returned.
    pub async fn first_bind(&self) -> Vec<ListenError> {
        let first_bind = self.0.first_bind.lock().unwrap_or_else(PoisonError::into_inner).take();
        match first_bind {
            Some(bound) => bound.await.unwrap_or_default(),
            None => Vec::new(),
        }
    }

    /// Stops accepting. What comes stays with the kernel, and connections that are open are served on.
    pub fn pause(&self) {
        self.0.is_paused.send_replace(true);
    }

    /// Accepts again.
    pub fn resume(&self) {
        self.0.is_paused.send_replace(false);
    }

    /// Copies of all sockets, for another process.
    ///
    /// # Errors
    ///
    /// When there is no room for the copies.
    pub async fn list(&self) -> io::Result<Vec<OwnedFd>> {
        let own: io::Result<Vec<OwnedFd>> = {
            let own = self.0.own.lock().unwrap_or_else(PoisonError::into_inner);
            own.iter().map(|socket| socket.as_fd().try_clone_to_owned()).collect()
        };
        let mut all = own?;
        if let Some(listed) = self.ask(Command::List).await {
            all.extend(listed?);
        }
        Ok(all)
    }

    /// Answers a request of its own through everything that a request of a client passes.
    ///
    /// # Errors
    ///
    /// When there is no answer, or another one.
    pub async fn prove(&self) -> Result<(), ProofError> {
        self.ask(Command::Prove).await.unwrap_or(Err(ProofError::NoListener))
    }

    /// Closes the sockets of clients for good. Connections that were accepted live on.
    pub async fn close(&self) {
        self.ask(Command::Close).await;
    }

    /// Asks the managing task; `None` when there is none, or not any more.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        if self.0.unbound.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        self.0.commands.send(command(answer)).await.ok()?;
        answered.await.ok()
    }
}

/// Binds and closes listeners as snapshots come, until it is told to close all of them.
async fn manage(
    mut manager: ListenerManager,
    reconcile: Arc<Notify>,
    readiness: Arc<Readiness>,
    bound: oneshot::Sender<Vec<ListenError>>,
    mut commands: mpsc::Receiver<Command>,
) {
    let mut bound = Some(bound);
    let mut must_retry = false;
    loop {
        tokio::select! {
            () = reconcile.notified() => {}
            () = tokio::time::sleep(BIND_RETRY), if must_retry => {}
            command = commands.recv() => match command {
                Some(Command::List(answer)) => {
                    let _ = answer.send(manager.list());
                    continue;
                }
                Some(Command::Prove(answer)) => {
                    match manager.any() {
                        Some(acceptor) => {
                            tokio::spawn(async move { answer.send(proof::prove(acceptor).await) });
                        }
                        None => drop(answer.send(Err(ProofError::NoListener))),
                    }
                    continue;
                }
                Some(Command::Close(closed)) => {
                    manager.close_all().await;
                    let _ = closed.send(());
                    return;
                }
                None => return,
            },
        }
        let errors = manager.reconcile().await;
        must_retry = !errors.is_empty() || manager.has_unbound();
        if errors.is_empty() {
            readiness.set_listening();
        }
        match bound.take() {
            Some(bound) => {
                // What the first snapshot does not want, nobody does.
                manager.inherit(InheritedSockets::new());
                let _ = bound.send(errors);
            }
            None => errors.iter().for_each(|error| tracing::error!(%error, "listener is not there")),
        }
    }
}
