//! Which file holds which object, and what follows for everybody else when a file changes.
//!
//! Of several files that hold one object the first in the order of their paths owns it. The others wait: when the owner
//! goes, the next one takes over in the same batch. What was told is not kept here, so a file that lost an object to
//! another one is read again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use routing::packed::{Wear, repack};
use translate::resources::{ObjectKey, Resource};
use translate::{Change, Problem, Reason};

use crate::source::manifest::{Located, Manifest, Object, UnknownKind};
use crate::source::recall::Unread;
use crate::source::{Batch, Faults, Place, Report};

/// What has become of a file.
#[derive(Debug)]
pub(super) enum Reading {
    /// It was read. The hash is that of its bytes.
    Read { hash: u128, manifest: Manifest },
    /// It is there and cannot be read: what it held stays.
    Unreadable(Problem),
    /// It is not there any more.
    Gone,
}

/// What has become of several files and is not told yet, and since when that is known.
pub(super) type Readings = BTreeMap<Arc<Path>, (Reading, Instant)>;

/// The files and their objects.
#[derive(Default)]
pub(super) struct Holdings {
    files: BTreeMap<Arc<Path>, File>,
    claims: BTreeMap<Arc<ObjectKey>, Claim>,
    /// The sum over all files.
    faults: Faults,
    wear: Wear,
}

#[derive(Default)]
struct File {
    /// The bytes that were read; `None` when they have to be read again in any case.
    hash: Option<u128>,
    /// Sorted.
    keys: Vec<Arc<ObjectKey>>,
    /// What there is to say about the file alone.
    reports: Vec<Report>,
    /// What was last said about it.
    told: Vec<Report>,
    /// What cannot be read of it.
    fault: Faults,
    /// The objects that it may still hold in another version than the one that was told.
    unread: Box<[Arc<ObjectKey>]>,
}

/// An object, and who holds it: by path, the first one owns it.
#[derive(Default)]
struct Claim {
    holders: Vec<Holder>,
    is_told: bool,
}

struct Holder {
    place: Place,
    digest: u64,
    state: State,
}

/// How a version of an object stands to what was told.
enum State {
    /// It is what was told last.
    Live,
    /// It is not told.
    Waiting(Box<Change>),
    /// It was told, but another one has been told since: it has to be read again.
    Displaced,
}

/// What a commit touched.
#[derive(Default)]
struct Touched {
    /// The objects, and the places that they left.
    keys: BTreeMap<Arc<ObjectKey>, Option<Place>>,
    /// Files about which there may be something else to say.
    files: BTreeSet<Arc<Path>>,
    /// Files that were read: what there is to say about them is said again.
    read: BTreeSet<Arc<Path>>,
}

impl Holdings {
    /// The files that are known.
    pub(super) fn files(&self) -> impl Iterator<Item = &Arc<Path>> {
        self.files.keys()
    }

    /// Whether anything is known about the file.
    pub(super) fn knows(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    /// Whether the file is known to hold any object.
    pub(super) fn holds_objects(&self, path: &Path) -> bool {
        self.files.get(path).is_some_and(|file| !file.keys.is_empty())
    }

    /// Whether the file is known with these bytes.
    pub(super) fn is_same(&self, path: &Path, hash: u128) -> bool {
        self.files.get(path).is_some_and(|file| file.hash == Some(hash))
    }

    /// Whether the last reading of the file came to nothing.
    pub(super) fn is_unreadable(&self, path: &Path) -> bool {
        self.files.get(path).is_some_and(|file| file.hash.is_none())
    }

    /// Since when it is known that an object would be gone after these readings; `None` when none would.
    pub(super) fn losing_since(&self, readings: &Readings) -> Option<Instant> {
        let keys = readings.values().filter_map(|(reading, _)| match reading {
            Reading::Read { manifest, .. } => Some(manifest.objects.iter().map(|object| &object.key)),
            Reading::Unreadable(_) | Reading::Gone => None,
        });
        let kept: HashSet<&ObjectKey> = keys.flatten().collect();
        let lets_go = |path: &Arc<Path>| match readings.get(path) {
            Some((Reading::Read { manifest, .. }, _)) => !manifest.has_gaps,
            Some((Reading::Gone, _)) => true,
            Some((Reading::Unreadable(_), _)) | None => false,
        };
        let is_lost = |key: &Arc<ObjectKey>| {
            let holders = self.claims.get(key).map(|claim| claim.holders.as_slice()).unwrap_or_default();
            !kept.contains(&**key) && holders.iter().all(|holder| lets_go(&holder.place.path))
        };
        let loses = |path: &Arc<Path>| self.files.get(path).is_some_and(|file| file.keys.iter().any(is_lost));
        readings.iter().filter(|(path, _)| lets_go(path) && loses(path)).map(|(_, (_, since))| *since).max()
    }

    /// Takes the readings in. Returns what follows, and the files that must be read again for what they hold.
    pub(super) fn commit(
        &mut self,
        readings: impl IntoIterator<Item = (Arc<Path>, Reading)>,
    ) -> (Batch, BTreeSet<Arc<Path>>) {
        let mut touched = Touched::default();
        for (path, reading) in readings {
            match reading {
                Reading::Read { hash, manifest } => {
                    self.put(&path, hash, manifest, &mut touched);
                    touched.read.insert(path);
                }
                Reading::Unreadable(problem) => {
                    let place = Place { path: Arc::clone(&path), line: 1, item: None };
                    let file = self.files.entry(Arc::clone(&path)).or_default();
                    file.hash = None;
                    file.reports = vec![Report { place, problem }];
                    file.unread = file.keys.iter().map(Arc::clone).collect();
                    self.faults.replace(&mut file.fault, Faults { n_files: 1, n_objects: file.keys.len() });
                    touched.read.insert(path);
                }
                Reading::Gone => {
                    let Some(mut file) = self.files.remove(&path) else { continue };
                    self.faults.replace(&mut file.fault, Faults::default());
                    self.let_go(&path, file.keys, &mut touched);
                    if !file.told.is_empty() {
                        touched.files.insert(path);
                    }
                }
            }
        }
        let mut batch = Batch::default();
        let mut missing = BTreeSet::new();
        for (key, left) in std::mem::take(&mut touched.keys) {
            self.settle(&key, left, &mut batch, &mut missing, &mut touched.files);
        }
        for path in &missing {
            if let Some(file) = self.files.get_mut(path) {
                file.hash = None;
            }
        }
        self.tell(&touched, &mut batch);
        if self.wear.is_due(touched.read.len() + touched.files.len(), self.files.len()) {
            repack(&mut self.files);
            repack(&mut self.claims);
        }
        batch.faults = self.faults;
        (batch, missing)
    }

    /// The objects whose newest versions cannot be read, each with the file that owns it.
    pub(super) fn unread(&self) -> Vec<Unread> {
        let owns = |path: &Arc<Path>, key: &Arc<ObjectKey>| {
            self.claims.get(key).and_then(|claim| claim.holders.first()).is_some_and(|owner| owner.place.path == *path)
        };
        let all = self.files.iter().flat_map(|(path, file)| file.unread.iter().map(move |key| (path, key)));
        let owned = all.filter(|(path, key)| owns(path, key));
        owned.map(|(path, key)| Unread { key: ObjectKey::clone(key), file: path.to_path_buf() }).collect()
    }

    /// Goes on with versions that were good with another process: of objects that are there, where the receiver finds out
    /// whether they are of use, and of objects that a file held and that may still be in what cannot be read of it.
    pub(super) fn recall(&mut self, objects: Vec<(Option<PathBuf>, Box<Resource>)>) -> Batch {
        let mut batch = Batch::default();
        for (file, resource) in objects {
            let key = resource.key();
            let place = match self.claims.get(&key) {
                Some(claim) => claim.holders.first().map(|owner| owner.place.clone()),
                None => file.and_then(|file| self.retain(&file, key)),
            };
            batch.changes.extend(place.map(|place| (Change::Recall(resource), Some(place))));
        }
        batch.faults = self.faults;
        batch
    }

    /// Takes an object for one of those that a file may still hold; `None` when there is no such file, or when all of it
    /// was read: then the object is gone.
    fn retain(&mut self, path: &Path, key: ObjectKey) -> Option<Place> {
        let path = Arc::clone(self.files.get_key_value(path)?.0);
        let file = self.files.get_mut(&path)?;
        if file.fault == Faults::default() {
            return None;
        }
        let key = Arc::new(key);
        let place = Place { path, line: 1, item: None };
        // Whatever is read of it later is something else.
        let holder = Holder { place: place.clone(), digest: 0, state: State::Live };
        self.claims.insert(Arc::clone(&key), Claim { holders: vec![holder], is_told: true });
        file.keys.insert(file.keys.partition_point(|other| *other < key), Arc::clone(&key));
        file.unread = file.unread.iter().cloned().chain([key]).collect();
        let fault = Faults { n_objects: file.fault.n_objects + 1, ..file.fault };
        self.faults.replace(&mut file.fault, fault);
        Some(place)
    }

    fn put(&mut self, path: &Arc<Path>, hash: u128, manifest: Manifest, touched: &mut Touched) {
        let Manifest { objects, problems, unknown, has_gaps } = manifest;
        let mut keys = Vec::with_capacity(objects.len());
        for Object { key, change, line, item, digest } in objects {
            let key = Arc::new(key);
            // The key of a claim is shared by everybody who speaks of it.
            let known = self.claims.get_key_value(&key).map(|(key, _)| Arc::clone(key));
            let key = known.unwrap_or(key);
            let place = Place { path: Arc::clone(path), line, item };
            let claim = self.claims.entry(Arc::clone(&key)).or_default();
            claim.put(Holder { place, digest, state: State::Waiting(Box::new(change)) });
            touched.keys.entry(Arc::clone(&key)).or_default();
            keys.push(key);
        }
        keys.sort_unstable();
        let file = self.files.entry(Arc::clone(path)).or_default();
        let mut gone = std::mem::take(&mut file.keys);
        gone.retain(|key| keys.binary_search(key).is_err());
        let mut fault = Faults::default();
        file.unread = Box::default();
        if has_gaps {
            // What is not found may be in the documents that cannot be read.
            fault = Faults { n_files: 1, n_objects: gone.len() };
            file.unread = gone.iter().map(Arc::clone).collect();
            keys.append(&mut gone);
            keys.sort_unstable();
        }
        self.faults.replace(&mut file.fault, fault);
        file.hash = Some(hash);
        file.keys = keys;
        file.reports = problems.into_iter().map(|located| report(path, located)).collect();
        file.reports.extend(unknown.into_iter().map(|located| report(path, unknown_kind(located))));
        self.let_go(path, gone, touched);
    }

    fn let_go(&mut self, path: &Arc<Path>, keys: Vec<Arc<ObjectKey>>, touched: &mut Touched) {
        for key in keys {
            let left = self.claims.get_mut(&key).and_then(|claim| claim.take(path)).map(|holder| holder.place);
            touched.keys.insert(key, left);
        }
    }

    /// Tells what has become of an object.
    fn settle(
        &mut self,
        key: &Arc<ObjectKey>,
        left: Option<Place>,
        batch: &mut Batch,
        missing: &mut BTreeSet<Arc<Path>>,
        files: &mut BTreeSet<Arc<Path>>,
    ) {
        let Some(claim) = self.claims.get_mut(key) else { return };
        files.extend(claim.holders.iter().map(|holder| Arc::clone(&holder.place.path)));
        let Some((owner, waiting)) = claim.holders.split_first_mut() else {
            let is_told = claim.is_told;
            self.claims.remove(key);
            batch
                .changes
                .extend(left.filter(|_| is_told).map(|place| (Change::Remove(ObjectKey::clone(key)), Some(place))));
            return;
        };
        if let State::Waiting(_) = owner.state {
            if let State::Waiting(change) = std::mem::replace(&mut owner.state, State::Live) {
                batch.changes.push((*change, Some(owner.place.clone())));
            }
            claim.is_told = true;
            for holder in waiting.iter_mut().filter(|holder| matches!(holder.state, State::Live)) {
                holder.state = State::Displaced;
            }
        }
        let displaced = claim.holders.iter().filter(|holder| matches!(holder.state, State::Displaced));
        missing.extend(displaced.map(|holder| Arc::clone(&holder.place.path)));
    }

    /// Says what there is to say about the files that were touched.
    fn tell(&mut self, touched: &Touched, batch: &mut Batch) {
        for path in touched.files.union(&touched.read) {
            let mut reports = self.duplicates(path);
            let Some(file) = self.files.get_mut(path) else {
                batch.files.push(Arc::clone(path));
                continue;
            };
            reports.extend(file.reports.iter().cloned());
            reports.sort();
            let told = std::mem::replace(&mut file.told, reports.clone());
            if told != reports || (touched.read.contains(path) && !reports.is_empty()) {
                batch.files.push(Arc::clone(path));
                batch.reports.extend(reports);
            }
        }
    }

    /// The objects of a file that another file owns.
    fn duplicates(&self, path: &Arc<Path>) -> Vec<Report> {
        let keys = self.files.get(path).into_iter().flat_map(|file| &file.keys);
        let waits = |key: &Arc<ObjectKey>| {
            let (owner, waiting) = self.claims.get(key)?.holders.split_first()?;
            let holder = waiting.iter().find(|holder| holder.place.path == *path)?;
            let message = format_args!("{key} is in {} too, which counts", owner.place).to_string();
            Some(Report { place: holder.place.clone(), problem: Problem::error(Reason::Duplicate, "", message) })
        };
        keys.filter_map(waits).collect()
    }
}

impl Faults {
    /// Puts what is true of one file now in the place of what was, in a sum over all files.
    fn replace(&mut self, before: &mut Self, now: Self) {
        self.n_files = self.n_files - before.n_files + now.n_files;
        self.n_objects = self.n_objects - before.n_objects + now.n_objects;
        *before = now;
    }
}

impl Claim {
    /// Puts a version in the place of the one that its file held before.
    fn put(&mut self, holder: Holder) {
        let at = self.holders.partition_point(|other| other.place.path < holder.place.path);
        match self.holders.get_mut(at).filter(|other| other.place.path == holder.place.path) {
            Some(other) => {
                let is_same = other.place == holder.place && other.digest == holder.digest;
                if !(is_same && matches!(other.state, State::Live)) {
                    *other = holder;
                }
            }
            None => {
                // Nearly every object is in one file.
                self.holders.reserve_exact(1);
                self.holders.insert(at, holder);
            }
        }
    }

    fn take(&mut self, path: &Arc<Path>) -> Option<Holder> {
        let at = self.holders.iter().position(|holder| holder.place.path == *path)?;
        Some(self.holders.remove(at))
    }
}

fn report(path: &Arc<Path>, located: Located<Problem>) -> Report {
    let Located { line, item, value } = located;
    Report { place: Place { path: Arc::clone(path), line, item }, problem: value }
}

fn unknown_kind(located: Located<UnknownKind>) -> Located<Problem> {
    let Located { line, item, value: UnknownKind { api_version, kind } } = located;
    let message = format_args!("{kind} of {api_version} is not known here and has no effect").to_string();
    Located { line, item, value: Problem::warning(Reason::KindUnknown, "kind", message) }
}
