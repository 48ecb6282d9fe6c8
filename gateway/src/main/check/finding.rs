//! What is wrong with manifests, one by one.

use std::fmt;
use std::path::Path;

use serde::Serialize;
use translate::{Problem, Reason, Severity};

use super::super::manifests::Loaded;
use super::places::Places;

/// Something to say, with its place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Finding {
    file: String,
    line: usize,
    severity: Severity,
    /// Empty when it is about no known object.
    object: String,
    reason: Reason,
    field: String,
    message: String,
}

/// All that there is to say about manifests, sorted by place.
pub(super) fn all(loaded: &Loaded, places: &Places<'_>) -> Vec<Finding> {
    let Loaded { batch, translator, .. } = loaded;
    let mut findings: Vec<Finding> = batch
        .reports
        .iter()
        .map(|report| Finding::new(&report.place.path, report.place.line, String::new(), &report.problem))
        .collect();
    for key in translator.reported() {
        let Some(place) = places.of(&key) else { continue };
        for problem in translator.problems(&key) {
            let line = places.line_of(place, &problem.field);
            findings.push(Finding::new(&place.path, line, key.to_string(), &problem));
        }
    }
    findings.sort();
    findings
}

impl Finding {
    fn new(path: &Path, line: usize, object: String, problem: &Problem) -> Self {
        let Problem { severity, reason, field, message } = problem.clone();
        Self { file: path.display().to_string(), line, severity, object, reason, field, message }
    }

    /// Whether something does not work.
    pub(super) fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, severity, object, reason, field: _, message } = self;
        write!(f, "{file}:{line}: {severity}: ")?;
        if !object.is_empty() {
            write!(f, "{object}: ")?;
        }
        write!(f, "{message} [{reason:?}]")
    }
}
