//! Tells authors what became of their objects: a line in the log with file and line, when it becomes true.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use routing::packed::{Wear, repack};
use translate::resources::ObjectKey;
use translate::{Change, Problem, Reason, Severity, Translator};

use crate::source::locate::Positions;
use crate::source::{Batch, Place, Report};

/// Knows where objects are, and what was told about them already.
#[derive(Default)]
pub(crate) struct Reporter {
    places: BTreeMap<ObjectKey, Place>,
    told: BTreeMap<ObjectKey, Vec<Problem>>,
    told_of_files: BTreeMap<Arc<Path>, BTreeSet<Report>>,
    /// Unknown kinds are named once, however many objects of them there are.
    told_of_kinds: BTreeSet<String>,
    wear: Wear,
}

impl Reporter {
    /// Remembers the places of a batch, and tells what it says about files.
    pub(crate) fn take(&mut self, batch: &Batch) {
        for (change, place) in &batch.changes {
            match (change, place) {
                (Change::Apply(resource, _) | Change::Recall(resource), Some(place)) => {
                    self.places.insert(resource.key(), place.clone())
                }
                (Change::Refuse(key, _), Some(place)) => self.places.insert(key.clone(), place.clone()),
                (Change::Remove(key), _) => self.places.remove(key),
                (Change::Apply(..) | Change::Refuse(..) | Change::Recall(_), None) => None,
            };
        }
        if self.wear.is_due(batch.changes.len(), self.places.len()) {
            repack(&mut self.places);
        }
        for path in &batch.files {
            let reports = batch.reports.iter().filter(|report| report.place.path == *path).cloned();
            let reports: BTreeSet<Report> = reports.collect();
            let told = self.told_of_files.remove(path).unwrap_or_default();
            for Report { place, problem } in reports.difference(&told) {
                if problem.reason == Reason::KindUnknown && !self.told_of_kinds.insert(problem.message.clone()) {
                    continue;
                }
                log(None, Some(&place.to_string()), problem);
            }
            if !reports.is_empty() {
                self.told_of_files.insert(Arc::clone(path), reports);
            }
        }
    }

    /// Tells what is new about the objects that a change touched, and returns it. What is another controller's is its
    /// users' business.
    pub(crate) fn report(
        &mut self,
        translator: &Translator,
        touched: &BTreeSet<ObjectKey>,
        is_foreign: impl Fn(&ObjectKey) -> bool,
    ) -> BTreeMap<ObjectKey, Vec<Problem>> {
        let mut new: BTreeMap<ObjectKey, Vec<Problem>> = BTreeMap::new();
        for key in touched.iter().filter(|key| !is_foreign(key)) {
            let problems = translator.problems(key);
            let told = self.told.remove(key).unwrap_or_default();
            for problem in problems.iter().filter(|problem| !told.contains(problem)) {
                let place = self.places.get(key).map(|place| located(place, &problem.field));
                log(Some(key), place.as_deref(), problem);
                new.entry(key.clone()).or_default().push(problem.clone());
            }
            if !problems.is_empty() {
                self.told.insert(key.clone(), problems);
            }
        }
        new
    }
}

/// File and line of a field. The file is read again: lines are asked for seldom, and keeping them would cost memory for
/// every object.
fn located(place: &Place, field: &str) -> String {
    match std::fs::read(&place.path) {
        Ok(file) => {
            let line = Positions::new(&file).line_of(place.line, place.item, field);
            format!("{}:{line}", place.path.display())
        }
        Err(_) => place.to_string(),
    }
}

fn log(key: Option<&ObjectKey>, place: Option<&str>, problem: &Problem) {
    let object = key.map(ToString::to_string).unwrap_or_default();
    let place = place.unwrap_or_default();
    match problem.severity {
        Severity::Error => tracing::error!(%object, %place, reason = ?problem.reason, "{problem}"),
        Severity::Warning => tracing::warn!(%object, %place, reason = ?problem.reason, "{problem}"),
    }
}
