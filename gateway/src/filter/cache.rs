//! A cache of answers that somebody vouched for: bounded, and nobody waits for anybody.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// The name of an entry: a keyed hash of everything that the answer depends on, so that nothing secret is kept and
/// nobody finds two questions with one name.
pub(crate) type CacheKey = [u8; 32];

/// A cache with one place for each entry. Two entries that want the same place drive each other out.
pub(crate) struct Cache<V> {
    places: Box<[ArcSwapOption<(CacheKey, V)>]>,
}

impl<V: Clone> Cache<V> {
    /// A cache for at most `capacity` entries, which is at least 1.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { places: (0..capacity.max(1)).map(|_| ArcSwapOption::empty()).collect() }
    }

    pub(crate) fn get(&self, key: &CacheKey) -> Option<V> {
        let entry = self.place(key)?.load();
        entry.as_ref().filter(|entry| entry.0 == *key).map(|entry| entry.1.clone())
    }

    pub(crate) fn put(&self, key: CacheKey, value: V) {
        if let Some(place) = self.place(&key) {
            place.store(Some(Arc::new((key, value))));
        }
    }

    fn place(&self, key: &CacheKey) -> Option<&ArcSwapOption<(CacheKey, V)>> {
        // The hash is uniform: any eight bytes of it choose a place.
        let [number @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *key;
        let places = u64::try_from(self.places.len()).ok()?;
        self.places.get(usize::try_from(u64::from_le_bytes(number) % places).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_until_another_takes_its_place() {
        let cache = Cache::new(2);
        let key = |first: u8, last: u8| {
            let mut key = [0; 32];
            (key[0], key[31]) = (first, last);
            key
        };
        cache.put(key(0, 1), "a");
        cache.put(key(1, 1), "b");
        assert_eq!((cache.get(&key(0, 1)), cache.get(&key(1, 1))), (Some("a"), Some("b")));
        assert_eq!(cache.get(&key(2, 1)), None);
        cache.put(key(2, 2), "c");
        assert_eq!((cache.get(&key(0, 1)), cache.get(&key(2, 2))), (None, Some("c")));
    }
}
