//! nginx, as the system has it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::{Setting, write};
use crate::process::{self, Process};

const CONFIG: &str = include_str!("../../peers/nginx.conf");

pub(super) fn start(program: &Path, setting: &Setting<'_>) -> anyhow::Result<(Process, SocketAddr)> {
    let address = process::free_address()?;
    let directory = setting.directory.to_str().context("a directory with a name in UTF-8")?;
    let config = CONFIG
        .replace("DIRECTORY", directory)
        .replace("UPSTREAM", &setting.upstream.to_string())
        .replace("LISTEN", &address.to_string())
        .replace("THREADS", &setting.threads.to_string())
        .replace("HOST", setting.host);
    let config = write(setting.directory, "nginx.conf", &config)?;
    let mut command = Command::new(program);
    command.arg("-e").arg("stderr").arg("-p").arg(directory).arg("-c").arg(config);
    Ok((Process::start("nginx", command, setting.directory)?, address))
}
