//! `gateway check`: what `nginx -t` is for nginx.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use controller_sync::source::Place;
use controller_sync::source::locate::Positions;
use serde::Serialize;
use translate::resources::ObjectKey;
use translate::{Change, Problem, Reason, Severity};

use super::flags::{CheckFlags, OutputFlag};
use super::manifests::{self, Loaded};

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

/// Runs the command: 0 when there is no error, 1 when there is, 2 for bad usage.
pub(crate) fn check(flags: &CheckFlags) -> anyhow::Result<ExitCode> {
    let loaded = manifests::load(&flags.paths, &flags.meaning)?;
    let findings = findings(&loaded);
    let mut output = std::io::stdout().lock();
    let written = match flags.output {
        OutputFlag::Json => serde_json::to_writer_pretty(&mut output, &findings)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(output)),
        OutputFlag::Text => print(&findings, &loaded, &mut output),
    };
    // Whoever closed the pipe has seen enough.
    let _ = written;
    Ok(if findings.iter().any(Finding::is_error) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// All that there is to say about manifests, sorted by place.
pub(crate) fn findings(loaded: &Loaded) -> Vec<Finding> {
    let Loaded { batch, translator, .. } = loaded;
    let places: BTreeMap<ObjectKey, &Place> = batch
        .changes
        .iter()
        .filter_map(|(change, place)| match change {
            Change::Apply(resource, _) => Some((resource.key(), place.as_ref()?)),
            Change::Refuse(key, _) => Some((key.clone(), place.as_ref()?)),
            Change::Remove(_) => None,
        })
        .collect();
    let files: BTreeMap<&Path, Vec<u8>> =
        places.values().map(|place| (&*place.path, std::fs::read(&place.path).unwrap_or_default())).collect();
    let positions: BTreeMap<&Path, Positions<'_>> =
        files.iter().map(|(path, file)| (*path, Positions::new(file))).collect();
    let mut findings: Vec<Finding> = batch
        .reports
        .iter()
        .map(|report| finding(&report.place.path, report.place.line, String::new(), &report.problem))
        .collect();
    for key in translator.reported() {
        let Some(place) = places.get(&key) else { continue };
        for problem in translator.problems(&key) {
            let line = positions
                .get(&*place.path)
                .map_or(place.line, |positions| positions.line_of(place.line, place.item, &problem.field));
            findings.push(finding(&place.path, line, key.to_string(), &problem));
        }
    }
    findings.sort();
    findings
}

fn finding(path: &Path, line: usize, object: String, problem: &Problem) -> Finding {
    let Problem { severity, reason, field, message } = problem.clone();
    Finding { file: path.display().to_string(), line, severity, object, reason, field, message }
}

fn print(findings: &[Finding], loaded: &Loaded, output: &mut impl std::io::Write) -> std::io::Result<()> {
    for finding in findings {
        writeln!(output, "{finding}")?;
    }
    let n_errors = findings.iter().filter(|finding| finding.is_error()).count();
    let n_objects = loaded.batch.changes.len();
    writeln!(output, "{n_objects} objects, {n_errors} errors, {} warnings", findings.len() - n_errors)
}

impl Finding {
    /// Whether something does not work.
    pub(crate) fn is_error(&self) -> bool {
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
