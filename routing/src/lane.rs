//! Lanes: values that change by themselves. A rule or host that refers to one holds its place, so that a rotation of a
//! certificate or a new password recompiles nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};

/// The place of a value that changes by itself.
#[derive(Debug)]
pub struct LaneCell<K, V> {
    key: K,
    current: ArcSwapOption<V>,
}

/// The places of all values of a kind.
pub(crate) struct Lane<K, V>(BTreeMap<K, Arc<LaneCell<K, V>>>);

// === impl LaneCell ===

impl<K, V> LaneCell<K, V> {
    /// What the place is referred to by.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// The value of the moment; `None` while there is none.
    pub fn load(&self) -> Guard<Option<Arc<V>>> {
        self.current.load()
    }
}

// === impl Lane ===

impl<K: Ord + Clone, V> Lane<K, V> {
    /// The place of a value, which may be empty yet.
    pub(crate) fn cell(&mut self, key: &K) -> Arc<LaneCell<K, V>> {
        let new = || Arc::new(LaneCell { key: key.clone(), current: ArcSwapOption::empty() });
        Arc::clone(self.0.entry(key.clone()).or_insert_with(new))
    }

    /// Makes values live.
    pub(crate) fn set(&mut self, changes: &BTreeMap<K, Option<Arc<V>>>) {
        for (key, value) in changes {
            self.cell(key).current.store(value.clone());
        }
    }

    /// Forgets the places that nobody refers to. Requests that pinned an older state keep theirs.
    pub(crate) fn retain(&mut self, known: &BTreeMap<K, Arc<V>>) {
        self.0.retain(|key, cell| known.contains_key(key) || Arc::strong_count(cell) > 1);
    }
}

impl<K, V> Default for Lane<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}
