//! The test cluster itself: what the other cluster suites take for granted.

use std::net::SocketAddr;

use tests::node::{NODE, Namespace, echo_deployment, kubectl, run, until_port_leads_to_a_pod};
use tests::{Client, wait};

#[tokio::test]
async fn a_pod_answers_at_the_port_of_its_node() {
    let namespace = Namespace::create("node-port");
    namespace.apply(&echo_deployment("args: ['8080']"));
    namespace.kubectl(&["rollout", "status", "deployment/echo", "--timeout=60s"]);
    namespace.kubectl(&["expose", "deployment/echo", "--type=NodePort", "--port=80", "--target-port=8080"]);
    let port = namespace.kubectl(&["get", "service", "echo", "--output=jsonpath={.spec.ports[0].nodePort}"]);
    let port = port.parse().unwrap();
    until_port_leads_to_a_pod(port).await;
    let answer = Client::http1(SocketAddr::new(NODE, port)).await.get("echo.test", "/path?query", &[]).await;
    let pod = namespace.kubectl(&["get", "pods", "--output=jsonpath={.items[0].metadata.name}"]);
    assert_eq!(answer.upstream(), pod);
    assert_eq!(answer.seen().target, "/path?query");
}

// The rights of the gateway are tested for real only where ports below 1024 are closed to others.
#[tokio::test]
async fn a_port_below_1024_needs_a_right() {
    let namespace = Namespace::create("rights");
    let bare = "{runAsUser: 65532, runAsNonRoot: true, capabilities: {drop: [ALL]}}";
    namespace.apply(&echo_deployment(&format!("args: ['80'], securityContext: {bare}")));
    wait::until("the echo server says that it may not", async || {
        let log = run("kubectl", &["--namespace", namespace.name(), "logs", "deployment/echo", "--previous"], "");
        String::from_utf8_lossy(&log.stdout).contains("bind: permission denied").then_some(())
    })
    .await;
}

#[test]
fn the_api_server_is_of_the_version_that_is_pinned() {
    let version = kubectl(&["version", "--output=yaml"]);
    let pinned = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/go.mod")).unwrap();
    let pinned = pinned.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes ")).unwrap();
    let (_, server) = version.split_once("serverVersion:").unwrap();
    assert!(server.contains(&format!("gitVersion: {pinned}")), "{version}");
}
