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
    /// Where it serves HTTPS.
    pub(crate) https: SocketAddr,
    /// Where its metrics are.
    pub(crate) status: SocketAddr,
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
        Self::launch(Command::new(program), directory, log_directory, flags)
    }

    /// The same as the child of `gateway supervise`, which lives as long as a successor does.
    pub(crate) fn supervised(
        program: &Path,
        directory: &Path,
        log_directory: &Path,
        flags: &[String],
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(["supervise", "--"]);
        Self::launch(command, directory, log_directory, flags)
    }

    fn launch(mut command: Command, directory: &Path, log_directory: &Path, flags: &[String]) -> anyhow::Result<Self> {
        let [address, https, status, admin] = [(); 4].map(|()| process::free_address());
        let (address, https, status) = (address?, https?, status?);
        command.arg("run").arg("--manifests").arg(directory);
        command.args(["--http", &address.to_string(), "--https", &https.to_string()]);
        command.args(["--status", &status.to_string(), "--admin", &admin?.to_string()]);
        for (flag, value) in [("--lame-duck", "0s"), ("--drain-timeout", "1s")] {
            if !flags.iter().any(|given| given.starts_with(flag)) {
                command.args([flag, value]);
            }
        }
        command.args(flags);
        Ok(Self { process: Process::start("gateway", command, log_directory)?, address, https, status })
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
