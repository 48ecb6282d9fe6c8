//! Penstock, which reads a directory of manifests.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::{
    Ability, Addresses, ConfigFile, GRPC_HOST, HOST, MOVED_HOST, POOL_HOST, Proxy, Running, Setting, route_host,
};
use crate::load::certificate_host;
use crate::process::{self, Process};
use crate::tls::CertificateFiles;
use crate::{manifests, workspace};

/// The name of the socket for upgrades.
const HANDOFF: &str = "handoff";
/// Documents in a file, where there are many.
const IN_FILE: usize = 2000;

/// The gateway in its default configuration but for its addresses, and the access log if that is not wanted.
pub(super) struct Penstock {
    pub(super) has_access_log: bool,
}

impl Proxy for Penstock {
    fn program(&self) -> anyhow::Result<PathBuf> {
        workspace::build_gateway()
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["--version"]
    }

    fn config(&self, setting: &Setting<'_>, _: &Addresses, _: &Path) -> Vec<ConfigFile> {
        let moved = if setting.is_moved { "other" } else { "upstream" };
        let bench = [
            manifests::secret("tls", &setting.tls.certificate_pem, &setting.tls.key_pem),
            manifests::tls_ingress("bench", HOST, "upstream", "tls", &[("ssl-redirect", "false")]),
            manifests::tls_ingress("grpc", GRPC_HOST, "grpc", "tls", &[("backend-protocol", "GRPC")]),
            manifests::service("upstream"),
            manifests::slice("upstream", setting.upstream),
            manifests::service("other"),
            manifests::slice("other", setting.other),
            manifests::service("grpc"),
            manifests::slice("grpc", setting.grpc),
        ];
        let routes: Vec<_> = (0..setting.routes)
            .map(|number| manifests::ingress(&format!("route-{number}"), &route_host(number), "upstream"))
            .collect();
        let pool = [
            manifests::ingress("pool", POOL_HOST, "pool"),
            manifests::service("pool"),
            manifests::slices("pool", setting.pool),
        ];
        let mut files = vec![
            ConfigFile { name: "manifests/pool.yaml".into(), text: manifests::documents(&pool) },
            ConfigFile { name: "manifests/bench.yaml".into(), text: manifests::documents(&bench) },
            ConfigFile { name: "manifests/moved.yaml".into(), text: manifests::ingress("moved", MOVED_HOST, moved) },
        ];
        files.extend(many("routes", &routes));
        files.extend(many("certificates", &certified(setting)));
        files
    }

    fn command(&self, program: &Path, setting: &Setting<'_>, addresses: &Addresses, directory: &Path) -> Command {
        let mut command = Command::new(program);
        let mut flags = vec![format!("--threads={}", setting.threads)];
        if !self.has_access_log {
            flags.push("--access-log=off".to_owned());
        }
        if setting.is_upgraded {
            command.args(["supervise", "--"]);
            flags.push(format!("--handoff-socket={}", directory.join(HANDOFF).display()));
            // Requests that are under way end with the old process.
            flags.push("--drain-timeout=30s".to_owned());
        }
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        run(&mut command, &directory.join("manifests"), addresses, any, &flags);
        command
    }

    fn reload(&self, _: &Running) -> anyhow::Result<()> {
        Ok(())
    }

    fn upgrade(&self, running: &Running) -> anyhow::Result<()> {
        let mut command = Command::new(&running.program);
        command.arg("upgrade").arg("--handoff-socket").arg(running.directory.path().join(HANDOFF));
        let output = command.output().context("start gateway upgrade")?;
        if !output.status.success() {
            bail!("gateway upgrade: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        let is_twice = matches!(ability, Ability::Certificates | Ability::Changes | Ability::Upgrades);
        (is_twice && !self.has_access_log).then_some("Penstock with its access log is measured")
    }
}

/// Files of many documents, none of which is larger than a manifest may be.
fn many(name: &str, documents: &[String]) -> impl Iterator<Item = ConfigFile> {
    (1..).zip(documents.chunks(IN_FILE)).map(move |(number, part)| ConfigFile {
        name: format!("manifests/{name}-{number}.yaml").into(),
        text: manifests::documents(part),
    })
}

/// An Ingress with a certificate for each of the hosts that have one.
fn certified(setting: &Setting<'_>) -> Vec<String> {
    let each = |(number, files): (u32, &CertificateFiles)| {
        let name = format!("certified-{number}");
        let host = certificate_host(number);
        let ingress = manifests::tls_ingress(&name, &host, "upstream", &name, &[("ssl-redirect", "false")]);
        [manifests::secret(&name, &files.certificate_pem, &files.key_pem), ingress]
    };
    (0..).zip(setting.certificates).flat_map(each).collect()
}

/// A running gateway, for the benchmarks that have no peers.
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

    /// The same, started by a shell that does something for its process first.
    pub(crate) fn after(
        first: &str,
        program: &Path,
        directory: &Path,
        log_directory: &Path,
        flags: &[String],
    ) -> anyhow::Result<Self> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{first} && exec \"$0\" \"$@\"")).arg(program);
        Self::launch(command, directory, log_directory, flags)
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
        let [plain, tls, status, admin] = [(); 4].map(|()| process::free_address());
        let (addresses, status) = (Addresses { plain: plain?, tls: tls?, admin: admin? }, status?);
        run(&mut command, directory, &addresses, status, flags);
        let process = Process::start("gateway", command, log_directory)?;
        Ok(Self { process, address: addresses.plain, https: addresses.tls, status })
    }
}

/// The arguments of `run`; without a lame duck, unless the flags say otherwise.
fn run(command: &mut Command, manifests: &Path, addresses: &Addresses, status: SocketAddr, flags: &[String]) {
    command.arg("run").arg("--manifests").arg(manifests);
    command.args(["--http", &addresses.plain.to_string(), "--https", &addresses.tls.to_string()]);
    command.args(["--status", &status.to_string(), "--admin", &addresses.admin.to_string()]);
    for (flag, value) in [("--lame-duck", "0s"), ("--drain-timeout", "1s")] {
        if !flags.iter().any(|given| given.starts_with(flag)) {
            command.args([flag, value]);
        }
    }
    command.args(flags);
}
