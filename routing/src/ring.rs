//! Consistent hashing over the endpoints of a backend (ketama).
//!
//! The ring is the one that ingress-nginx has (`lua-resty-balancer` 0.05): 160 points for each endpoint, chained CRC-32
//! sums of its address as `10.0.0.1:80`, and a key belongs to the first point at or after its own sum. nginx's own ring
//! and Pingora's write a zero byte for the colon; with them a session or a cache key of ingress-nginx would move to
//! another pod in a migration.

use std::fmt::Display;

use crc32fast::Hasher;

/// Points for each endpoint.
const N_POINTS: u32 = 160;

/// Where the endpoints of a backend stand on the ring.
#[derive(Debug)]
pub struct HashRing(Box<[Point]>);

#[derive(Clone, Copy, Debug)]
struct Point {
    sum: u32,
    member: u32,
}

impl HashRing {
    /// A ring of members that are called by these names, such as `10.0.0.1:80`.
    pub(crate) fn new(names: impl IntoIterator<Item = impl Display>) -> Self {
        let mut points = Vec::new();
        for (member, name) in (0..).zip(names) {
            let mut named = Hasher::new();
            named.update(name.to_string().as_bytes());
            let mut previous = 0_u32;
            for _ in 0..N_POINTS {
                let mut hasher = named.clone();
                hasher.update(&previous.to_le_bytes());
                previous = hasher.finalize();
                points.push(Point { sum: previous, member });
            }
        }
        points.sort_by_key(|point| point.sum);
        Self(points.into())
    }

    /// The members in the order in which a key prefers them, each of them many times: the first is the one that the key
    /// belongs to. `sum` is the CRC-32 of the key.
    pub fn walk(&self, sum: u32) -> impl Iterator<Item = usize> + Clone {
        let (before, from) = self.0.split_at(self.0.partition_point(|point| point.sum < sum));
        from.iter().chain(before).map(|point| point.member as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(ring: &HashRing, key: &str) -> Option<usize> {
        ring.walk(crc32fast::hash(key.as_bytes())).next()
    }

    #[test]
    fn a_key_belongs_to_the_endpoint_that_ingress_nginx_gives_it_to() {
        // Answers of lua-resty-balancer 0.05, which ingress-nginx 1.15 ships.
        let ring = HashRing::new(["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080", "[2001:db8::1]:80"]);
        for (key, expected) in ORACLE {
            assert_eq!(owner(&ring, key), Some(*expected), "{key}");
        }
    }

    #[test]
    fn only_the_keys_of_an_endpoint_that_is_gone_move() {
        let names = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"];
        let (all, fewer) = (HashRing::new(names), HashRing::new(&names[..3]));
        let mut n_moved = 0;
        for number in 0..4000 {
            let key = format!("key-{number}");
            let (before, after) = (owner(&all, &key), owner(&fewer, &key));
            if before == Some(3) {
                n_moved += 1;
            } else {
                assert_eq!(before, after, "{key}");
            }
        }
        assert!((700..1300).contains(&n_moved), "{n_moved} of 4000 were on the fourth endpoint");
    }

    #[test]
    fn a_walk_meets_every_endpoint() {
        let ring = HashRing::new(["a:1", "b:1", "c:1"]);
        let mut met: Vec<_> = ring.walk(7).collect();
        met.sort_unstable();
        met.dedup();
        assert_eq!(met, [0, 1, 2]);
        assert_eq!(HashRing::new([""; 0]).walk(7).next(), None);
    }

    const ORACLE: &[(&str, usize)] = &[
        ("/item/0?q=0", 1),
        ("/item/37?q=1", 0),
        ("/item/74?q=2", 2),
        ("/item/111?q=3", 1),
        ("/item/148?q=4", 0),
        ("/item/185?q=5", 3),
        ("/item/222?q=6", 2),
        ("/item/259?q=7", 2),
        ("/item/296?q=8", 0),
        ("/item/333?q=9", 0),
        ("/item/370?q=10", 0),
        ("/item/407?q=11", 0),
        ("/item/444?q=12", 3),
        ("/item/481?q=13", 3),
        ("/item/518?q=14", 3),
        ("/item/555?q=15", 3),
        ("/item/592?q=16", 2),
        ("/item/629?q=17", 1),
        ("/item/666?q=18", 1),
        ("/item/703?q=19", 3),
        ("192.0.2.220", 0),
        ("192.0.2.231", 0),
        ("192.0.2.242", 2),
        ("192.0.2.253", 1),
    ];
}
