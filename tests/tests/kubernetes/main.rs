//! Kubernetes as the source, on a real API server (issue 5; robustness.md K-01 to K-21). One API server for all tests that
//! leave it alone: each has namespaces and classes of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admission;
mod away;
mod bombs;
mod chart;
mod classes;
mod complete;
mod events;
mod handover;
mod many;
mod namespaces;
mod neighbours;
mod own_certificate;
mod owners;
mod policy;
mod refusals;
mod rights;
mod secrets;
mod serving;
mod statuses;

use std::path::PathBuf;

use tests::Cluster;
use tokio::sync::OnceCell;

/// The API server that everybody leaves alone.
async fn cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER.get_or_init(Cluster::start).await
}

/// The part of the cluster that belongs to a test: a namespace, and a class of the same name.
struct Own {
    cluster: &'static Cluster,
    name: &'static str,
}

impl Own {
    async fn new(name: &'static str) -> Self {
        let cluster = cluster().await;
        cluster.namespace(name).await;
        cluster.class(name, &controller(name)).await;
        Self { cluster, name }
    }

    /// Flags that serve the class, and elect a leader apart from all others.
    fn flags(&self) -> [String; 2] {
        [format!("--controller-class={}", controller(self.name)), format!("--election-id={}", self.name)]
    }

    fn kubeconfig(&self) -> PathBuf {
        self.cluster.kubeconfig()
    }

    async fn apply(&self, manifest: &str) {
        self.cluster.apply(self.name, manifest).await;
    }

    /// An Ingress of the class that leads every path of a host to a Service.
    fn ingress(&self, name: &str, host: &str, service: &str) -> String {
        of_class(&tests::manifests::ingress(name, host, &[], &[("/", service)]), self.name)
    }

    /// Starts a gateway for the class and waits until it is ready. Flags come on top.
    async fn start(&self, flags: &[&str]) -> tests::Gateway {
        self.start_as(&self.kubeconfig(), flags).await
    }

    async fn start_as(&self, kubeconfig: &std::path::Path, flags: &[&str]) -> tests::Gateway {
        let own = self.flags();
        let flags: Vec<&str> = own.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        tests::Gateway::start_on(kubeconfig, &flags).await
    }
}

fn controller(name: &str) -> String {
    format!("tests.penstock.dev/{name}")
}

/// The Ingress of a manifest with `spec.ingressClassName`.
fn of_class(ingress: &str, class: &str) -> String {
    ingress.replacen("spec:\n", &format!("spec:\n  ingressClassName: {class}\n"), 1)
}
