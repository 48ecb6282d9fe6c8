//! What becomes of each Ingress and of its annotations. What is said of an annotation is what the translation says: this
//! only puts it beside the annotation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use controller_sync::source::Place;
use serde::Serialize;
use translate::ingress::annotations::{difference, recognized};
use translate::resources::{Kind, ObjectKey};
use translate::{Change, Problem, Reason};

use super::super::manifests::Loaded;
use super::places::Places;

/// The field that holds annotations.
const ANNOTATIONS: &str = "metadata.annotations";

/// What becomes of an Ingress.
#[derive(Debug, Serialize)]
pub(super) struct IngressReport {
    pub(super) file: String,
    pub(super) line: usize,
    /// Namespace and name.
    pub(super) ingress: String,
    standing: Standing,
    /// Those under our prefixes, in the order of the file; none where another controller reads them.
    pub(super) annotations: Vec<AnnotationReport>,
}

/// Whether an Ingress is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Standing {
    /// As far as nothing else is said.
    Served,
    /// It cannot be read.
    Refused,
    /// Its class is that of another controller.
    NotServed,
}

/// What becomes of an annotation.
#[derive(Debug, Serialize)]
pub(super) struct AnnotationReport {
    /// With its prefix, as it is written.
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) state: State,
    /// Why it is in a state other than done.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What it does otherwise than in ingress-nginx.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) differs: Option<&'static str>,
}

/// What becomes of an annotation, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// It works.
    Done,
    /// It has no effect, or not the whole one.
    Warns,
    /// It closes the paths of the Ingress, or its hosts, with 503.
    Denies,
    /// Its value cannot be read, and the Ingress is refused for it.
    Refused,
}

/// Every Ingress, sorted by place.
pub(super) fn all(loaded: &Loaded, places: &Places<'_>) -> Vec<IngressReport> {
    let keys = loaded.batch.changes.iter().map(|(change, _)| match change {
        Change::Apply(resource, _) | Change::Recall(resource) => (resource.key(), false),
        Change::Refuse(key, _) | Change::Remove(key) => (key.clone(), true),
    });
    let keys: BTreeMap<ObjectKey, bool> = keys.filter(|(key, _)| key.kind == Kind::Ingress).collect();
    let report = |(key, is_refused): (ObjectKey, bool)| Some(of(loaded, places, places.of(&key)?, &key, is_refused));
    let mut reports: Vec<IngressReport> = keys.into_iter().filter_map(report).collect();
    reports.sort_by(|a, b| (&a.file, a.line, &a.ingress).cmp(&(&b.file, b.line, &b.ingress)));
    reports
}

fn of(loaded: &Loaded, places: &Places<'_>, place: &Place, key: &ObjectKey, is_refused: bool) -> IngressReport {
    let problems = loaded.translator.problems(key);
    let is_foreign = problems.iter().any(|problem| problem.reason == Reason::ClassNotServed);
    let standing = match (is_refused, is_foreign) {
        (true, _) => Standing::Refused,
        (false, true) => Standing::NotServed,
        (false, false) => Standing::Served,
    };
    IngressReport {
        file: place.path.display().to_string(),
        line: places.line_of(place, ""),
        ingress: key.namespaced_name().to_string(),
        standing,
        annotations: match standing {
            Standing::NotServed => Vec::new(),
            Standing::Served | Standing::Refused => annotations(loaded, places, place, &problems),
        },
    }
}

fn annotations(loaded: &Loaded, places: &Places<'_>, place: &Place, problems: &[Problem]) -> Vec<AnnotationReport> {
    let entries = places.entries_of(place, ANNOTATIONS);
    let prefixes = &loaded.translator.config().annotation_prefixes;
    let texts: BTreeMap<String, String> =
        entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
    let names: BTreeMap<&str, &str> = recognized(&texts, prefixes).map(|(key, name, _)| (key, name)).collect();
    let prefixes: BTreeSet<&str> = prefixes.iter().map(String::as_str).collect();
    let ours = entries.iter().filter(|entry| entry.key.split_once('/').is_some_and(|(p, _)| prefixes.contains(p)));
    ours.map(|entry| {
        let (state, reason, differs) = match names.get(entry.key.as_str()) {
            Some(name) => {
                let (state, reason) = state_of(&entry.key, name, problems);
                (state, reason, difference(name).filter(|_| state == State::Done))
            }
            None => (State::Warns, Some("another annotation of the same meaning goes before it".to_owned()), None),
        };
        AnnotationReport { name: entry.key.clone(), line: entry.line, state, reason, differs }
    })
    .collect()
}

/// The worst that is said about an annotation.
fn state_of(key: &str, name: &str, problems: &[Problem]) -> (State, Option<String>) {
    let is_about = |problem: &&Problem| {
        let inner = problem.field.strip_prefix(ANNOTATIONS).unwrap_or_default();
        let inner = inner.strip_prefix('.').or_else(|| inner.strip_prefix('[')?.strip_suffix(']'));
        inner.is_some_and(|inner| inner == key || inner == name)
    };
    let states = problems.iter().filter(is_about).map(|problem| {
        let state = match problem.reason {
            Reason::Denied => State::Denies,
            Reason::AnnotationParsingFailed | Reason::Malformed => State::Refused,
            _ => State::Warns,
        };
        (state, Some(problem.message.clone()))
    });
    states.max_by_key(|(state, _)| *state).unwrap_or((State::Done, None))
}

impl AnnotationReport {
    /// Its name without prefix.
    pub(super) fn short_name(&self) -> &str {
        self.name.split_once('/').map_or(&self.name, |(_, name)| name)
    }
}

impl fmt::Display for IngressReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, ingress, standing, annotations } = self;
        write!(f, "{file}:{line}: Ingress {ingress}")?;
        if *standing == Standing::Refused {
            f.write_str(" is refused")?;
        }
        let mut separator = ": ";
        let states =
            [("done", State::Done), ("denied", State::Denies), ("warned", State::Warns), ("refused", State::Refused)];
        let mut list = |f: &mut fmt::Formatter<'_>, word: &str, names: &[&str]| -> fmt::Result {
            if !names.is_empty() {
                write!(f, "{separator}{word} {}", names.join(", "))?;
                separator = "; ";
            }
            Ok(())
        };
        for (word, state) in states {
            let names: Vec<&str> =
                annotations.iter().filter(|one| one.state == state).map(AnnotationReport::short_name).collect();
            list(f, word, &names)?;
        }
        let differing: Vec<&str> =
            annotations.iter().filter(|one| one.differs.is_some()).map(AnnotationReport::short_name).collect();
        list(f, "differs", &differing)
    }
}
