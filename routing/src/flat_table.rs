//! A hash table for lookups whose cost is that of the memory they touch: a value lies in the table itself, and next to
//! nothing is read beside it.

use std::num::NonZeroU32;
use std::sync::Arc;

/// Values by the hashes of their keys. An entry lies in the slot that its hash names, or in the first free one after it.
///
/// A copy shares the slots with its original until one of them is changed.
#[derive(Clone)]
pub(crate) struct FlatTable<T> {
    /// What is searched: so many lie in a cache line that most stay in the cache, and the processor fetches the value of
    /// the first while it still compares. Never full, so that every search ends.
    hashes: Arc<[Option<Hash>]>,
    /// In the same slots.
    values: Arc<[Option<T>]>,
    len: usize,
}

/// The hash of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hash(NonZeroU32);

impl Hash {
    /// Takes the lower half of a hash. Zero marks a free slot, so it becomes another.
    pub(crate) fn new(hash: u64) -> Self {
        Self(NonZeroU32::new(hash as u32).unwrap_or(NonZeroU32::MAX))
    }

    /// Where the search for it begins. Multiplying instead of dividing spreads hashes evenly over any number of slots.
    fn home(self, n_slots: usize) -> usize {
        ((u64::from(self.0.get()) * n_slots as u64) >> 32) as usize
    }
}

impl<T> FlatTable<T> {
    /// The value with this hash for which `is_it` holds.
    pub(crate) fn find(&self, hash: Hash, is_it: impl Fn(&T) -> bool) -> Option<&T> {
        let at = self.position(hash, is_it)?;
        self.values[at].as_ref()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.values.iter().flatten()
    }

    /// Whether both lie in the same memory.
    #[cfg(test)]
    pub(crate) fn shares_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.values, &other.values)
    }

    fn position(&self, hash: Hash, is_it: impl Fn(&T) -> bool) -> Option<usize> {
        let mut at = hash.home(self.hashes.len());
        loop {
            let other = (*self.hashes.get(at)?)?;
            if other == hash && self.values[at].as_ref().is_some_and(&is_it) {
                return Some(at);
            }
            at = next(at, self.hashes.len());
        }
    }
}

impl<T: Clone> FlatTable<T> {
    /// An empty table that takes so many entries without another allocation.
    pub(crate) fn with_capacity(n_entries: usize) -> Self {
        let n_slots = n_entries + n_entries / 4 + 1;
        Self { hashes: vec![None; n_slots].into(), values: vec![None; n_slots].into(), len: 0 }
    }

    /// Adds a value. One with this hash that is the same by `is_same` gives way to it, and is returned.
    pub(crate) fn insert(&mut self, hash: Hash, value: T, is_same: impl Fn(&T, &T) -> bool) -> Option<T> {
        if let Some(at) = self.position(hash, |other| is_same(other, &value)) {
            return Arc::make_mut(&mut self.values)[at].replace(value);
        }
        if (self.len + 1) * 8 > self.hashes.len() * 7 {
            self.resize((self.len + 1) * 9 / 8);
        }
        put(Arc::make_mut(&mut self.hashes), Arc::make_mut(&mut self.values), hash, value);
        self.len += 1;
        None
    }

    /// Removes the value with this hash for which `is_it` holds, and returns it.
    pub(crate) fn remove(&mut self, hash: Hash, is_it: impl Fn(&T) -> bool) -> Option<T> {
        let mut gap = self.position(hash, is_it)?;
        let (hashes, values) = (Arc::make_mut(&mut self.hashes), Arc::make_mut(&mut self.values));
        let n_slots = hashes.len();
        let removed = values[gap].take();
        hashes[gap] = None;
        // The gap would hide the entries behind it whose search begins at it or before it: they move up.
        let mut at = next(gap, n_slots);
        while let Some(hash) = hashes[at] {
            if distance(hash.home(n_slots), at, n_slots) >= distance(gap, at, n_slots) {
                hashes.swap(gap, at);
                values.swap(gap, at);
                gap = at;
            }
            at = next(at, n_slots);
        }
        self.len -= 1;
        if self.len * 4 < n_slots {
            self.resize(self.len);
        }
        removed
    }

    /// Makes room for so many entries, and no more.
    fn resize(&mut self, n_entries: usize) {
        let mut resized = Self::with_capacity(n_entries);
        let (hashes, values) = (Arc::make_mut(&mut resized.hashes), Arc::make_mut(&mut resized.values));
        for (hash, value) in self.hashes.iter().zip(&*self.values) {
            if let (Some(hash), Some(value)) = (hash, value) {
                put(hashes, values, *hash, value.clone());
            }
        }
        resized.len = self.len;
        *self = resized;
    }
}

impl<T> Default for FlatTable<T> {
    fn default() -> Self {
        Self { hashes: Arc::default(), values: Arc::default(), len: 0 }
    }
}

/// Puts an entry where a search for it ends.
fn put<T>(hashes: &mut [Option<Hash>], values: &mut [Option<T>], hash: Hash, value: T) {
    let mut at = hash.home(hashes.len());
    while hashes[at].is_some() {
        at = next(at, hashes.len());
    }
    (hashes[at], values[at]) = (Some(hash), Some(value));
}

fn next(at: usize, n_slots: usize) -> usize {
    if at + 1 < n_slots { at + 1 } else { 0 }
}

/// How many steps a search takes from one slot to another.
fn distance(from: usize, to: usize, n_slots: usize) -> usize {
    if to >= from { to - from } else { to + n_slots - from }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Few hashes for many keys: at both ends of the table, side by side, and equal ones.
    fn hash(key: u8) -> Hash {
        Hash::new(match key % 8 {
            0 => 1,
            1 | 2 => u64::MAX,
            3 => u64::MAX - 1,
            other => u64::from(other) << 28 | u64::from(key >> 6),
        })
    }

    fn contents(table: &FlatTable<(u8, u32)>) -> HashMap<u8, u32> {
        table.iter().copied().collect()
    }

    proptest! {
        #[test]
        fn a_table_holds_what_a_map_holds(steps in prop::collection::vec((any::<u8>(), any::<Option<u32>>()), 0..300)) {
            let mut map = HashMap::new();
            let mut table = FlatTable::default();
            for (key, value) in steps {
                let is_it = |entry: &(u8, u32)| entry.0 == key;
                let (before, copy) = (contents(&table), table.clone());
                let (old, expected) = match value {
                    Some(value) => (table.insert(hash(key), (key, value), |a, b| a.0 == b.0), map.insert(key, value)),
                    None => (table.remove(hash(key), is_it), map.remove(&key)),
                };
                prop_assert_eq!(old.map(|(_, value)| value), expected);
                for key in 0..=u8::MAX {
                    let found = table.find(hash(key), |entry| entry.0 == key).map(|(_, value)| value);
                    prop_assert_eq!(found, map.get(&key));
                }
                prop_assert_eq!(table.iter().count(), map.len());
                prop_assert_eq!(contents(&copy), before, "a copy stays as it was");
            }
        }
    }

    #[test]
    fn an_empty_table_has_nothing() {
        assert!(FlatTable::<u32>::default().find(Hash::new(7), |_| true).is_none());
        assert!(FlatTable::<u32>::with_capacity(0).find(Hash::new(7), |_| true).is_none());
    }

    #[test]
    fn a_table_has_room_for_what_it_was_made_for() {
        for n_entries in 0..100 {
            let mut table = FlatTable::with_capacity(n_entries);
            let slots = table.values.as_ptr();
            (0_u64..)
                .take(n_entries)
                .for_each(|number| assert!(table.insert(Hash::new(number), number, |_, _| false).is_none()));
            assert_eq!(table.values.as_ptr(), slots, "{n_entries}");
        }
    }

    #[test]
    fn a_table_gives_back_the_room_of_what_was_removed() {
        let mut table = FlatTable::default();
        (0_u64..1000).for_each(|number| assert!(table.insert(Hash::new(number << 22), number, |_, _| false).is_none()));
        assert!(table.values.len() < 2100);
        (0_u64..1000).for_each(|number| assert_eq!(table.remove(Hash::new(number << 22), |_| true), Some(number)));
        assert_eq!((table.len, table.values.len()), (0, 1));
    }
}
