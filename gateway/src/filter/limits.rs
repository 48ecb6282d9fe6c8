//! Limits on what one client may do at a time: nginx's leaky bucket and its count of requests under way.
//!
//! Both tables have a fixed size, whatever clients do, and outlive every snapshot: an entry is known by a hash of who set
//! the limit and whom it holds for. They are cut into many small sets with a lock each, so that two requests hardly ever
//! meet at one.

mod memory;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use routing::CompiledLimits;
use routing::model::{Limits, Rate};

use self::memory::TagKey;
use crate::failure::Failure;

/// Sets of each table; with four entries each that is more than the 80,000 IPv4 clients of a zone of ingress-nginx.
const N_SETS: usize = 1 << 15;
/// Entries of a set.
const N_WAYS: usize = 4;

/// Who has done how much.
pub struct LimitTables {
    tag_key: TagKey,
    epoch: Instant,
    buckets: Box<[Mutex<[Bucket; N_WAYS]>]>,
    counts: Arc<[Mutex<[Count; N_WAYS]>]>,
}

/// A request that is counted until this is dropped.
pub(crate) struct Counted {
    counts: Arc<[Mutex<[Count; N_WAYS]>]>,
    tag: u64,
}

/// The leaky bucket of one client. An empty one says as much as none.
#[derive(Clone, Copy, Default)]
struct Bucket {
    tag: u64,
    /// Thousandths of a request above the rate.
    excess: u32,
    /// When that was, in milliseconds.
    last: u32,
}

/// The requests of one client that are under way.
#[derive(Clone, Copy, Default)]
struct Count {
    tag: u64,
    n: u32,
}

/// Which of the limits of a rule an entry is for.
#[derive(Clone, Copy, Hash)]
enum Kind {
    Second,
    Minute,
    Connections,
}

// === impl LimitTables ===

impl LimitTables {
    pub(crate) fn new() -> Self {
        Self {
            tag_key: TagKey::random(),
            epoch: Instant::now(),
            buckets: (0..N_SETS).map(|_| Mutex::default()).collect(),
            counts: (0..N_SETS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Takes a request under the limits of its rule, in nginx's order: first its rates, then the requests under way.
    pub(crate) fn admit(&self, compiled: &CompiledLimits, client: IpAddr) -> Result<Option<Counted>, Failure> {
        self.admit_at(compiled, client, self.now())
    }

    /// In milliseconds. Wraps after 49 days, see `Bucket::leaked`.
    fn now(&self) -> u32 {
        self.epoch.elapsed().as_millis() as u32
    }

    fn admit_at(&self, compiled: &CompiledLimits, client: IpAddr, now: u32) -> Result<Option<Counted>, Failure> {
        let Limits { per_second, per_minute, connections, exempt, rate_status, connection_status, zone: _ } =
            &*compiled.limits;
        if exempt.contain(client) {
            return Ok(None);
        }
        let tag = |kind: Kind| self.tag_key.tag(&(compiled.zone, client, kind));
        let too_fast = Failure::Limited { status: *rate_status };
        let second = per_second.map(|rate| (tag(Kind::Second), rate, u64::from(rate.limit) * 1000));
        // nginx divides a rate by the minute to whole thousandths of a request in a second.
        let minute = per_minute.map(|rate| (tag(Kind::Minute), rate, u64::from(rate.limit) * 1000 / 60));
        // A request that one rate refuses does not count for the other.
        if let (Some(second), Some(_)) = (&second, &minute)
            && !self.pass(second, now, false)
        {
            return Err(too_fast);
        }
        let is_slow = minute.is_none_or(|minute| self.pass(&minute, now, true))
            && second.is_none_or(|second| self.pass(&second, now, true));
        if !is_slow {
            return Err(too_fast);
        }
        let Some(limit) = connections else { return Ok(None) };
        match self.count(tag(Kind::Connections), *limit) {
            Some(counted) => Ok(Some(counted)),
            None => Err(Failure::Limited { status: *connection_status }),
        }
    }

    /// Whether a bucket takes one more request; it does only when `is_taken` says so.
    fn pass(&self, (tag, Rate { burst, limit: _ }, rate): &(u64, Rate, u64), now: u32, is_taken: bool) -> bool {
        let Some(set) = self.buckets.get(place(*tag)) else { return false };
        let mut set = set.lock();
        let left = |bucket: &Bucket| u64::from(bucket.excess).saturating_sub(bucket.leaked(now, *rate));
        let known = set.iter().position(|bucket| bucket.tag == *tag);
        let excess = known
            .and_then(|at| set.get(at))
            .map_or(0, |bucket| (u64::from(bucket.excess) + 1000).saturating_sub(bucket.leaked(now, *rate)));
        if excess > u64::from(*burst) * 1000 {
            return false;
        }
        // The place of a client that is not known is the emptiest one: what leaves knew least.
        let at = known.or_else(|| (0..N_WAYS).min_by_key(|at| set.get(*at).map(left)));
        if is_taken && let Some(bucket) = at.and_then(|at| set.get_mut(at)) {
            *bucket = Bucket { tag: *tag, excess: u32::try_from(excess).unwrap_or(u32::MAX), last: now };
        }
        true
    }

    /// Counts one more request of a client; `None` when it has too many under way, or when there is no place for it.
    fn count(&self, tag: u64, limit: u32) -> Option<Counted> {
        let mut set = self.counts.get(place(tag))?.lock();
        let known = set.iter().position(|count| count.tag == tag && count.n > 0);
        let at = known.or_else(|| set.iter().position(|count| count.n == 0))?;
        let count = set.get_mut(at)?;
        if count.n >= limit {
            return None;
        }
        *count = Count { tag, n: count.n + 1 };
        drop(set);
        Some(Counted { counts: Arc::clone(&self.counts), tag })
    }
}

// === impl Bucket ===

impl Bucket {
    /// What has leaked out since the last request.
    fn leaked(&self, now: u32, rate: u64) -> u64 {
        let elapsed = now.wrapping_sub(self.last);
        // Two requests can read the clock in one order and come here in the other. An entry that was not touched for
        // half the round of the clock looks the same: it leaks nothing for one request.
        if elapsed > u32::MAX / 2 { 0 } else { u64::from(elapsed) * rate / 1000 }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some(set) = self.counts.get(place(self.tag)) else { return };
        if let Some(count) = set.lock().iter_mut().find(|count| count.tag == self.tag) {
            count.n = count.n.saturating_sub(1);
        }
    }
}

fn place(tag: u64) -> usize {
    tag as usize % N_SETS
}

#[cfg(test)]
mod tests {
    use routing::Networks;
    use routing::model::LimitZone;

    use super::*;

    pub(super) fn limits(change: impl FnOnce(&mut Limits)) -> CompiledLimits {
        let mut limits = Limits {
            zone: LimitZone { namespace: "default".into(), name: "web".into() },
            per_second: None,
            per_minute: None,
            connections: None,
            exempt: Networks::new(&["192.0.2.0/24".parse().unwrap()]),
            rate_status: 503,
            connection_status: 429,
        };
        change(&mut limits);
        CompiledLimits::new(Arc::new(limits))
    }

    pub(super) fn client(last: u8) -> IpAddr {
        IpAddr::from([198, 51, 100, last])
    }

    /// How many of `n` requests at `now` pass.
    pub(super) fn n_passed(tables: &LimitTables, limits: &CompiledLimits, client: IpAddr, now: u32, n: usize) -> usize {
        (0..n).filter(|_| tables.admit_at(limits, client, now).is_ok()).count()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_does() {
        let tables = LimitTables::new();
        // limit-rps 2 with the usual multiplier of 5: burst 10.
        let limits = limits(|limits| limits.per_second = Some(Rate { limit: 2, burst: 10 }));
        // The first request finds an empty bucket, ten more fill it.
        assert_eq!(n_passed(&tables, &limits, client(1), 5000, 30), 11);
        assert_eq!(n_passed(&tables, &limits, client(1), 5499, 1), 0);
        assert_eq!(n_passed(&tables, &limits, client(1), 5500, 2), 1);
        assert_eq!(n_passed(&tables, &limits, client(1), 6500, 9), 2);
        assert_eq!(n_passed(&tables, &limits, client(2), 6500, 30), 11);
        assert_eq!(n_passed(&tables, &limits, client(1), 600_000, 30), 11);
    }

    #[test]
    fn a_rate_by_the_minute_leaks_slowly() {
        let tables = LimitTables::new();
        let limits = limits(|limits| limits.per_minute = Some(Rate { limit: 60, burst: 0 }));
        assert_eq!(n_passed(&tables, &limits, client(1), 0, 2), 1);
        assert_eq!(n_passed(&tables, &limits, client(1), 999, 2), 0);
        assert_eq!(n_passed(&tables, &limits, client(1), 1000, 2), 1);
    }

    #[test]
    fn a_request_that_one_rate_refuses_does_not_count_for_the_other() {
        let tables = LimitTables::new();
        let limits = limits(|limits| {
            limits.per_second = Some(Rate { limit: 1, burst: 5 });
            limits.per_minute = Some(Rate { limit: 1, burst: 1 });
        });
        assert_eq!(n_passed(&tables, &limits, client(1), 0, 20), 2);
        let only_second = CompiledLimits::new(Arc::new(Limits { per_minute: None, ..(*limits.limits).clone() }));
        // Two of six are taken.
        assert_eq!(n_passed(&tables, &only_second, client(1), 0, 20), 4);
    }

    #[test]
    fn requests_under_way_are_counted_until_they_end() {
        let tables = LimitTables::new();
        let limits = limits(|limits| limits.connections = Some(2));
        let held: Vec<_> = (0..2).map(|_| tables.admit(&limits, client(1)).unwrap()).collect();
        assert!(matches!(tables.admit(&limits, client(1)), Err(Failure::Limited { status: 429 })));
        assert!(tables.admit(&limits, client(2)).is_ok());
        drop(held);
        assert!(tables.admit(&limits, client(1)).is_ok());
    }

    #[test]
    fn who_is_exempt_is_not_limited_and_zones_do_not_share() {
        let tables = LimitTables::new();
        let strict = limits(|limits| limits.per_second = Some(Rate { limit: 1, burst: 0 }));
        assert_eq!(n_passed(&tables, &strict, [192, 0, 2, 1].into(), 0, 9), 9);
        let zone = LimitZone { namespace: "default".into(), name: "other".into() };
        let other = CompiledLimits::new(Arc::new(Limits { zone, ..(*strict.limits).clone() }));
        assert_eq!(n_passed(&tables, &strict, client(1), 0, 9), 1);
        assert_eq!(n_passed(&tables, &other, client(1), 0, 9), 1);
    }

    #[test]
    fn a_flood_of_clients_does_not_empty_a_full_bucket() {
        let tables = LimitTables::new();
        let limits = limits(|limits| limits.per_second = Some(Rate { limit: 1, burst: 2 }));
        assert_eq!(n_passed(&tables, &limits, client(1), 0, 9), 3);
        for number in 0..200_000_u32 {
            let address = IpAddr::from((u128::from(number) << 64).to_be_bytes());
            assert!(tables.admit_at(&limits, address, 0).is_ok());
        }
        assert_eq!(n_passed(&tables, &limits, client(1), 0, 9), 0);
    }
}
