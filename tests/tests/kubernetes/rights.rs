//! The rights that the chart gives: the gateway needs every one of them, and no other.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::certificate::Certificate;
use tests::cluster::{ACCOUNT, collection};
use tests::manifests::{config_map, ingress, service, tls};
use tests::{Cluster, Gateway, wait};

use crate::of_class;

/// The role that gives it, the API group, the resource and the verb.
type Right = (&'static str, String, String, String);

/// With these, the chart gives all the rights that it can give.
const VALUES: [&str; 6] = [
    "controller.admissionWebhooks.enabled=true",
    "controller.admissionWebhooks.namespaceSelector.matchLabels.judged=never",
    "controller.publishService.enabled=false",
    "controller.scope.enabled=true",
    "controller.scope.namespaceSelector=team=a",
    "controller.electionTTL=3s",
];

async fn granted(cluster: &Cluster) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for kind in ["ClusterRole", "Role"] {
        let role = cluster.get(kind, "default", "penstock").await;
        for rule in role["rules"].as_array().unwrap() {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    let right = |verb| (kind, group.clone(), resource.clone(), verb);
                    rights.extend(texts(&rule["verbs"]).into_iter().map(right));
                }
            }
        }
    }
    rights
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The right that a recorded request needs. What is of no object is allowed to everybody.
fn needed(request: &Value) -> Option<Right> {
    let object = request.get("objectRef")?;
    let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
    let resource = match text("subresource").as_str() {
        "" => text("resource"),
        subresource => format!("{}/{subresource}", text("resource")),
    };
    // What the gateway has in its own namespace only.
    let is_own = matches!(resource.as_str(), "leases" | "pods") || text("name") == "penstock-controller-admission";
    let role = if is_own { "Role" } else { "ClusterRole" };
    Some((role, text("apiGroup"), resource, request["verb"].as_str()?.to_owned()))
}

/// A pod on a node, for who asks where it runs.
async fn create_pod(cluster: &Cluster) {
    let create = async |kind: &str, object: Value| {
        let reply = cluster.request("POST", &collection(kind, "default"), &object.to_string()).await;
        assert_eq!(reply.status, 201, "{reply:?}");
    };
    create("Node", json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}})).await;
    let addresses = json!({"status": {"addresses": [{"type": "ExternalIP", "address": "192.0.2.1"}]}});
    cluster.patch("Node", "", "node/status", &addresses).await;
    create(
        "Pod",
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "labels": {"app": "gateway"}},
            "spec": {"nodeName": "node", "containers": [{"name": "gateway", "image": "gateway"}]},
        }),
    )
    .await;
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    cluster.patch("Pod", "default", "pod/status", &ready).await;
}

/// The gateway with the arguments of the chart's Deployment, on addresses of its own.
async fn start(cluster: &Cluster) -> Gateway {
    let deployment = cluster.get("Deployment", "default", "penstock-controller").await;
    let arguments = texts(&deployment["spec"]["template"]["spec"]["containers"][0]["args"]);
    let arguments: Vec<String> =
        arguments.iter().skip(1).map(|argument| argument.replace("$(POD_NAMESPACE)", "default")).collect();
    let ours = ["--http=", "--https=", "--status=", "--validating-webhook="];
    let is_theirs = |argument: &&str| !ours.iter().any(|flag| argument.starts_with(flag));
    let theirs = arguments.iter().map(String::as_str).filter(is_theirs);
    let flags: Vec<&str> = theirs.chain(["--validating-webhook=127.0.0.1:0"]).collect();
    let environment = [("POD_NAME", "pod"), ("POD_NAMESPACE", "default")];
    let kubeconfig = cluster.kubeconfig_of(ACCOUNT, cluster.address());
    let gateway = Gateway::spawn_on_with_environment(&environment, &kubeconfig, &flags);
    gateway.wait_until_ready().await;
    gateway
}

#[tokio::test]
async fn the_gateway_needs_every_right_of_the_chart_and_no_other() {
    // An API server that streams no lists: with one that does, a watch is a list too.
    let cluster = Cluster::start_with(&["--feature-gates=WatchList=false"]).await;
    cluster
        .apply("default", &cluster.chart(&["rbac", "ingressclasses", "configmaps", "controller", "admission"], &VALUES))
        .await;
    cluster.patch("Namespace", "", "default", &json!({"metadata": {"labels": {"team": "a"}}})).await;
    create_pod(&cluster).await;
    let granted = granted(&cluster).await;
    let gateway = start(&cluster).await;

    let upstream = cluster.upstream("web").await;
    let secret = Certificate::self_signed(&["web.test"]).secret("web");
    cluster.apply("default", &[service("web", &[upstream.address()]), secret, config_map("more", &[])].concat()).await;
    let of_host = |host: &str| {
        let route = ingress("web", host, &[("ssl-redirect", "false")], &[("/", "web")]);
        of_class(&format!("{route}{}", tls(&["web.test"], "web")), "nginx")
    };
    cluster.apply("default", &of_host("web.test")).await;
    gateway.wait_for("https://web.test/", |answer| answer.status == 200).await;
    // What has become another version is told once more by the same Event.
    cluster.apply("default", &of_host("other.test")).await;
    gateway.wait_for("http://other.test/", |answer| answer.status == 200).await;
    let settings = json!({"data": {"add-headers": "default/more"}});
    cluster.patch("ConfigMap", "default", "penstock-controller", &settings).await;

    let mut unused = granted.clone();
    let is_all_used = async || {
        let used: BTreeSet<Right> = cluster.recorded().iter().filter_map(needed).collect();
        unused = granted.difference(&used).cloned().collect();
        unused.is_empty().then_some(())
    };
    let waited = tokio::time::timeout(wait::LIMIT / 2, wait::until("every right is used", is_all_used)).await;
    assert!(waited.is_ok(), "nothing needs {unused:?}");
    let is_refused = |request: &&Value| request["annotations"]["authorization.k8s.io/decision"] == "forbid";
    let recorded = cluster.recorded();
    let refused: Vec<&Value> = recorded.iter().filter(is_refused).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let shown = cluster.get("Ingress", "default", "web").await["status"]["loadBalancer"]["ingress"].clone();
    assert_eq!(shown, json!([{"ip": "192.0.2.1"}]));
}
