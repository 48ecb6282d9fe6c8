//! The programs of this workspace, and tools below `.tools`, which git ignores.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// The program of this process, which is also the bare proxy and the upstream.
pub(crate) fn own_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("find this program")
}

/// Builds the gateway in release mode and returns its program.
pub(crate) fn build_gateway() -> anyhow::Result<PathBuf> {
    if cfg!(debug_assertions) {
        bail!("figures of a debug build mean nothing: use `cargo run --release -p loadtest`");
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // Both packages are named, so that cargo takes the dependencies that were built for this program.
    command.args(["build", "--release", "--package", "gateway", "--package", "loadtest", "--bin", "gateway"]);
    command.current_dir(root());
    // This program is in `release` below the directory of targets, wherever that is.
    let own = own_program()?;
    if let Some(target) = own.ancestors().nth(2) {
        command.arg("--target-dir").arg(target);
    }
    // What `cargo run` says about this package would make cargo build again what depends on such variables.
    for (variable, _) in std::env::vars_os() {
        let is_of_package = ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|prefix| variable.to_str().is_some_and(|variable| variable.starts_with(prefix)));
        if is_of_package {
            command.env_remove(variable);
        }
    }
    let status = command.status().context("start cargo")?;
    if !status.success() {
        bail!("cargo cannot build the gateway");
    }
    Ok(own.with_file_name("gateway"))
}

/// Builds the programs of a Kubernetes, unless they are there.
pub(crate) fn build_cluster() -> anyhow::Result<()> {
    let status = Command::new(root().join("tests/cluster/build")).stdout(Stdio::null()).status();
    if !status.context("start tests/cluster/build")?.success() {
        bail!("tests/cluster/build cannot build an API server");
    }
    Ok(())
}

/// A directory for a tool.
pub(crate) fn tool_directory(name: &str) -> PathBuf {
    root().join(".tools").join(name)
}

fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}
