//! nginx, as the system has it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::{
    Ability, Addresses, ConfigFile, GRPC_HOST, HOST, MOVED_HOST, POOL_HOST, Proxy, Running, Setting, installed,
    route_host,
};
use crate::load::certificate_host;

const CONFIG: &str = include_str!("../../peers/nginx.conf");

pub(super) struct Nginx;

impl Proxy for Nginx {
    fn program(&self) -> anyhow::Result<PathBuf> {
        installed("nginx", "nginx-light")
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["-v"]
    }

    fn config(&self, setting: &Setting<'_>, addresses: &Addresses, directory: &Path) -> Vec<ConfigFile> {
        let mut routes = String::new();
        for number in 0..setting.routes {
            let host = route_host(number);
            let _ = writeln!(
                routes,
                "    server {{ listen {}; server_name {host}; location / {{ proxy_pass http://bench; }} }}",
                addresses.plain
            );
        }
        for (number, files) in (0..).zip(setting.certificates) {
            let _ = writeln!(
                routes,
                "    server {{ listen {} ssl http2; server_name {}; ssl_certificate {}; ssl_certificate_key {}; location / \
                 {{ proxy_pass http://bench; }} }}",
                addresses.tls,
                certificate_host(number),
                files.certificate.display(),
                files.key.display()
            );
        }
        let pool: Vec<String> = setting.pool.iter().map(|address| format!("server {address};")).collect();
        let text = CONFIG
            .replace("ROUTES", &routes)
            .replace("POOL_HOST", POOL_HOST)
            .replace("POOL", &pool.join(" "))
            .replace("GRPC_HOST", GRPC_HOST)
            .replace("MOVED_HOST", MOVED_HOST)
            .replace("HOST", HOST)
            .replace("DIRECTORY", &directory.to_string_lossy())
            .replace("UPSTREAM", &setting.upstream.to_string())
            .replace("MOVED", &setting.moved().to_string())
            .replace("GRPC", &setting.grpc.to_string())
            .replace("PLAIN", &addresses.plain.to_string())
            .replace("ENCRYPTED", &addresses.tls.to_string())
            .replace("CERTIFICATE", &setting.tls.certificate.to_string_lossy())
            .replace("KEY", &setting.tls.key.to_string_lossy())
            .replace("THREADS", &setting.threads.to_string());
        vec![ConfigFile { name: "nginx.conf".into(), text }]
    }

    fn command(&self, program: &Path, _: &Setting<'_>, _: &Addresses, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.args(["-e", "stderr", "-p"]).arg(directory).arg("-c").arg(directory.join("nginx.conf"));
        command
    }

    fn reload(&self, running: &Running) -> anyhow::Result<()> {
        running.signal(Signal::HUP)
    }
    /// Its workers are replaced; that is what an upgrade of the program ends with, too.
    fn upgrade(&self, running: &Running) -> anyhow::Result<()> {
        running.replace_workers(Signal::HUP)
    }

    fn lacks(&self, _: Ability) -> Option<&'static str> {
        None
    }
}
