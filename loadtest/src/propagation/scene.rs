//! The API server, what is in it, and who follows it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::cluster::{Session, collection};
use tests::{Cluster, Relay, Upstream};
use tokio::sync::Mutex;

use super::probe::{Asker, Probe, Right};
use crate::peers;
use crate::process::{Process, free_address};

/// An API server with Ingresses.
pub(super) struct Scene {
    cluster: Arc<Cluster>,
    session: Mutex<Session>,
    directory: TempDir,
    upstreams: [Upstream; 2],
    next: AtomicU32,
}

/// A gateway that follows the API server.
pub(super) struct Subject {
    pub(super) name: &'static str,
    /// From its start until it was ready.
    pub(super) ready: Duration,
    relay: Relay,
    _process: Process,
}

/// The Ingress of a number.
pub(super) fn name(number: u32) -> String {
    format!("m{number}")
}

/// Its host.
pub(super) fn host(number: u32) -> String {
    format!("m{number}.test")
}

/// The part of an Ingress that leads a host to a Service.
pub(super) fn rules(host: &str, service: &str) -> Value {
    let backend = json!({"service": {"name": service, "port": {"number": 80}}});
    let path = json!({"path": "/", "pathType": "Prefix", "backend": backend});
    json!({"spec": {"rules": [{"host": host, "http": {"paths": [path]}}]}})
}

fn ingress(name: &str, host: &str, service: &str) -> Value {
    let mut ingress = rules(host, service);
    ingress["apiVersion"] = json!("networking.k8s.io/v1");
    ingress["kind"] = json!("Ingress");
    ingress["metadata"] = json!({"name": name});
    ingress["spec"]["ingressClassName"] = json!("nginx");
    ingress
}

impl Scene {
    /// Starts an API server, and creates Ingresses, two Services, and one that has both as its endpoints.
    pub(super) async fn set(n_ingresses: u32) -> anyhow::Result<Self> {
        let cluster = Arc::new(Cluster::start().await);
        cluster.class("nginx", "k8s.io/ingress-nginx").await;
        let upstreams = [cluster.upstream("a").await, cluster.upstream("b").await];
        let [a, b] = upstreams.each_ref().map(Upstream::address);
        let service = tests::manifests::service;
        let objects = [service("a", &[a]), service("b", &[b]), service("pair", &[a, b])];
        cluster.apply("default", &objects.concat()).await;
        let mut ingresses: Vec<Value> =
            (0..n_ingresses).map(|number| ingress(&name(number), &host(number), "a")).collect();
        ingresses.push(ingress("pair", "pair.test", "pair"));
        cluster.create_all("Ingress", "default", &ingresses).await;
        let session = Mutex::new(cluster.session().await);
        let directory = tempfile::Builder::new().prefix("loadtest-").tempdir().context("create a directory")?;
        Ok(Self { cluster, session, directory, upstreams, next: AtomicU32::new(0) })
    }

    pub(super) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// A number that was not there before.
    pub(super) fn next(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Starts Penstock, and waits until it is ready.
    pub(super) async fn start_gateway(&self, program: &Path) -> anyhow::Result<Subject> {
        let mut command = Command::new(program);
        command.arg("run").arg("--kubeconfig").arg(self.cluster.kubeconfig());
        command.arg("--controller-class=k8s.io/ingress-nginx");
        let [http, https, status, admin] = [free_address()?, free_address()?, free_address()?, free_address()?];
        for (flag, address) in [("http", http), ("https", https), ("status", status), ("admin", admin)] {
            command.arg(format!("--{flag}={address}"));
        }
        command.args(["--lame-duck=0s", "--drain-timeout=1s"]);
        self.start("Penstock", command, http).await
    }

    /// Starts Traefik, and waits until it serves.
    pub(super) async fn start_traefik(&self) -> anyhow::Result<Subject> {
        let program = peers::Peer::Traefik.locate()?.program;
        let http = free_address()?;
        let mut command = Command::new(program);
        command.env("KUBECONFIG", self.cluster.kubeconfig());
        command.arg(format!("--entrypoints.web.address={http}"));
        command.args(["--experimental.kubernetesingressnginx=true", "--providers.kubernetesingressnginx=true"]);
        command.args(["--log.level=ERROR", "--global.checknewversion=false", "--global.sendanonymoususage=false"]);
        self.start("Traefik", command, http).await
    }

    async fn start(&self, name: &'static str, command: Command, http: SocketAddr) -> anyhow::Result<Subject> {
        let began = Instant::now();
        let process = Process::start(&name.to_lowercase(), command, self.directory.path())?;
        let last = host(0);
        Asker::until(http, &last, Right::By("a")).await.with_context(|| format!("{name} does not serve"))?;
        let ready = began.elapsed();
        Ok(Subject { name, ready, relay: Relay::to(http).await, _process: process })
    }

    async fn send(&self, method: &str, kind: &str, name: &str, content_type: &str, body: &str) {
        let target = format!("{}{name}", collection(kind, "default"));
        self.session.lock().await.send(method, &target, content_type, body).await;
    }

    /// Creates an Ingress.
    pub(super) async fn create(&self, name: &str, host: &str, service: &str) {
        self.send("POST", "Ingress", "", "application/json", &ingress(name, host, service).to_string()).await;
    }

    /// Has it lead elsewhere.
    pub(super) async fn lead(&self, name: &str, host: &str, service: &str) {
        let patch = rules(host, service).to_string();
        self.send("PATCH", "Ingress", &format!("/{name}"), "application/merge-patch+json", &patch).await;
    }

    /// Deletes it.
    pub(super) async fn delete(&self, name: &str) {
        self.send("DELETE", "Ingress", &format!("/{name}"), "application/json", "").await;
    }

    /// Takes the second of the two endpoints away, as the slice of a pod that is gone is left empty, or brings it back.
    pub(super) async fn set_endpoint(&self, is_there: bool) {
        let [_, b] = self.upstreams.each_ref().map(Upstream::address);
        let endpoints = if is_there { json!([{"addresses": [b.ip()]}]) } else { json!([]) };
        let patch = json!({"endpoints": endpoints}).to_string();
        self.send("PATCH", "EndpointSlice", "/pair-1", "application/merge-patch+json", &patch).await;
    }
}

impl Subject {
    /// Asks for a host from now on, until it shows a change.
    pub(super) fn follow(&self, host: &str, old: Right, new: Right) -> Probe {
        Probe::follow(self.relay.address(), host, old, new)
    }

    /// Asks for a host from now on, until an upstream is not asked any more.
    pub(super) fn leave(&self, host: &str, upstream: &'static str) -> Probe {
        Probe::leave(self.relay.address(), host, upstream)
    }

    /// Waits for an answer.
    pub(super) async fn until(&self, host: &str, right: Right) -> anyhow::Result<()> {
        Asker::until(self.relay.address(), host, right).await
    }

    /// Cuts the way to it for a moment.
    pub(super) async fn cut(&self, gap: Duration) {
        self.relay.cut();
        tokio::time::sleep(gap).await;
        self.relay.restore();
    }
}
