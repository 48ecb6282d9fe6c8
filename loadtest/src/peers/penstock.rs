//! Penstock, which reads a directory of manifests.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{Setting, write};
use crate::manifests;
use crate::process::{self, Process};

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) process: Process,
    /// Where it serves HTTP.
    pub(crate) address: SocketAddr,
}

impl Gateway {
    /// Starts a gateway in its default configuration but for its addresses and for `flags`, on the manifests in
    /// `directory`. Its log is written to `log_directory`.
    pub(crate) fn start(
        program: &Path,
        directory: &Path,
        log_directory: &Path,
        flags: &[String],
    ) -> anyhow::Result<Self> {
        let [address, https, status, admin] = [(); 4].map(|()| process::free_address());
        let address = address?;
        let mut command = Command::new(program);
        command.arg("run").arg("--manifests").arg(directory);
        command.args(["--http", &address.to_string(), "--https", &https?.to_string()]);
        command.args(["--status", &status?.to_string(), "--admin", &admin?.to_string()]);
        command.args(["--lame-duck", "0s", "--drain-timeout", "1s"]);
        command.args(flags);
        Ok(Self { process: Process::start("gateway", command, log_directory)?, address })
    }
}

pub(super) fn start_proxy(
    program: &Path,
    setting: &Setting<'_>,
    flags: &[String],
) -> anyhow::Result<(Process, SocketAddr)> {
    let manifests = setting.directory.join("manifests");
    std::fs::create_dir(&manifests)?;
    let documents = [
        manifests::ingress("bench", setting.host, "bench"),
        manifests::service("bench"),
        manifests::slice("bench", setting.upstream),
    ];
    write(&manifests, "bench.yaml", &manifests::documents(&documents))?;
    let flags = [flags, &[format!("--threads={}", setting.threads)]].concat();
    let Gateway { process, address, .. } = Gateway::start(program, &manifests, setting.directory, &flags)?;
    Ok((process, address))
}
