//! A hash table that lies in one piece, for lookups whose cost is that of the memory they touch: the slot that is read
//! first mostly has what is looked for.

use std::sync::Arc;

/// Values by the hashes of their keys. An entry lies in the slot that its hash names, or in the first free one after it.
///
/// A copy shares the slots with its original until one of them is changed.
#[derive(Clone)]
pub(crate) struct FlatTable<T> {
    /// Never full, so that every search ends.
    slots: Arc<[Option<Entry<T>>]>,
    len: usize,
}

/// A value and the hash of its key.
type Entry<T> = (u32, T);

impl<T> FlatTable<T> {
    /// The value with this hash for which `is_it` holds.
    pub(crate) fn find(&self, hash: u32, is_it: impl Fn(&T) -> bool) -> Option<&T> {
        let at = self.position(hash, is_it)?;
        self.slots[at].as_ref().map(|(_, value)| value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries().map(|(_, value)| value)
    }

    /// Whether both lie in the same memory.
    #[cfg(test)]
    pub(crate) fn shares_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.slots, &other.slots)
    }

    fn entries(&self) -> impl Iterator<Item = &Entry<T>> {
        self.slots.iter().flatten()
    }

    fn position(&self, hash: u32, is_it: impl Fn(&T) -> bool) -> Option<usize> {
        let mut at = home(hash, self.slots.len());
        loop {
            let (other, value) = self.slots.get(at)?.as_ref()?;
            if *other == hash && is_it(value) {
                return Some(at);
            }
            at = next(at, self.slots.len());
        }
    }
}

impl<T: Clone> FlatTable<T> {
    /// An empty table that takes so many entries without another allocation.
    pub(crate) fn with_capacity(n_entries: usize) -> Self {
        Self { slots: vec![None; n_entries + n_entries / 2 + 1].into(), len: 0 }
    }

    /// Adds a value, in place of the one with this hash for which `is_it` holds. Returns that one.
    pub(crate) fn insert(&mut self, hash: u32, value: T, is_it: impl Fn(&T) -> bool) -> Option<T> {
        if let Some(at) = self.position(hash, is_it) {
            let old = Arc::make_mut(&mut self.slots)[at].replace((hash, value));
            return old.map(|(_, value)| value);
        }
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            *self = Self::of(self.entries(), (self.len + 1) * 4 / 3);
        }
        put(Arc::make_mut(&mut self.slots), (hash, value));
        self.len += 1;
        None
    }

    /// Removes the value with this hash for which `is_it` holds, and returns it.
    ///
    /// A gap would hide the entries that lie behind it for want of a better place, so the table is made anew.
    pub(crate) fn remove(&mut self, hash: u32, is_it: impl Fn(&T) -> bool) -> Option<T> {
        let at = self.position(hash, is_it)?;
        let (before, after) = self.slots.split_at(at);
        let (removed, after) = after.split_first()?;
        let removed = removed.as_ref().map(|(_, value)| value.clone());
        *self = Self::of(before.iter().chain(after).flatten(), self.len - 1);
        removed
    }

    fn of<'e>(entries: impl Iterator<Item = &'e Entry<T>>, n_entries: usize) -> Self
    where
        T: 'e,
    {
        let mut table = Self::with_capacity(n_entries);
        let slots = Arc::make_mut(&mut table.slots);
        for entry in entries {
            put(slots, entry.clone());
            table.len += 1;
        }
        table
    }
}

impl<T> Default for FlatTable<T> {
    fn default() -> Self {
        Self { slots: Arc::default(), len: 0 }
    }
}

/// Puts an entry where a search for it ends.
fn put<T>(slots: &mut [Option<Entry<T>>], entry: Entry<T>) {
    let mut at = home(entry.0, slots.len());
    while slots[at].is_some() {
        at = next(at, slots.len());
    }
    slots[at] = Some(entry);
}

/// Where the search for a hash begins. Multiplying instead of dividing spreads hashes evenly over any number of slots.
fn home(hash: u32, n_slots: usize) -> usize {
    ((u64::from(hash) * n_slots as u64) >> 32) as usize
}

fn next(at: usize, n_slots: usize) -> usize {
    if at + 1 < n_slots { at + 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Few hashes for many keys: at both ends of the table, side by side, and equal ones.
    fn hash(key: u8) -> u32 {
        match key % 8 {
            0 => 0,
            1 | 2 => u32::MAX,
            3 => u32::MAX - 1,
            other => u32::from(other) << 28 | u32::from(key >> 6),
        }
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
                    Some(value) => (table.insert(hash(key), (key, value), is_it), map.insert(key, value)),
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
        assert!(FlatTable::<u32>::default().find(7, |_| true).is_none());
        assert!(FlatTable::<u32>::with_capacity(0).find(7, |_| true).is_none());
    }

    #[test]
    fn a_table_has_room_for_what_it_was_made_for() {
        for n_entries in 0..100 {
            let mut table = FlatTable::with_capacity(n_entries);
            let slots = table.slots.as_ptr();
            (0_u32..).take(n_entries).for_each(|number| assert!(table.insert(number, number, |_| false).is_none()));
            assert_eq!(table.slots.as_ptr(), slots, "{n_entries}");
        }
    }

    #[test]
    fn a_table_gives_back_the_room_of_what_was_removed() {
        let mut table = FlatTable::default();
        (0_u32..1000).for_each(|number| assert!(table.insert(number << 22, number, |_| false).is_none()));
        assert!(table.slots.len() < 2100);
        (0_u32..1000).for_each(|number| assert_eq!(table.remove(number << 22, |_| true), Some(number)));
        assert_eq!((table.len, table.slots.len()), (0, 1));
    }
}
