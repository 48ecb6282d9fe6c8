//! Connections to upstreams that wait for their next request.
//!
//! Pingora's pool has a task watch each idle connection: to take one is to wait until its task has run. Here each thread
//! puts them where it will look first, nobody waits for anybody, and what an upstream has closed is found when it is
//! taken, or by the sweep.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use pingora::protocols::Stream;
use tokio::io::{AsyncRead, ReadBuf};

use crate::clock;

/// How often the sweep comes.
const SWEEP: Duration = Duration::from_secs(1);
/// A connection is in use when it was put back this lately.
const IN_USE: Duration = Duration::from_secs(1);

/// Idle connections, by what they may be used for.
pub(crate) struct Pool {
    shards: Box<[Mutex<Shard>]>,
    /// How many a shard keeps.
    capacity: usize,
}

/// What the tasks of one thread have put back. Others lock it only for what they do not have themselves, and the sweep
/// does; whoever finds it locked goes to the next one.
#[derive(Default)]
struct Shard {
    /// The last that was put back is the first that is taken, so that those which are not needed grow old.
    idle: HashMap<u64, Vec<Idle>>,
    len: usize,
    /// When it was last swept because it was full.
    swept: Duration,
}

struct Idle {
    stream: Stream,
    since: Duration,
    until: Duration,
}

// === impl Pool ===

impl Pool {
    /// A pool for the tasks of so many threads, which keeps at most `capacity` connections for each.
    pub(crate) fn new(n_threads: usize, capacity: usize) -> Self {
        Self { shards: (0..n_threads.max(1)).map(|_| Mutex::default()).collect(), capacity }
    }

    /// A connection that may be used for what `key` stands for, and that its upstream has not closed, as far as is known.
    pub(super) fn take(&self, key: u64) -> Option<Stream> {
        self.shards().find_map(|shard| {
            let mut shard = shard.try_lock()?;
            while let Some(mut idle) = shard.take(key) {
                if idle.until > clock::now() && is_quiet(&mut idle.stream) {
                    return Some(idle.stream);
                }
            }
            None
        })
    }

    /// Keeps a connection for `timeout`, unless there are too many that are in use.
    pub(super) fn put(&self, key: u64, stream: Stream, timeout: Duration) {
        let now = clock::now();
        let idle = Idle { stream, since: now, until: now + timeout };
        if let Some(mut shard) = self.shards().find_map(Mutex::try_lock) {
            let dead = shard.put(key, idle, self.capacity, now);
            drop(shard);
            drop(dead);
        }
    }

    /// Closes what has been idle for too long, and what its upstream has closed, from time to time and for ever.
    pub(crate) async fn keep_swept(self: Arc<Self>) {
        let mut turns = tokio::time::interval(SWEEP);
        loop {
            turns.tick().await;
            for shard in &self.shards {
                let dead = shard.lock().sweep(clock::now());
                drop(dead);
            }
        }
    }

    /// All shards, from that of this thread on.
    fn shards(&self) -> impl Iterator<Item = &Mutex<Shard>> {
        let (before, from) = self.shards.split_at(self.own_shard());
        from.iter().chain(before)
    }

    fn own_shard(&self) -> usize {
        static N_THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: usize = N_THREADS.fetch_add(1, Ordering::Relaxed);
        }
        NUMBER.with(|number| number % self.shards.len())
    }
}

// === impl Shard ===

impl Shard {
    fn take(&mut self, key: u64) -> Option<Idle> {
        let idle = self.idle.get_mut(&key)?.pop()?;
        self.len -= 1;
        Some(idle)
    }

    /// Adds a connection, and returns those that it drives out.
    fn put(&mut self, key: u64, idle: Idle, capacity: usize, now: Duration) -> Vec<Idle> {
        let mut dead = Vec::new();
        if self.len >= capacity && now.saturating_sub(self.swept) > SWEEP {
            self.swept = now;
            dead = self.retain(|idle| now.saturating_sub(idle.since) < IN_USE);
        }
        if self.len < capacity {
            self.idle.entry(key).or_default().push(idle);
            self.len += 1;
        } else {
            dead.push(idle);
        }
        dead
    }

    /// Takes out what is of no use any more.
    fn sweep(&mut self, now: Duration) -> Vec<Idle> {
        self.retain(|idle| idle.until > now && (now.saturating_sub(idle.since) < IN_USE || is_quiet(&mut idle.stream)))
    }

    fn retain(&mut self, mut is_kept: impl FnMut(&mut Idle) -> bool) -> Vec<Idle> {
        let mut rest = Vec::new();
        self.idle.retain(|_, idle| {
            rest.extend(idle.extract_if(.., |idle| !is_kept(idle)));
            !idle.is_empty()
        });
        self.len -= rest.len();
        rest
    }
}

/// Whether there is nothing to read: neither an end nor an answer that nobody asked for.
fn is_quiet(stream: &mut Stream) -> bool {
    let mut byte = [0];
    let read = poll_fn(|context| Pin::new(&mut *stream).poll_read(context, &mut ReadBuf::new(&mut byte)));
    // Where a task has used up its budget, tokio says that there is nothing to read, whatever there is.
    let read = pin!(tokio::task::unconstrained(read));
    read.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, DuplexStream};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A connection, and its upstream's end.
    fn connection() -> (Stream, DuplexStream) {
        let (gateway, upstream) = tokio::io::duplex(16);
        (Box::new(gateway), upstream)
    }

    fn idle(since: Duration) -> (Idle, DuplexStream) {
        let (stream, upstream) = connection();
        (Idle { stream, since, until: since + MINUTE }, upstream)
    }

    #[tokio::test]
    async fn a_connection_is_taken_once_and_for_what_it_was_made_for() {
        let pool = Pool::new(2, 8);
        let (stream, _upstream) = connection();
        pool.put(1, stream, MINUTE);
        assert!(pool.take(2).is_none());
        assert!(pool.take(1).is_some());
        assert!(pool.take(1).is_none());
    }

    #[tokio::test]
    async fn what_another_thread_put_back_is_found() {
        let pool = Pool::new(2, 8);
        let (stream, _upstream) = connection();
        let other = (pool.own_shard() + 1) % 2;
        let idle = Idle { stream, since: clock::now(), until: clock::now() + MINUTE };
        assert!(pool.shards[other].lock().put(1, idle, 8, MINUTE).is_empty());
        assert!(pool.take(1).is_some());
    }

    #[tokio::test]
    async fn a_connection_that_has_something_to_read_is_closed() {
        let pool = Pool::new(1, 8);
        let (ended, upstream) = connection();
        drop(upstream);
        pool.put(1, ended, MINUTE);
        assert!(pool.take(1).is_none(), "its upstream has closed it");
        let (talking, mut upstream) = connection();
        upstream.write_all(b"HTTP/1.1").await.unwrap();
        pool.put(1, talking, MINUTE);
        assert!(pool.take(1).is_none(), "nobody asked for this answer");
        let (late, _upstream) = connection();
        pool.put(1, late, Duration::ZERO);
        assert!(pool.take(1).is_none(), "its time is over");
    }

    #[tokio::test]
    async fn one_task_finds_any_number_of_closed_connections() {
        let pool = Pool::new(1, 1000);
        for _ in 0..500 {
            pool.put(1, connection().0, MINUTE);
        }
        assert!(pool.take(1).is_none());
    }

    #[tokio::test]
    async fn a_connection_that_finds_its_own_shard_locked_is_kept_in_another() {
        let pool = Pool::new(2, 8);
        let (stream, _upstream) = connection();
        let locked = pool.shards[pool.own_shard()].lock();
        pool.put(1, stream, MINUTE);
        assert!(pool.take(1).is_some());
        drop(locked);
    }

    #[tokio::test]
    async fn the_sweep_closes_what_is_old_or_closed() {
        let mut shard = Shard::default();
        let ((open, _a), (closed, b), (old, _c)) = (idle(MINUTE), idle(MINUTE), idle(Duration::ZERO));
        drop(b);
        for (key, idle) in [(1, open), (1, closed), (2, old)] {
            assert!(shard.put(key, idle, 8, MINUTE).is_empty());
        }
        assert_eq!(shard.sweep(MINUTE + SWEEP).len(), 2);
        assert_eq!((shard.len, shard.idle.len()), (1, 1));
    }

    #[tokio::test]
    async fn a_full_pool_keeps_what_is_in_use() {
        let mut shard = Shard::default();
        let mut upstreams = Vec::new();
        let mut put = |shard: &mut Shard, key, now| {
            let (idle, upstream) = idle(now);
            upstreams.push(upstream);
            shard.put(key, idle, 2, now).len()
        };
        assert_eq!(put(&mut shard, 1, MINUTE), 0);
        assert_eq!(put(&mut shard, 2, MINUTE + IN_USE), 0);
        assert_eq!(put(&mut shard, 3, MINUTE + IN_USE), 1);
        assert!(shard.take(1).is_none(), "the one that nobody used made room");
        assert_eq!(put(&mut shard, 4, MINUTE + IN_USE), 1);
        assert!(shard.take(4).is_none(), "all are in use");
        assert_eq!(shard.len, 2);
        assert!(shard.take(2).is_some() && shard.take(3).is_some());
    }
}
