//! `gateway translate`: what manifests are translated to.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use controller_sync::source::{directory, manifest};
use serde_json::Value;
use translate::ingress::version;

use super::check;
use super::flags::{TargetFlag, TranslateFlags};
use super::manifests;

/// Runs the command: 0 when there is no error, 1 when there is, 2 for bad usage. What is not in error is printed.
pub(crate) fn translate(flags: &TranslateFlags) -> anyhow::Result<ExitCode> {
    let loaded = manifests::load(&flags.paths, &flags.meaning)?;
    let text = match flags.to {
        TargetFlag::Model => serde_saphyr::to_string(loaded.publisher.model())?,
        TargetFlag::CurrentIngress => current(flags)?,
    };
    let mut output = std::io::stdout().lock();
    // Whoever closed the pipe has seen enough.
    let _ = output.write_all(text.as_bytes());
    let mut code = ExitCode::SUCCESS;
    for error in check::errors(&loaded) {
        eprintln!("{error}");
        code = ExitCode::FAILURE;
    }
    Ok(code)
}

/// Every document, with Ingresses in their current version and the rest as it is.
fn current(flags: &TranslateFlags) -> anyhow::Result<String> {
    let mut text = String::new();
    for path in directory::files(&flags.paths)? {
        let file = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        // Documents without a value are among the findings.
        for mut value in manifest::values(&file).flatten() {
            match value.get_mut("items").and_then(Value::as_array_mut) {
                Some(items) => items.iter_mut().for_each(upgrade),
                None => upgrade(&mut value),
            }
            text.push_str("---\n");
            text.push_str(&serde_saphyr::to_string(&value)?);
        }
    }
    Ok(text)
}

fn upgrade(value: &mut Value) {
    let is_ingress = value.get("kind").and_then(Value::as_str) == Some("Ingress");
    if is_ingress {
        version::upgrade(value, &mut Vec::new());
    }
}
