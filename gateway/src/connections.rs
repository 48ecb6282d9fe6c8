//! All connections that are open: how many, in which phase, and how to tell them that the gateway drains.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use atomic_waker::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Shards of the registry: a connection locks one of them when it opens and when it closes.
const N_SHARDS: usize = 16;
/// How long an idle connection of HTTP/1 may still be used once the gateway drains. Closing it at once would race with
/// a request that is on its way; the next answer closes it politely.
const IDLE_LINGER: Duration = Duration::from_secs(5);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// It waits for the first byte of a request.
    Idle = 0,
    /// The head of a request is on its way.
    Head = 1,
    /// A request is being worked on.
    Busy = 2,
    /// HTTP/2, where all of this happens at the same time.
    Http2 = 3,
    /// The request has become a tunnel: bytes pass both ways until one side ends it.
    Tunnel = 4,
}

/// How much memory is left, and what is done about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Shortage {
    /// There is enough.
    #[default]
    None = 0,
    /// Next to nothing new is taken on, bodies of requests wait, and clients that do not take their answers are let go.
    Some = 1,
    /// The kernel is about to end the process, and everything with it: what needs memory now is let go.
    Dire = 2,
}

/// All connections that are open.
pub struct Connections {
    shards: [Mutex<Vec<Weak<State>>>; N_SHARDS],
    next: AtomicUsize,
    shared: Arc<Shared>,
}

/// One connection among all. Dropping it ends the connection for the counters.
#[derive(Debug)]
pub struct ConnectionHandle(Arc<State>);

/// Counters over all connections (ingress-nginx `nginx_process_connections`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Open connections.
    pub active: usize,
    /// Those on which the head of a request is being read.
    pub reading: usize,
    /// Those on which a request is being worked on.
    pub writing: usize,
    /// Those that wait for a request.
    pub waiting: usize,
    /// Connections accepted since the start.
    pub accepted: u64,
}

#[derive(Debug, Default)]
struct Shared {
    n_open: AtomicUsize,
    n_accepted: AtomicU64,
    is_draining: AtomicBool,
    is_cut: AtomicBool,
    shortage: AtomicU8,
    /// How many connections and requests are still taken on in a shortage.
    allowance: AtomicU32,
    drain_deadline: OnceLock<Instant>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    phase: AtomicU8,
    is_request_done: AtomicBool,
    n_requests: AtomicU32,
    lingers: AtomicBool,
    /// The task that reads and writes, to be woken when the gateway drains, and at the drain limit.
    waker: AtomicWaker,
    shared: Arc<Shared>,
}

// === impl Connections ===

impl Connections {
    /// No connections yet.
    #[must_use]
    pub fn new() -> Self {
        Self { shards: Default::default(), next: AtomicUsize::new(0), shared: Arc::default() }
    }

    /// Registers a connection that was accepted.
    #[must_use]
    pub fn open(&self) -> ConnectionHandle {
        self.shared.n_open.fetch_add(1, Ordering::Relaxed);
        self.shared.n_accepted.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(State {
            phase: AtomicU8::new(Phase::Idle as u8),
            is_request_done: AtomicBool::new(false),
            n_requests: AtomicU32::new(0),
            lingers: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            shared: Arc::clone(&self.shared),
        });
        let shard = &self.shards[self.next.fetch_add(1, Ordering::Relaxed) % N_SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if shard.len() == shard.capacity() {
            shard.retain(|connection| connection.strong_count() > 0);
        }
        shard.push(Arc::downgrade(&state));
        ConnectionHandle(state)
    }

    /// How many connections are open.
    #[must_use]
    pub fn n_open(&self) -> usize {
        self.shared.n_open.load(Ordering::Relaxed)
    }

    /// Counts the connections by phase.
    #[must_use]
    pub fn counts(&self) -> ConnectionCounts {
        let mut counts = ConnectionCounts {
            accepted: self.shared.n_accepted.load(Ordering::Relaxed),
            ..ConnectionCounts::default()
        };
        self.for_each(|state| {
            counts.active += 1;
            match state.phase() {
                Phase::Idle => counts.waiting += 1,
                Phase::Head => counts.reading += 1,
                Phase::Busy | Phase::Http2 | Phase::Tunnel => counts.writing += 1,
            }
        });
        counts
    }

    /// Tells every connection that the gateway drains: idle ones close soon, busy ones after their answer.
    pub fn drain(&self) {
        self.shared.is_draining.store(true, Ordering::Release);
        let _ = self.shared.drain_deadline.set(Instant::now() + IDLE_LINGER);
        self.for_each(|state| state.waker.wake());
    }

    /// Tells every connection that is left that it closes now, whatever it is at.
    pub fn cut(&self) {
        self.shared.is_cut.store(true, Ordering::Release);
        self.for_each(|state| state.waker.wake());
    }

    /// Whether a connection may be taken on, as memory is.
    #[must_use]
    pub(crate) fn admits(&self) -> bool {
        self.shared.admits()
    }

    /// Takes so many on in a shortage that is not dire.
    pub(crate) fn allow(&self, n: u32) {
        self.shared.allowance.store(n, Ordering::Relaxed);
    }

    /// Says how much memory is left. Every connection acts on it at once.
    pub(crate) fn set_shortage(&self, shortage: Shortage) {
        self.shared.shortage.store(shortage as u8, Ordering::Relaxed);
        self.for_each(|state| state.waker.wake());
    }

    /// Resolves when no connection is open.
    pub async fn wait_until_none(&self) {
        loop {
            let changed = self.shared.changed.notified();
            if self.n_open() == 0 {
                return;
            }
            changed.await;
        }
    }

    fn for_each(&self, mut visit: impl FnMut(&State)) {
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.iter().filter_map(Weak::upgrade).for_each(|state| visit(&state));
        }
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self::new()
    }
}

// === impl ConnectionHandle ===

impl ConnectionHandle {
    /// What the connection is doing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.0.phase()
    }

    /// Says what the connection is doing.
    pub fn set_phase(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// The head of a request was read. Returns how many there were, with this one.
    pub fn begin_request(&self) -> u32 {
        if self.phase() != Phase::Http2 {
            self.set_phase(Phase::Busy);
        }
        self.0.n_requests.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// The client is being refused in the middle of what it sends: closing at once could take the answer away from it.
    pub(crate) fn linger(&self) {
        self.0.lingers.store(true, Ordering::Relaxed);
    }

    /// Whether closing waits for the client.
    pub(crate) fn lingers(&self) -> bool {
        self.0.lingers.load(Ordering::Relaxed)
    }

    /// The answer has switched to another protocol (RFC 9110 section 15.2.2).
    pub fn begin_tunnel(&self) {
        self.set_phase(Phase::Tunnel);
        self.0.waker.wake();
    }

    /// The request was answered.
    pub fn end_request(&self) {
        if self.phase() != Phase::Http2 {
            self.0.is_request_done.store(true, Ordering::Relaxed);
            self.set_phase(Phase::Idle);
        }
    }

    /// Whether a request has ended since the last call.
    pub(crate) fn take_request_done(&self) -> bool {
        self.0.is_request_done.load(Ordering::Relaxed) && self.0.is_request_done.swap(false, Ordering::Relaxed)
    }

    /// Whether the gateway drains.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.shared.is_draining.load(Ordering::Acquire)
    }

    /// Whether a request may be taken on, as memory is.
    pub(crate) fn admits(&self) -> bool {
        self.0.shared.admits()
    }

    /// How much memory is left.
    pub(crate) fn shortage(&self) -> Shortage {
        self.0.shared.shortage()
    }

    /// Whether the drain limit is over.
    pub(crate) fn is_cut(&self) -> bool {
        self.0.shared.is_cut.load(Ordering::Acquire)
    }

    /// When an idle connection closes because the gateway drains; `None` while it does not.
    pub(crate) fn drain_deadline(&self) -> Option<Instant> {
        if self.is_draining() { self.0.shared.drain_deadline.get().copied() } else { None }
    }

    /// Remembers the task of the connection.
    pub(crate) fn register(&self, waker: &Waker) {
        self.0.waker.register(waker);
    }
}

// === impl Shared ===

impl Shared {
    fn admits(&self) -> bool {
        match self.shortage() {
            Shortage::None => true,
            Shortage::Some => {
                let less = |left: u32| left.checked_sub(1);
                self.allowance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
            }
            Shortage::Dire => false,
        }
    }

    fn shortage(&self) -> Shortage {
        match self.shortage.load(Ordering::Relaxed) {
            0 => Shortage::None,
            1 => Shortage::Some,
            _ => Shortage::Dire,
        }
    }
}

// === impl State ===

impl State {
    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Idle,
            1 => Phase::Head,
            2 => Phase::Busy,
            3 => Phase::Http2,
            _ => Phase::Tunnel,
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if self.shared.n_open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.changed.notify_waiters();
        }
    }
}
