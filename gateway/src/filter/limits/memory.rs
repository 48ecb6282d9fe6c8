//! The buckets of clients, for the process that serves next: the key that they are known by, and how full they are. Times
//! travel as ages, because every process has a clock of its own.
//!
//! Requests under way do not travel: they end on the process that counts them.

#[expect(
    deprecated,
    reason = "the hasher that replaces it keeps its key to itself, and another process needs the key"
)]
use std::hash::SipHasher;
use std::hash::{BuildHasher as _, Hash, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use super::{Bucket, LimitTables, N_SETS, N_WAYS, place};

/// Bytes of the key.
const KEY: usize = 16;
/// Bytes of a bucket: its tag, what is in it, its age.
const ENTRY: usize = 16;
/// A bucket that was not touched for so long, in milliseconds, is as good as empty.
const FORGOTTEN: u32 = 3_600_000;

/// What makes the tags of entries secret: nobody chooses addresses that meet at one.
pub(super) struct TagKey([AtomicU64; 2]);

// === impl TagKey ===

impl TagKey {
    pub(super) fn random() -> Self {
        let random = RandomState::new();
        Self([0_u8, 1].map(|half| AtomicU64::new(random.hash_one(half))))
    }

    /// What an entry is known by.
    #[expect(deprecated, reason = "see above")]
    pub(super) fn tag(&self, what: &impl Hash) -> u64 {
        let [low, high] = self.get();
        let mut hasher = SipHasher::new_with_keys(low, high);
        what.hash(&mut hasher);
        hasher.finish()
    }

    fn get(&self) -> [u64; 2] {
        self.0.each_ref().map(|half| half.load(Ordering::Relaxed))
    }

    fn set(&self, key: [u64; 2]) {
        for (half, value) in self.0.iter().zip(key) {
            half.store(value, Ordering::Relaxed);
        }
    }
}

// === impl LimitTables ===

impl LimitTables {
    /// The buckets for another process, at most 2 MiB of them.
    #[must_use]
    pub fn export(&self) -> Zeroizing<Vec<u8>> {
        self.export_at(self.now())
    }

    /// Goes on with the buckets of another process, before there are any of its own. Returns whether they are in a form
    /// that is known.
    pub fn import(&self, bytes: &[u8]) -> bool {
        self.import_at(bytes, self.now())
    }

    fn export_at(&self, now: u32) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY + N_SETS * N_WAYS * ENTRY));
        self.tag_key.get().iter().for_each(|half| bytes.extend(half.to_be_bytes()));
        for set in &self.buckets {
            let set = *set.lock();
            for Bucket { tag, excess, last } in set {
                let age = now.wrapping_sub(last);
                if excess > 0 && age < FORGOTTEN {
                    bytes.extend(tag.to_be_bytes());
                    bytes.extend(excess.to_be_bytes());
                    bytes.extend(age.to_be_bytes());
                }
            }
        }
        bytes
    }

    fn import_at(&self, bytes: &[u8], now: u32) -> bool {
        let Some((&key, entries)) = bytes.split_first_chunk::<KEY>() else { return false };
        let (entries, rest) = entries.as_chunks::<ENTRY>();
        if !rest.is_empty() || entries.len() > N_SETS * N_WAYS {
            return false;
        }
        let (low, high) = halves(u128::from_be_bytes(key));
        self.tag_key.set([low, high]);
        for entry in entries {
            let (tag, content) = halves(u128::from_be_bytes(*entry));
            let (excess, age) = ((content >> 32) as u32, content as u32);
            let Some(set) = self.buckets.get(place(tag)) else { continue };
            // There are no more of them than places, unless somebody made them up.
            if let Some(bucket) = set.lock().iter_mut().find(|bucket| bucket.excess == 0) {
                *bucket = Bucket { tag, excess, last: now.wrapping_sub(age) };
            }
        }
        true
    }
}

/// The upper and the lower half.
fn halves(value: u128) -> (u64, u64) {
    ((value >> 64) as u64, value as u64)
}

#[cfg(test)]
mod tests {
    use routing::model::Rate;

    use super::super::tests::{client, limits, n_passed};
    use super::*;

    #[test]
    fn another_process_goes_on_where_this_one_was() {
        let (old, new) = (LimitTables::new(), LimitTables::new());
        let limits = limits(|limits| limits.per_minute = Some(Rate { limit: 60, burst: 4 }));
        assert_eq!(n_passed(&old, &limits, client(1), 1000, 9), 5);
        assert_eq!(n_passed(&old, &limits, client(2), 1000, 2), 2);
        // Two seconds later, by another clock.
        assert!(new.import_at(&old.export_at(3000), 500));
        assert_eq!(n_passed(&new, &limits, client(1), 500, 9), 2);
        assert_eq!(n_passed(&new, &limits, client(2), 500, 9), 5);
        assert_eq!(n_passed(&new, &limits, client(3), 500, 9), 5);
    }

    #[test]
    fn what_is_long_ago_does_not_travel() {
        let old = LimitTables::new();
        let limits = limits(|limits| limits.per_minute = Some(Rate { limit: 1, burst: 9 }));
        assert_eq!(n_passed(&old, &limits, client(1), 0, 2), 2);
        assert_eq!(old.export_at(FORGOTTEN - 1).len(), KEY + ENTRY);
        assert_eq!(old.export_at(FORGOTTEN).len(), KEY);
    }

    #[test]
    fn another_form_changes_nothing() {
        let tables = LimitTables::new();
        let limits = limits(|limits| limits.per_second = Some(Rate { limit: 1, burst: 1 }));
        assert_eq!(n_passed(&tables, &limits, client(1), 0, 9), 2);
        let too_many = vec![0; KEY + (N_SETS * N_WAYS + 1) * ENTRY];
        for bytes in [&b""[..], b"{}", &[0; KEY + 1], &[0; KEY + ENTRY - 1], &too_many] {
            assert!(!tables.import_at(bytes, 0));
        }
        assert_eq!(n_passed(&tables, &limits, client(1), 0, 9), 0);
    }

    #[test]
    fn what_somebody_made_up_has_no_more_room_than_there_is() {
        let tables = LimitTables::new();
        let entry = [&[7; 8][..], &[1; 4], &[0; 4]].concat();
        assert!(tables.import_at(&[&[0; KEY][..], &entry.repeat(100)].concat(), 0));
        assert_eq!(tables.export_at(0).len(), KEY + N_WAYS * ENTRY);
    }
}
