//! What all watches together know, and what follows from a message of one of them. No I/O here.
//!
//! A list replaces what a watch knew in one step. Secrets and ConfigMaps are known only while something names them: an
//! object that names one for the first time waits until it was asked for, so that it never shows without it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use translate::Change;
use translate::resources::{Kind, ObjectKey, Resource};

use super::demand::{Demand, Moment};
use super::object::{Object, Version};
use super::scope::Scope;
use crate::status::Shown;

/// What a watch, or somebody who was sent for an object, tells.
#[derive(Debug)]
pub(super) enum Message {
    /// All objects of a watch, and from which moment on it did not know what is wanted.
    Listed { watch: usize, objects: Vec<Object>, began: Moment },
    /// An object is new or another.
    Changed { watch: usize, object: Box<Object> },
    /// An object is gone.
    Gone { watch: usize, key: ObjectKey },
    /// An object was asked for.
    Fetched { key: ObjectKey, found: Fetched },
}

/// What came of asking for an object.
#[derive(Debug)]
pub(super) enum Fetched {
    Found(Box<Object>),
    Absent,
    /// Nobody knows; the list will tell.
    Unknown,
}

/// What follows from the messages so far.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) changes: Vec<Change>,
    /// Objects to be asked for.
    pub(super) fetch: Vec<ObjectKey>,
    /// Watches that have to list again.
    pub(super) relist: BTreeSet<usize>,
    /// Ingresses, Services and ConfigMaps, each with what it shows; `None` for one that is gone.
    pub(super) shown: Vec<(ObjectKey, Option<Shown>)>,
}

/// What all watches know.
pub(super) struct Desk {
    watches: Vec<Watched>,
    demand: Arc<Demand>,
    /// By the object that names others.
    references: BTreeMap<ObjectKey, Vec<ObjectKey>>,
    /// Objects that are asked for, each with whether it has gone since.
    fetching: BTreeMap<ObjectKey, bool>,
    waiting: BTreeMap<ObjectKey, Waiting>,
    /// Objects whose newest versions are refused.
    refused: BTreeSet<ObjectKey>,
    /// Namespaces that are served; `None` for all of them.
    namespaces: Option<BTreeSet<Box<str>>>,
    /// Namespaces of what the flags name: served for that alone.
    exempt: BTreeSet<Box<str>>,
    outcome: Outcome,
}

struct Watched {
    scope: Scope,
    known: BTreeMap<ObjectKey, Version>,
    is_listed: bool,
}

/// A change that waits for objects that it names.
struct Waiting {
    change: Change,
    missing: BTreeSet<ObjectKey>,
}

impl Desk {
    /// A desk for these watches. With `selects_namespaces` one of them is that of the namespaces that are served.
    pub(super) fn new(scopes: &[Scope], demand: Arc<Demand>, named: &[ObjectKey], selects_namespaces: bool) -> Self {
        for key in named {
            demand.add(key);
        }
        let watched = |scope: &Scope| Watched { scope: scope.clone(), known: BTreeMap::new(), is_listed: false };
        Self {
            watches: scopes.iter().map(watched).collect(),
            demand,
            references: BTreeMap::new(),
            fetching: BTreeMap::new(),
            waiting: BTreeMap::new(),
            refused: BTreeSet::new(),
            namespaces: selects_namespaces.then(BTreeSet::new),
            exempt: named.iter().map(|key| key.namespace.clone()).collect(),
            outcome: Outcome::default(),
        }
    }

    /// Whether everything was listed, and nothing waits.
    pub(super) fn is_complete(&self) -> bool {
        self.watches.iter().all(|watch| watch.is_listed) && self.waiting.is_empty()
    }

    /// Whether the watches of these kinds have listed.
    pub(super) fn has_listed(&self, kinds: impl Fn(Kind) -> bool) -> bool {
        self.watches.iter().filter(|watch| kinds(watch.scope.kind)).all(|watch| watch.is_listed)
    }

    /// What has followed since the last time.
    pub(super) fn take_outcome(&mut self) -> Outcome {
        std::mem::take(&mut self.outcome)
    }

    pub(super) fn take(&mut self, message: Message) {
        match message {
            Message::Listed { watch, objects, began } => self.list(watch, objects, began),
            Message::Changed { watch, object } => self.change(watch, *object),
            Message::Gone { watch, key } => {
                if let Some(is_gone) = self.fetching.get_mut(&key) {
                    *is_gone = true;
                }
                self.remove(watch, &key);
            }
            Message::Fetched { key, found } => self.fetched(&key, found),
        }
    }

    fn list(&mut self, watch: usize, objects: Vec<Object>, began: Moment) {
        let Some(watched) = self.watches.get_mut(watch) else { return };
        watched.is_listed = true;
        let listed: BTreeSet<ObjectKey> = objects.iter().map(|object| object.key.clone()).collect();
        let gone: Vec<ObjectKey> = watched.known.keys().filter(|key| !listed.contains(*key)).cloned().collect();
        for key in gone {
            // The list passed over what has become wanted since it began.
            if self.demand.is_newer(&key, began) {
                self.fetch(&key);
            } else {
                self.remove(watch, &key);
            }
        }
        for object in objects {
            // A list is what there is, also where the versions of a restored API server have gone back.
            if let Some(known) = self.known_mut(watch).and_then(|known| known.get_mut(&object.key)) {
                known.resource = "".into();
            }
            self.change(watch, object);
        }
    }

    fn change(&mut self, watch: usize, object: Object) {
        let Object { key, version, change, references, shown } = object;
        if !self.is_of_interest(&key) {
            return;
        }
        let Some(known) = self.known_mut(watch) else { return };
        if known.get(&key).is_some_and(|known| version.is_before(known)) {
            return;
        }
        let is_another = known.get(&key).is_some_and(|known| known.uid != version.uid);
        if is_another && matches!(change, Change::Refuse(..)) {
            // The last good version was one of an object that is gone.
            self.remove(watch, &key);
        }
        let Some(known) = self.known_mut(watch) else { return };
        let old = known.insert(key.clone(), version.clone());
        if let Some(shown) = shown {
            self.outcome.shown.push((key.clone(), Some(shown)));
        }
        if old.is_some_and(|old| old.is_same_to_us(&version)) {
            return;
        }
        if let Change::Apply(resource, _) = &change {
            if let Resource::Namespace(namespace) = &**resource {
                return self.select(namespace.meta.name.clone());
            }
            self.refused.remove(&key);
            return self.refer(key, change, references);
        }
        // A refused version changes nothing: the last good one still needs what it names.
        self.refused.insert(key);
        self.outcome.changes.push(change);
    }

    /// Goes on with a version that was good with another process, if it is one of the same object and that is refused. It
    /// counts only where no good one is known, and needs what it names like any other.
    pub(super) fn recall(&mut self, resource: Resource, references: Vec<ObjectKey>) {
        let key = resource.key();
        let is_known = |watch: usize| {
            let known = self.watches.get(watch).and_then(|watch| watch.known.get(&key));
            known.is_some_and(|known| *known.uid == *resource.uid())
        };
        let has_good_one = self.waiting.contains_key(&key) || self.references.contains_key(&key);
        if self.refused.contains(&key) && !has_good_one && self.watches_of(&key).any(is_known) {
            self.refer(key, Change::Recall(Box::new(resource)), references);
        }
    }

    /// Whether any of these objects waits for what it names.
    pub(super) fn awaits(&self, keys: &BTreeSet<ObjectKey>) -> bool {
        keys.iter().any(|key| self.waiting.contains_key(key))
    }

    /// Tells a change as soon as everything that it names is known.
    fn refer(&mut self, key: ObjectKey, change: Change, references: Vec<ObjectKey>) {
        let old = self.references.remove(&key).unwrap_or_default();
        let mut missing = BTreeSet::new();
        for named in &references {
            let is_new = !old.contains(named) && self.demand.add(named);
            // Before the first list there is nothing to ask for: it will have everything that is wanted.
            if is_new && self.is_listed(named) {
                self.fetch(named);
            }
            if self.fetching.contains_key(named) {
                missing.insert(named.clone());
            }
        }
        if !references.is_empty() {
            self.references.insert(key.clone(), references.clone());
        }
        if missing.is_empty() {
            self.waiting.remove(&key);
            self.outcome.changes.push(change);
        } else {
            self.waiting.insert(key, Waiting { change, missing });
        }
        let dropped: Vec<ObjectKey> = old.into_iter().filter(|named| !references.contains(named)).collect();
        self.release(&dropped);
    }

    fn fetch(&mut self, key: &ObjectKey) {
        if self.fetching.insert(key.clone(), false).is_none() {
            self.outcome.fetch.push(key.clone());
        }
    }

    /// Forgets what nobody names any more.
    fn release(&mut self, references: &[ObjectKey]) {
        for named in references {
            if !self.demand.remove(named) {
                continue;
            }
            for watch in self.watches_of(named) {
                self.remove(watch, named);
            }
        }
    }

    fn remove(&mut self, watch: usize, key: &ObjectKey) {
        if self.known_mut(watch).and_then(|known| known.remove(key)).is_none() {
            return;
        }
        match key.kind {
            Kind::Namespace => return self.deselect(&key.name),
            Kind::Ingress | Kind::Service | Kind::ConfigMap => self.outcome.shown.push((key.clone(), None)),
            _ => {}
        }
        self.waiting.remove(key);
        self.refused.remove(key);
        self.outcome.changes.push(Change::Remove(key.clone()));
        let references = self.references.remove(key).unwrap_or_default();
        self.release(&references);
    }

    fn fetched(&mut self, key: &ObjectKey, found: Fetched) {
        let is_gone = self.fetching.remove(key).unwrap_or_default();
        if let Some(watch) = self.watches_of(key).next() {
            let is_known = self.known_mut(watch).is_some_and(|known| known.contains_key(key));
            match found {
                // Perhaps nobody wants it any more: then it is passed over.
                Fetched::Found(object) if !is_gone => self.change(watch, *object),
                Fetched::Absent if !is_known => {}
                // The answer and the watch contradict each other, or there is no answer.
                Fetched::Found(_) | Fetched::Absent | Fetched::Unknown => drop(self.outcome.relist.insert(watch)),
            }
        }
        let waiting = std::mem::take(&mut self.waiting);
        for (author, mut waits) in waiting {
            waits.missing.remove(key);
            if waits.missing.is_empty() {
                self.outcome.changes.push(waits.change);
            } else {
                self.waiting.insert(author, waits);
            }
        }
    }

    // === namespaces ===

    /// A namespace is served from now on: what is in it was passed over, so everything is listed again.
    fn select(&mut self, name: Box<str>) {
        let Some(namespaces) = &mut self.namespaces else { return };
        if namespaces.insert(name) {
            let is_late = |watch: &Watched| watch.is_listed && is_namespaced(watch.scope.kind);
            let others = self.watches.iter().enumerate().filter(|(_, watch)| is_late(watch));
            self.outcome.relist.extend(others.map(|(number, _)| number));
        }
    }

    fn deselect(&mut self, name: &str) {
        let Some(namespaces) = &mut self.namespaces else { return };
        namespaces.remove(name);
        for watch in 0..self.watches.len() {
            let known = self.known_mut(watch).map(|known| known.keys().cloned().collect::<Vec<_>>());
            for key in known.unwrap_or_default() {
                if *key.namespace == *name && !self.is_of_interest(&key) {
                    self.remove(watch, &key);
                }
            }
        }
    }

    /// Whether an object counts: its namespace is served, or the flags name it (for a Service: with its slices).
    fn is_of_interest(&self, key: &ObjectKey) -> bool {
        let Some(namespaces) = &self.namespaces else { return self.demand.wants(key) };
        let is_served = !is_namespaced(key.kind)
            || namespaces.contains(&key.namespace)
            || (key.kind != Kind::Ingress && self.exempt.contains(&key.namespace));
        is_served && self.demand.wants(key)
    }

    // === watches ===

    fn known_mut(&mut self, watch: usize) -> Option<&mut BTreeMap<ObjectKey, Version>> {
        self.watches.get_mut(watch).map(|watched| &mut watched.known)
    }

    fn watches_of(&self, key: &ObjectKey) -> impl Iterator<Item = usize> + use<> {
        let of_key = self.watches.iter().enumerate().filter(|(_, watch)| watch.scope.may_have(key));
        of_key.map(|(number, _)| number).collect::<Vec<_>>().into_iter()
    }

    fn is_listed(&self, key: &ObjectKey) -> bool {
        self.watches.iter().any(|watch| watch.is_listed && watch.scope.may_have(key))
    }
}

fn is_namespaced(kind: Kind) -> bool {
    !matches!(kind, Kind::IngressClass | Kind::Namespace)
}

#[cfg(test)]
mod tests;
