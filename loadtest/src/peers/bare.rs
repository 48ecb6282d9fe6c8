//! The bare Pingora proxy, which is this program.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::Setting;
use crate::process::{self, Process};

/// The version that Cargo.toml pins.
pub(super) const VERSION: &str = "Pingora 0.9.1";

pub(super) fn start(program: &Path, setting: &Setting<'_>) -> anyhow::Result<(Process, SocketAddr)> {
    let address = process::free_address()?;
    let mut command = Command::new(program);
    command.arg("bare");
    command.args(["--listen", &address.to_string()]);
    command.args(["--upstream", &setting.upstream.to_string()]);
    command.args(["--threads", &setting.threads.to_string()]);
    Ok((Process::start("bare", command, setting.directory)?, address))
}
