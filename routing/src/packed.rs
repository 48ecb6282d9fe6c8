//! The memory of maps that hold something for every object.
//!
//! A B-tree that was filled in order has nodes that are half empty, and a hash table keeps the room of its largest day.
//! Both are mended after many changes, so that it costs each of them little.

use std::collections::BTreeMap;
use std::mem;

/// Maps with fewer entries waste too little to care.
const MIN_CHANGES: usize = 64;

/// Counts changes of maps until it pays to mend them.
#[derive(Debug, Default)]
pub struct Wear(usize);

impl Wear {
    /// Adds changes to maps of a size, and returns whether they are to be mended now: after half as many changes as there
    /// are entries.
    pub fn is_due(&mut self, n_changes: usize, n_entries: usize) -> bool {
        self.0 += n_changes;
        let is_due = self.0 > MIN_CHANGES && self.0 * 2 > n_entries;
        if is_due {
            self.0 = 0;
        }
        is_due
    }
}

/// Fills the nodes of a map. Costs as much as the map is large.
pub fn repack<K: Ord, V>(map: &mut BTreeMap<K, V>) {
    *map = mem::take(map).into_iter().collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_costs_the_mending_of_two_entries_at_most() {
        let mut wear = Wear::default();
        let mut n_mended = 0;
        for n_entries in 1..100_000 {
            if wear.is_due(1, n_entries) {
                n_mended += n_entries;
            }
        }
        assert!((1..=200_000).contains(&n_mended), "{n_mended}");
        assert!(!wear.is_due(1, 100_000), "nothing is due at once");
    }

    #[test]
    fn few_changes_are_never_worth_it() {
        assert!((0..MIN_CHANGES).scan(Wear::default(), |wear, _| Some(wear.is_due(1, 0))).all(|is_due| !is_due));
    }

    #[test]
    fn a_packed_map_is_the_same_map() {
        let map: BTreeMap<u32, u32> = (0..1000).map(|number| (number, number * 2)).collect();
        let mut packed = map.clone();
        repack(&mut packed);
        assert_eq!(packed, map);
    }
}
