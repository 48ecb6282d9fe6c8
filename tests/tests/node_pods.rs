//! The pods that `deploy/` makes, as they run: what they may do, what they answer to, and whom they send the rest to.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::{Value, json};
use tests::node::{ECHO_IMAGE, GATEWAY_IMAGE, NODE, Namespace, kubectl, run, succeeded, until_port_leads_to_a_pod};
use tests::release::{Release, try_get};
use tests::wait;
use tokio::net::TcpStream;

/// The default backend's image, which a closed network cannot pull: the echo server stands in for it.
const DEFAULT_BACKEND_IMAGE: &str = "registry.k8s.io/defaultbackend-amd64:1.5";

/// Connections of the scan at a time.
const CONNECTIONS: usize = 256;

/// The pods of a component, as the API server has them.
fn pods(namespace: &Namespace, component: &str) -> Vec<Value> {
    let selector = format!("--selector=app.kubernetes.io/component={component}");
    let list: Value = serde_json::from_str(&namespace.kubectl(&["get", "pods", &selector, "--output=json"])).unwrap();
    list["items"].as_array().unwrap().clone()
}

/// The ports on which somebody accepts.
async fn open_ports(address: IpAddr) -> BTreeSet<u16> {
    let knock = async |port: u16| TcpStream::connect(SocketAddr::new(address, port)).await.is_ok().then_some(port);
    let open = stream::iter(1..=u16::MAX).map(knock).buffer_unordered(CONNECTIONS);
    open.filter_map(async |port| port).collect().await
}

/// Not root, nothing of its own to write to, and no right but that to bind low ports.
fn assert_confined(pod: &Value) {
    let context = &pod["spec"]["containers"][0]["securityContext"];
    let expected = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsGroup": 65532, "runAsNonRoot": true, "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    assert_eq!(*context, expected);
    for field in ["hostPID", "hostIPC"] {
        assert!(pod["spec"][field].is_null(), "{field}");
    }
}

// N-08: whoever is in the pod network finds the listeners, probes and metrics, and the webhook where it is asked for.
#[tokio::test]
async fn a_pod_is_confined_and_answers_on_its_ports_alone() {
    let webhook = "controller.admissionWebhooks.enabled=true,controller.admissionWebhooks.failurePolicy=Ignore";
    let release = Release::install("scanned", &[], &[webhook, "controller.kind=Both"]);
    let pods = pods(&release.namespace, "controller");
    let owners: BTreeSet<&str> =
        pods.iter().map(|pod| pod["metadata"]["ownerReferences"][0]["kind"].as_str().unwrap()).collect();
    assert_eq!((owners, pods.len()), (["DaemonSet", "ReplicaSet"].into(), 2));
    pods.iter().for_each(assert_confined);
    let pod = &pods[0];
    let address: IpAddr = pod["status"]["podIP"].as_str().unwrap().parse().unwrap();
    assert_eq!(open_ports(address).await, [80, 443, 8443, 10254].into());
    for target in ["/snapshot", "/explain", "/nginx_status", "/debug/pprof/", "/configuration/backends"] {
        let mut client = tests::Client::http1(SocketAddr::new(address, 10254)).await;
        assert_eq!(client.get("gateway", target, &[]).await.status, 404, "{target}");
    }
    release.uninstall().await;
}

#[tokio::test]
async fn what_no_ingress_takes_goes_to_the_default_backend_of_the_chart() {
    succeeded("ctr", &[], &run("ctr", &["images", "tag", "--force", ECHO_IMAGE, DEFAULT_BACKEND_IMAGE], ""));
    let name = "defaultBackend.extraEnvs[0].name=NAME,defaultBackend.extraEnvs[0].value=rest";
    let release = Release::install("rest", &[], &["defaultBackend.enabled=true,defaultBackend.replicaCount=0", name]);
    let address = release.node_port("http").await;
    // The echo server takes its port as an argument, which the chart has no value for.
    let backend = format!("deployment/{}-penstock-defaultbackend", release.name());
    let patch = "{\"spec\": {\"replicas\": 1, \"template\": {\"spec\": {\"containers\": \
                 [{\"name\": \"default-backend\", \"args\": [\"8080\"]}]}}}}";
    release.namespace.kubectl(&["patch", &backend, "--patch", patch]);
    release.namespace.kubectl(&["rollout", "status", &backend, "--timeout=60s"]);
    let is_answered = async || try_get(address, "nobody.test").await.filter(|answer| answer.status == 200);
    let answer = wait::until("the default backend answers", is_answered).await;
    assert_eq!((answer.upstream(), answer.seen().host), ("rest".to_owned(), "nobody.test".to_owned()));
    release.uninstall().await;
}

// What `kubectl apply --kustomize` takes, with the image of this build.
#[tokio::test]
async fn the_kustomize_base_is_a_gateway() {
    let base = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/static");
    let rendered = kubectl(&["kustomize", base]);
    let image = rendered.lines().find_map(|line| line.trim().strip_prefix("image: ")).unwrap();
    succeeded("ctr", &[], &run("ctr", &["images", "tag", "--force", *GATEWAY_IMAGE, image], ""));
    kubectl(&["apply", "--kustomize", base]);
    kubectl(&["--namespace=penstock", "rollout", "status", "deployment/penstock-controller", "--timeout=60s"]);
    let path = "--output=jsonpath={.spec.ports[?(@.name=='http')].nodePort}";
    let port = kubectl(&["--namespace=penstock", "get", "service", "penstock-controller", path]);
    let port = port.parse().unwrap();
    until_port_leads_to_a_pod(port).await;
    assert_eq!(try_get(SocketAddr::new(NODE, port), "nobody.test").await.unwrap().status, 404);
    // A namespace waits for as long as its pods might.
    kubectl(&["--namespace=penstock", "delete", "deployment", "penstock-controller"]);
    kubectl(&["--namespace=penstock", "wait", "--for=delete", "pod", "--all", "--timeout=60s"]);
    kubectl(&["delete", "--kustomize", base, "--ignore-not-found", "--timeout=60s"]);
}
