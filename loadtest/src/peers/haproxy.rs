//! HAProxy, as the system has it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::{
    Ability, Addresses, ConfigFile, GRPC_HOST, HOST, MOVED_HOST, POOL_HOST, Proxy, Running, Setting, installed,
    route_host,
};
use crate::load::certificate_host;

const CONFIG: &str = include_str!("../../peers/haproxy.cfg");

pub(super) struct Haproxy;

impl Proxy for Haproxy {
    fn program(&self) -> anyhow::Result<PathBuf> {
        installed("haproxy", "haproxy")
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["-v"]
    }

    fn config(&self, setting: &Setting<'_>, addresses: &Addresses, directory: &Path) -> Vec<ConfigFile> {
        let pool: Vec<String> =
            (1..).zip(setting.pool).map(|(n, address)| format!("    server s{n} {address}")).collect();
        let text = CONFIG
            .replace("POOL", &pool.join("\n"))
            .replace("DIRECTORY", &directory.to_string_lossy())
            .replace("UPSTREAM", &setting.upstream.to_string())
            .replace("OTHER", &setting.other.to_string())
            .replace("GRPC", &setting.grpc.to_string())
            .replace("PLAIN", &addresses.plain.to_string())
            .replace("ENCRYPTED", &addresses.tls.to_string())
            .replace("CONNECTIONS", &setting.max_connections.to_string())
            .replace("THREADS", &setting.threads.to_string());
        let moved = if setting.is_moved { "other" } else { "bench" };
        let mut hosts = format!("{HOST} bench\n{GRPC_HOST} grpc\n{MOVED_HOST} {moved}\n{POOL_HOST} pool\n");
        for number in 0..setting.routes {
            let _ = writeln!(hosts, "{} bench", route_host(number));
        }
        // The first certificate is shown to whoever names no host.
        let mut certificates = format!("{}\n", setting.tls.both.display());
        for (number, files) in (0..).zip(setting.certificates) {
            let _ = writeln!(hosts, "{} bench", certificate_host(number));
            let _ = writeln!(certificates, "{}", files.both.display());
        }
        vec![
            ConfigFile { name: "certificates.list".into(), text: certificates },
            ConfigFile { name: "hosts.map".into(), text: hosts },
            ConfigFile { name: "haproxy.cfg".into(), text },
        ]
    }

    fn command(&self, program: &Path, _: &Setting<'_>, _: &Addresses, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.args(["-W", "-db", "-f"]).arg(directory.join("haproxy.cfg"));
        command
    }

    fn reload(&self, running: &Running) -> anyhow::Result<()> {
        running.signal(Signal::USR2)
    }
    /// The master begins anew as another process would, with the program that is there by then.
    fn upgrade(&self, running: &Running) -> anyhow::Result<()> {
        running.replace_workers(Signal::USR2)
    }

    fn lacks(&self, _: Ability) -> Option<&'static str> {
        None
    }
}
