//! Releases of the chart on the node of the test cluster, and what they serve.

use std::net::SocketAddr;

use crate::node::{GATEWAY_IMAGE, NODE, Namespace, echo_deployment, helm, kubectl, until_port_leads_to_a_pod};
use crate::{Answer, Client, wait};

/// Where the chart is.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/helm/penstock");

/// A release of the chart in a namespace of its own, with a class that no other has.
pub struct Release {
    /// The namespace, which has the name of the release too.
    pub namespace: Namespace,
}

impl Release {
    /// Installs the chart, and waits until the gateway is ready.
    ///
    /// # Panics
    /// When it is not, or when the chart does not take the values.
    #[must_use]
    pub fn install(prefix: &str, labels: &[&str], values: &[&str]) -> Self {
        let release = Self { namespace: Namespace::create(prefix) };
        if !labels.is_empty() {
            kubectl(&[&["label", "namespace", release.name()], labels].concat());
        }
        release.helm("install", values);
        release
    }

    /// The name of the release, of its class and of its namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        self.namespace.name()
    }

    /// Installs or upgrades it, and waits until its pods are ready.
    pub fn helm(&self, command: &str, values: &[&str]) {
        self.run(&[command, "--wait", "--timeout=60s"], values);
    }

    /// Begins to upgrade it, to what may never be ready.
    pub fn begin_upgrade(&self, values: &[&str]) {
        self.run(&["upgrade"], values);
    }

    fn run(&self, command: &[&str], values: &[&str]) {
        let name = self.name();
        let (registry, rest) = GATEWAY_IMAGE.split_once('/').unwrap();
        let (image, tag) = rest.split_once(':').unwrap();
        let own = [
            format!("controller.image.registry={registry},controller.image.image={image},controller.image.tag={tag}"),
            format!("controller.ingressClassResource.name={name},controller.ingressClass={name}"),
            format!("controller.ingressClassResource.controllerValue=tests/{name}"),
            "controller.service.type=NodePort,controller.extraArgs.lame-duck=1s".to_owned(),
        ];
        let values = own.iter().map(String::as_str).chain(values.iter().copied()).flat_map(|value| ["--set", value]);
        let release = [name, CHART, "--namespace", name];
        helm(&command.iter().copied().chain(release).chain(values).collect::<Vec<_>>());
    }

    /// Where a TCP port of one of its Services is on the node, as soon as it leads to a pod.
    pub async fn node_port(&self, port: &str) -> SocketAddr {
        let service = format!("{}-penstock-controller", self.name());
        let path = format!("--output=jsonpath={{.spec.ports[?(@.name=='{port}')].nodePort}}");
        let number = self.namespace.kubectl(&["get", "service", &service, &path]).parse().unwrap();
        until_port_leads_to_a_pod(number).await;
        SocketAddr::new(NODE, number)
    }

    /// Uninstalls it, and waits until nothing of it is left anywhere.
    pub async fn uninstall(self) {
        let name = self.name();
        helm(&["uninstall", name, "--namespace", name, "--wait", "--timeout=60s"]);
        let kinds = kubectl(&["api-resources", "--verbs=list", "--output=name"]);
        let kinds = kinds.lines().collect::<Vec<_>>().join(",");
        for selector in [format!("app.kubernetes.io/instance={name}"), format!("name={name},owner=helm")] {
            wait::until("nothing of the release is left", async || {
                let left = kubectl(&["get", &kinds, "--all-namespaces", "--selector", &selector, "--output=name"]);
                left.is_empty().then_some(())
            })
            .await;
        }
    }
}

/// An echo server with an Ingress for `<name of the namespace>.test`, ready. Its pods are allowed wherever pods may run at all.
pub fn echo(namespace: &Namespace, class: &str) {
    let name = namespace.name();
    let deployment = echo_deployment(&format!("args: ['8080'], env: [{{name: NAME, value: {name}}}]"));
    namespace.apply(&format!(
        "{deployment}---
apiVersion: v1
kind: Service
metadata: {{name: echo}}
spec: {{selector: {{app: echo}}, ports: [{{port: 80, targetPort: 8080}}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: echo, annotations: {{nginx.ingress.kubernetes.io/ssl-redirect: 'false'}}}}
spec:
  ingressClassName: {class}
  rules:
  - host: {name}.test
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: echo, port: {{number: 80}}}}}}}}]}}
"
    ));
    namespace.kubectl(&["rollout", "status", "deployment/echo", "--timeout=60s"]);
}

/// Asks for `/` on a new connection.
pub async fn try_get(address: SocketAddr, host: &str) -> Option<Answer> {
    let mut client = Client::try_http1(address).await.ok()?;
    let request = client.request("GET", host, "/", &[], "");
    client.try_send(request).await.ok()
}

/// Waits until the echo server of a namespace answers through the gateway.
pub async fn until_served(address: SocketAddr, namespace: &Namespace) {
    let host = format!("{}.test", namespace.name());
    let answer = wait::until("the Ingress is served", async || {
        try_get(address, &host).await.filter(|answer| answer.status == 200)
    })
    .await;
    assert_eq!(answer.upstream(), namespace.name());
}
