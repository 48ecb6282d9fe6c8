//! `gateway demo`: from a clone to a proxied request with one command.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use super::cluster::ClusterFlags;
use super::flags::{AccessLogFlag, DemoFlags, HandoffFlags, MeaningFlags, RunFlags};
use super::lifecycle::Farewell;
use super::{echo, lifecycle, logging, run};

/// The manifests that are served.
const MANIFESTS: &str = include_str!("../../../deploy/examples/demo/demo.yaml");

/// A directory that is gone when the demo is.
struct Directory(PathBuf);

/// Runs the command.
pub(crate) fn demo(flags: &DemoFlags) -> anyhow::Result<ExitCode> {
    logging::start();
    let directory = Directory::create()?;
    let backends = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("demo-backends")
        .enable_all()
        .build()
        .context("start threads")?;
    let slices = backends.block_on(start_backends()).context("start back ends")?;
    let write = |name: &str, text: &str| {
        let path = directory.0.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    };
    write("demo.yaml", MANIFESTS)?;
    write("endpoints.yaml", &slices)?;
    write("certificate.yaml", &certificate()?)?;
    let parts = run::start(&RunFlags {
        manifests: vec![directory.0.clone()],
        http: vec![flags.http],
        https: vec![flags.https],
        status: flags.status,
        admin: flags.admin,
        lame_duck: Duration::ZERO,
        drain_timeout: Duration::from_secs(5),
        threads: None,
        access_log: AccessLogFlag::Text,
        handoff: HandoffFlags {
            handoff_socket: None,
            handoff_timeout: Duration::ZERO,
            handoff_probation: Duration::ZERO,
        },
        meaning: MeaningFlags {
            configmap: None,
            tcp_services_configmap: None,
            udp_services_configmap: None,
            ingress_class: "nginx".to_owned(),
            controller_class: "penstock.dev/ingress".to_owned(),
            ingress_class_by_name: false,
            annotations_prefix: "nginx.ingress.kubernetes.io".to_owned(),
            default_ssl_certificate: None,
            default_backend_service: None,
        },
        // Not asked for where there are manifests.
        cluster: ClusterFlags::default(),
    })?;
    let print = || eprint!("{}", instructions(flags, &directory.0));
    lifecycle::stay(parts, Farewell { lame_duck: Duration::ZERO, drain_timeout: Duration::from_secs(5) }, print)
}

/// Starts the back ends and returns the EndpointSlices that lead to them.
async fn start_backends() -> std::io::Result<String> {
    let mut slices = String::new();
    for (service, port_name, n_endpoints) in [("web", "http", 2), ("api", "http", 1)] {
        for number in 1..=n_endpoints {
            let address = echo::start(format!("{service}-{number}")).await?;
            slices.push_str(&slice(service, port_name, number, address));
        }
    }
    Ok(slices)
}

fn slice(service: &str, port_name: &str, number: usize, address: SocketAddr) -> String {
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {service}-{number}\n  labels:\n    \
         kubernetes.io/service-name: {service}\naddressType: IPv4\nports:\n  - name: {port_name}\n    port: {}\n\
         endpoints:\n  - addresses: [{}]\n",
        address.port(),
        address.ip()
    )
}

fn certificate() -> anyhow::Result<String> {
    let certified = rcgen::generate_simple_self_signed(vec!["secure.localhost".to_owned()])
        .context("make the certificate of secure.localhost")?;
    let indented = |pem: String| {
        pem.lines().fold(String::new(), |mut text, line| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "    {line}");
            text
        })
    };
    Ok(format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: secure-localhost\ntype: kubernetes.io/tls\nstringData:\n  \
         tls.crt: |\n{}  tls.key: |\n{}",
        indented(certified.cert.pem()),
        indented(certified.signing_key.serialize_pem())
    ))
}

fn instructions(flags: &DemoFlags, directory: &Path) -> String {
    let DemoFlags { http, https, status, admin } = flags;
    let (http, https) = (http.port(), https.port());
    format!(
        "\nPenstock serves the manifests in {}. Try:\n\n  \
         curl http://web.localhost:{http}/                two endpoints take turns\n  \
         curl http://shop.localhost:{http}/api/users      another Service, and a rewritten path\n  \
         curl -k https://secure.localhost:{https}/        TLS by SNI\n  \
         curl -i http://secure.localhost:{http}/          sent to HTTPS\n  \
         curl -i http://nowhere.localhost:{http}/         404, default backend\n  \
         curl http://{status}/metrics               what Prometheus sees\n  \
         gateway explain --admin http://{admin} http://shop.localhost:{http}/api/users\n\n\
         Edit a file there and ask again. Ctrl-C ends it.\n\n",
        directory.display()
    )
}

impl Directory {
    fn create() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("penstock-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed is in the directory for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
