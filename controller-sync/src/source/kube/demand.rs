//! Which Secrets and ConfigMaps are wanted: those that something names. The watches keep no others.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use translate::resources::{Kind, ObjectKey};

/// The objects that are wanted, shared by those who watch and the one who knows what is named.
#[derive(Debug, Default)]
pub(super) struct Demand(Mutex<Wanted>);

#[derive(Debug, Default)]
struct Wanted {
    /// How often each is named, and since which moment.
    named: BTreeMap<ObjectKey, (usize, Moment)>,
    now: Moment,
}

/// A point in the order in which objects became wanted.
pub(super) type Moment = u64;

impl Demand {
    /// Whether objects of the kind are kept only while they are wanted.
    pub(super) fn concerns(kind: Kind) -> bool {
        matches!(kind, Kind::Secret | Kind::ConfigMap)
    }

    /// Whether an object is to be kept.
    pub(super) fn wants(&self, key: &ObjectKey) -> bool {
        !Self::concerns(key.kind) || self.0.lock().named.contains_key(key)
    }

    /// The present moment.
    pub(super) fn now(&self) -> Moment {
        self.0.lock().now
    }

    /// Whether an object has become wanted after a moment.
    pub(super) fn is_newer(&self, key: &ObjectKey, moment: Moment) -> bool {
        self.0.lock().named.get(key).is_some_and(|(_, since)| *since > moment)
    }

    /// Somebody names the object. Whether nobody did before.
    pub(super) fn add(&self, key: &ObjectKey) -> bool {
        let mut wanted = self.0.lock();
        let Wanted { named, now } = &mut *wanted;
        match named.get_mut(key) {
            Some((count, _)) => *count += 1,
            None => {
                *now += 1;
                named.insert(key.clone(), (1, *now));
                return true;
            }
        }
        false
    }

    /// Somebody names the object no more. Whether nobody does.
    pub(super) fn remove(&self, key: &ObjectKey) -> bool {
        let mut wanted = self.0.lock();
        let Some((count, _)) = wanted.named.get_mut(key) else { return false };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            wanted.named.remove(key);
        }
        is_last
    }
}
