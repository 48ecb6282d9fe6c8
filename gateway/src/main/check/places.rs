//! Where objects are: files are read once, and each is parsed for its lines when something in it is looked for.

use std::collections::BTreeMap;
use std::path::Path;

use controller_sync::source::Place;
use controller_sync::source::locate::{Entry, Positions};
use translate::Change;
use translate::resources::ObjectKey;

use super::super::manifests::Loaded;

/// The files that objects are in.
pub(super) struct Files<'a>(BTreeMap<&'a Path, Vec<u8>>);

/// The places of objects.
pub(super) struct Places<'a> {
    objects: BTreeMap<ObjectKey, &'a Place>,
    positions: BTreeMap<&'a Path, Positions<'a>>,
}

// === impl Files ===

impl<'a> Files<'a> {
    /// Reads them again: what has gone meanwhile has no lines.
    pub(super) fn of(loaded: &'a Loaded) -> Self {
        let paths = loaded.batch.changes.iter().filter_map(|(_, place)| Some(&*place.as_ref()?.path));
        Self(paths.map(|path| (path, std::fs::read(path).unwrap_or_default())).collect())
    }
}

// === impl Places ===

impl<'a> Places<'a> {
    pub(super) fn new(loaded: &'a Loaded, files: &'a Files<'a>) -> Self {
        let objects = loaded.batch.changes.iter().filter_map(|(change, place)| {
            let key = match change {
                Change::Apply(resource, _) => resource.key(),
                Change::Refuse(key, _) => key.clone(),
                Change::Recall(_) | Change::Remove(_) => return None,
            };
            Some((key, place.as_ref()?))
        });
        let positions = files.0.iter().map(|(path, file)| (*path, Positions::new(file))).collect();
        Self { objects: objects.collect(), positions }
    }

    /// The place of an object.
    pub(super) fn of(&self, key: &ObjectKey) -> Option<&'a Place> {
        self.objects.get(key).copied()
    }

    /// The line of a field of the object at a place.
    pub(super) fn line_of(&self, place: &Place, field: &str) -> usize {
        let positions = self.positions.get(&*place.path);
        positions.map_or(place.line, |positions| positions.line_of(place.line, place.item, field))
    }

    /// The keys and values of a field of the object at a place.
    pub(super) fn entries_of(&self, place: &Place, field: &str) -> Vec<Entry> {
        let positions = self.positions.get(&*place.path);
        positions.map(|positions| positions.entries_of(place.line, place.item, field)).unwrap_or_default()
    }
}
