//! The addresses of servers that rules name, looked up when they are asked for and remembered for a while.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::digest;
use routing::is_never_a_backend;
use tokio::sync::Semaphore;

use super::cache::{Cache, CacheKey};

/// Names that are remembered.
const REMEMBERED: usize = 1024;
/// How long an answer of the resolver holds. The system's resolver does not tell how long it would.
const REFRESH: Duration = Duration::from_secs(30);
/// How long it holds when the resolver has nothing newer to say.
const STALE: Duration = Duration::from_secs(600);
/// Look-ups at a time: each takes a thread.
const MAX_LOOKING: usize = 16;

/// Looks names up.
pub(super) struct Names {
    known: Cache<Arc<Known>>,
    places: Semaphore,
}

struct Known {
    addresses: Box<[IpAddr]>,
    since: Instant,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { known: Cache::new(REMEMBERED), places: Semaphore::new(MAX_LOOKING) }
    }

    /// The addresses of a name that may be asked, in turns; none when there are none, or none of them may be.
    pub(super) async fn addresses(&self, name: &str, port: u16) -> Vec<SocketAddr> {
        let known = self.look_up(name).await;
        let addresses = known.iter().flat_map(|known| known.addresses.iter());
        let mut addresses: Vec<SocketAddr> = addresses.map(|address| SocketAddr::new(*address, port)).collect();
        fastrand::shuffle(&mut addresses);
        addresses
    }

    async fn look_up(&self, name: &str) -> Option<Arc<Known>> {
        let key = key_of(name);
        let known = || self.known.get(&key);
        let is_fresh = |known: &Arc<Known>| known.since.elapsed() < REFRESH;
        if let Some(known) = known().filter(is_fresh) {
            return Some(known);
        }
        let _place = self.places.acquire().await.ok()?;
        // Of many requests with one name, the first has looked for all.
        if let Some(known) = known().filter(is_fresh) {
            return Some(known);
        }
        let Ok(found) = tokio::net::lookup_host((name, 0)).await else {
            return known().filter(|known| known.since.elapsed() < STALE);
        };
        let addresses = found.map(|address| address.ip().to_canonical()).filter(|ip| !is_never_a_backend(*ip));
        let new = Arc::new(Known { addresses: addresses.collect(), since: Instant::now() });
        self.known.put(key, Arc::clone(&new));
        Some(new)
    }
}

fn key_of(name: &str) -> CacheKey {
    // SHA-256 has 32 bytes.
    digest::digest(&digest::SHA256, name.as_bytes()).as_ref().try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_leads_to_the_gateway_itself_has_no_address() {
        let names = Names::new();
        for name in ["localhost", "127.0.0.1", "169.254.169.254", "0.0.0.0", "::1"] {
            assert_eq!(names.addresses(name, 80).await, [], "{name}");
        }
        assert_eq!(names.addresses("192.0.2.1", 81).await, ["192.0.2.1:81".parse().unwrap()]);
    }

    #[tokio::test]
    async fn what_the_resolver_no_longer_knows_holds_for_a_while() {
        let names = Names::new();
        // No resolver has a name in this domain (RFC 6761 section 6.4).
        let name = "gone.invalid";
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for (age, n_known) in [(REFRESH + Duration::from_secs(1), 1), (STALE + Duration::from_secs(1), 0)] {
            let Some(since) = Instant::now().checked_sub(age) else { return };
            names.known.put(key_of(name), Arc::new(Known { addresses: [address].into(), since }));
            assert_eq!(names.addresses(name, 80).await.len(), n_known, "{age:?}");
        }
    }
}
