//! `gateway check`: what `nginx -t` is for nginx, and what becomes of Ingresses that were written for ingress-nginx.

mod finding;
mod ingress;
mod places;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use serde::Serialize;

use self::finding::Finding;
use self::ingress::{IngressReport, State};
use self::places::{Files, Places};
use super::flags::{CheckFlags, OutputFlag};
use super::manifests::{self, Loaded};

/// All that there is to say about manifests. Its form as JSON is a promise: see `docs/check.md`.
#[derive(Serialize)]
struct Report {
    findings: Vec<Finding>,
    ingresses: Vec<IngressReport>,
}

/// Runs the command: 0 when there is no error, 1 when there is, 2 for bad usage.
pub(crate) fn check(flags: &CheckFlags) -> anyhow::Result<ExitCode> {
    let loaded = manifests::load(&flags.paths, &flags.meaning)?;
    let files = Files::of(&loaded);
    let places = Places::new(&loaded, &files);
    let report = Report { findings: finding::all(&loaded, &places), ingresses: ingress::all(&loaded, &places) };
    let mut output = std::io::stdout().lock();
    let written = match flags.output {
        OutputFlag::Json => serde_json::to_writer_pretty(&mut output, &report)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(output)),
        OutputFlag::Text => print(&report, loaded.batch.changes.len(), &mut output),
    };
    // Whoever closed the pipe has seen enough.
    let _ = written;
    Ok(if report.findings.iter().any(Finding::is_error) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The errors of manifests, sorted by place.
pub(crate) fn errors(loaded: &Loaded) -> Vec<Finding> {
    let files = Files::of(loaded);
    let mut findings = finding::all(loaded, &Places::new(loaded, &files));
    findings.retain(Finding::is_error);
    findings
}

fn print(report: &Report, n_objects: usize, output: &mut impl Write) -> std::io::Result<()> {
    let Report { findings, ingresses } = report;
    for finding in findings {
        writeln!(output, "{finding}")?;
    }
    for ingress in ingresses.iter().filter(|ingress| !ingress.annotations.is_empty()) {
        writeln!(output, "{ingress}")?;
    }
    print_differences(ingresses, output)?;
    let n_errors = findings.iter().filter(|finding| finding.is_error()).count();
    let n_warnings = findings.len() - n_errors;
    writeln!(output, "{n_objects} objects, {n_errors} errors, {n_warnings} warnings")?;
    let annotations = || ingresses.iter().flat_map(|ingress| &ingress.annotations);
    let n_in = |state| annotations().filter(|annotation| annotation.state == state).count();
    writeln!(
        output,
        "{} Ingresses, {} annotations: {} done, {} denied, {} warned about, {} refused; {} differ from ingress-nginx",
        ingresses.len(),
        annotations().count(),
        n_in(State::Done),
        n_in(State::Denies),
        n_in(State::Warns),
        n_in(State::Refused),
        annotations().filter(|annotation| annotation.differs.is_some()).count(),
    )
}

/// What differs, once for each annotation, at the first place that it is found.
fn print_differences(ingresses: &[IngressReport], output: &mut impl Write) -> std::io::Result<()> {
    let mut first: BTreeMap<&str, (String, usize)> = BTreeMap::new();
    for ingress in ingresses {
        for annotation in &ingress.annotations {
            let Some(differs) = annotation.differs else { continue };
            let place = || {
                let IngressReport { file, ingress: name, .. } = ingress;
                format!("{file}:{}: differs: Ingress {name}: {}: {differs}", annotation.line, annotation.name)
            };
            first.entry(annotation.short_name()).or_insert_with(|| (place(), 0)).1 += 1;
        }
    }
    for (line, n_places) in first.into_values() {
        match n_places {
            1 => writeln!(output, "{line}")?,
            _ => writeln!(output, "{line} (and in {} more places)", n_places - 1)?,
        }
    }
    Ok(())
}
