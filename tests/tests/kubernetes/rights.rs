//! The rights that the chart gives: the gateway needs every one of them, and no other.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::certificate::Certificate;
use tests::cluster::{ACCOUNT, collection};
use tests::manifests::{config_map, ingress, service, tls};
use tests::{Answer, Cluster, Gateway, wait};

use crate::of_class;
use crate::secrets::wait_for_name;

/// Where the release is.
const OWN: &str = "default";

/// What a role of the chart allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    /// That of a Role; `None` for a ClusterRole.
    namespace: Option<&'static str>,
    group: String,
    resource: String,
    verb: String,
    /// The objects; none for all of them.
    names: Vec<String>,
}

/// The chart on an API server of its own, and the namespace that it serves.
struct Installation {
    cluster: Cluster,
    granted: BTreeSet<Right>,
    gateway: Gateway,
    served: &'static str,
}

impl Right {
    /// Whether a recorded request is allowed by it.
    fn allows(&self, request: &Value) -> bool {
        let Self { namespace, group, resource, verb, names } = self;
        let object = &request["objectRef"];
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let subresource = text("subresource");
        let asked = if subresource.is_empty() {
            text("resource").to_owned()
        } else {
            format!("{}/{subresource}", text("resource"))
        };
        namespace.is_none_or(|namespace| namespace == text("namespace"))
            && *group == text("apiGroup")
            && *resource == asked
            && request["verb"] == **verb
            && (names.is_empty() || names.iter().any(|name| name == text("name")))
    }

    /// How few objects it is about.
    fn is_narrow(&self) -> (bool, bool) {
        (!self.names.is_empty(), self.namespace.is_some())
    }
}

impl Installation {
    async fn new(templates: &[&str], values: &[&str], roles: &[(&str, Option<&'static str>, &str)]) -> Self {
        // An API server that streams no lists: with one that does, a watch is a list too.
        let cluster = Cluster::start_with(&["--feature-gates=WatchList=false"]).await;
        let served = roles.last().unwrap().1.unwrap_or(OWN);
        cluster.namespace(served).await;
        cluster.apply(OWN, &cluster.chart(templates, values)).await;
        cluster.patch("Namespace", "", OWN, &json!({"metadata": {"labels": {"team": "a"}}})).await;
        create_pod(&cluster).await;
        let mut granted = BTreeSet::new();
        for (kind, namespace, name) in roles {
            let role = cluster.get(kind, namespace.unwrap_or_default(), name).await;
            granted.extend(rights(&role, *namespace));
        }
        let gateway = start(&cluster).await;
        Self { cluster, granted, gateway, served }
    }

    /// Applies, in the namespace that is served.
    async fn apply(&self, manifests: &[String]) {
        self.cluster.apply(self.served, &manifests.concat()).await;
    }

    /// Has an Ingress with all that it can name, twice: what has become another version is told once more by the same
    /// Event.
    async fn serve(&self) {
        let upstream = self.cluster.upstream("web").await;
        let secret = Certificate::self_signed(&["web.test"]).secret("web");
        self.apply(&[service("web", &[upstream.address()]), secret, config_map("answers", &[])]).await;
        self.cluster.apply(OWN, &config_map("more", &[])).await;
        let answers = format!("{}/answers", self.served);
        for host in ["web.test", "other.test"] {
            let annotations = [("ssl-redirect", "false"), ("custom-headers", &*answers)];
            let route = of_class(&ingress("web", host, &annotations, &[("/", "web")]), "nginx");
            self.apply(&[route, tls(&["web.test"], "web")]).await;
            self.gateway.wait_for(&format!("http://{host}/"), |answer| answer.status == 200).await;
        }
        // What has become wrong again, too.
        for (gzip, tokens) in [("perhaps", "true"), ("true", "false"), ("perhaps", "true")] {
            let settings = json!({"data": {"add-headers": "default/more", "use-gzip": gzip, "server-tokens": tokens}});
            self.cluster.patch("ConfigMap", OWN, "penstock-controller", &settings).await;
            let is_live = |answer: &Answer| answer.header("server").is_some() == (tokens == "true");
            self.gateway.wait_for("http://other.test/", is_live).await;
        }
    }

    async fn assert_every_right_is_used_and_nothing_is_refused(&self) {
        let mut unused = self.granted.clone();
        let is_all_used = async || {
            for request in self.cluster.recorded() {
                let allowing = self.granted.iter().filter(|right| right.allows(&request));
                unused.retain(|right| Some(right) != allowing.clone().max_by_key(|right| right.is_narrow()));
            }
            unused.is_empty().then_some(())
        };
        let waited = tokio::time::timeout(wait::LIMIT / 2, wait::until("every right is used", is_all_used)).await;
        assert!(waited.is_ok(), "nothing needs {unused:?}");
        let is_refused = |request: &&Value| request["annotations"]["authorization.k8s.io/decision"] == "forbid";
        let recorded = self.cluster.recorded();
        let refused: Vec<&Value> = recorded.iter().filter(is_refused).collect();
        assert!(refused.is_empty(), "{refused:?}");
    }

    /// Waits until the account may not patch such objects any more.
    async fn wait_until_refused(&self, group: &str, resource: &str) {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": ACCOUNT, "resourceAttributes": {
                "namespace": OWN, "verb": "patch", "group": group, "resource": resource, "subresource": subresource,
            }},
        });
        let target = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let is_refused = async || {
            let reply = self.cluster.request("POST", target, &review.to_string()).await;
            assert_eq!(reply.status, 201, "{reply:?}");
            (reply.value["status"]["allowed"] == false).then_some(())
        };
        wait::until("the account has lost its rights", is_refused).await;
    }

    async fn assert_shown(&self, address: &str) {
        let is_shown = async || {
            let ingress = self.cluster.get("Ingress", self.served, "web").await;
            (ingress["status"]["loadBalancer"]["ingress"] == json!([{"ip": address}])).then_some(())
        };
        wait::until("the status shows the address", is_shown).await;
    }
}

/// The rights of a role.
fn rights(role: &Value, namespace: Option<&'static str>) -> Vec<Right> {
    let mut rights = Vec::new();
    for rule in role["rules"].as_array().unwrap() {
        for (group, resource) in texts(&rule["apiGroups"])
            .into_iter()
            .flat_map(|group| texts(&rule["resources"]).into_iter().map(move |resource| (group.clone(), resource)))
        {
            for verb in texts(&rule["verbs"]) {
                let names = texts(&rule["resourceNames"]);
                rights.push(Right { namespace, group: group.clone(), resource: resource.clone(), verb, names });
            }
        }
    }
    rights
}

/// The texts of a list, which may not be there.
fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// A pod on a node, for who asks where it runs.
async fn create_pod(cluster: &Cluster) {
    let create = async |kind: &str, object: Value| {
        let reply = cluster.request("POST", &collection(kind, OWN), &object.to_string()).await;
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
    cluster.patch("Pod", OWN, "pod/status", &ready).await;
}

/// The gateway with the arguments of the chart's Deployment, on addresses of its own.
async fn start(cluster: &Cluster) -> Gateway {
    let deployment = cluster.get("Deployment", OWN, "penstock-controller").await;
    let arguments = texts(&deployment["spec"]["template"]["spec"]["containers"][0]["args"]);
    let ours = ["--http=", "--https=", "--status="];
    let theirs = arguments.iter().skip(1).filter(|argument| !ours.iter().any(|flag| argument.starts_with(flag)));
    let flags: Vec<String> = theirs
        .map(|argument| match argument.split_once('=') {
            Some(("--validating-webhook", _)) => "--validating-webhook=127.0.0.1:0".to_owned(),
            _ => argument.replace("$(POD_NAMESPACE)", OWN),
        })
        .collect();
    let environment = [("POD_NAME", "pod"), ("POD_NAMESPACE", OWN)];
    let kubeconfig = cluster.kubeconfig_of(ACCOUNT, cluster.address());
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let gateway = Gateway::spawn_on_with_environment(&environment, &kubeconfig, &flags);
    gateway.wait_until_ready().await;
    gateway
}

#[tokio::test]
async fn the_gateway_needs_every_right_of_the_chart_and_no_other() {
    // With these, the chart gives all the rights in the whole cluster that it can give.
    let values = [
        "controller.admissionWebhooks.enabled=true",
        "controller.admissionWebhooks.namespaceSelector.matchLabels.judged=never",
        "controller.publishService.enabled=false",
        "controller.scope.enabled=true",
        "controller.scope.namespaceSelector=team=a",
        "controller.electionTTL=3s",
    ];
    let templates = ["rbac", "ingressclasses", "configmaps", "controller", "admission"];
    let roles = [("ClusterRole", None, "penstock"), ("Role", Some(OWN), "penstock")];
    let installation = Installation::new(&templates, &values, &roles).await;
    installation.serve().await;
    installation.gateway.wait_for("https://web.test/", |answer| answer.status == 404).await;
    installation.assert_every_right_is_used_and_nothing_is_refused().await;
    installation.assert_shown("192.0.2.1").await;
}

/// N-09: beyond the one namespace, it sees what it is told about itself.
#[tokio::test]
async fn for_one_namespace_it_needs_roles_and_of_the_cluster_the_classes_alone() {
    let values = [
        "rbac.scope=true",
        "controller.scope.enabled=true",
        "controller.scope.namespace=shop",
        "controller.extraArgs.default-ssl-certificate=default/fallback",
        "defaultBackend.enabled=true",
        "controller.electionTTL=3s",
    ];
    let templates = ["rbac", "ingressclasses", "configmaps", "controller", "services", "default-backend"];
    let roles =
        [("ClusterRole", None, "penstock"), ("Role", Some(OWN), "penstock"), ("Role", Some("shop"), "penstock-scope")];
    let installation = Installation::new(&templates, &values, &roles).await;
    let everywhere: BTreeSet<&str> = installation
        .granted
        .iter()
        .filter(|right| right.namespace.is_none())
        .map(|right| right.resource.as_str())
        .collect();
    assert_eq!(everywhere, ["ingressclasses"].into());
    let balanced = json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}]}}});
    installation.cluster.patch("Service", OWN, "penstock-controller/status", &balanced).await;
    installation.serve().await;
    installation.assert_every_right_is_used_and_nothing_is_refused().await;
    installation.assert_shown("203.0.113.5").await;
}

/// What may be seen by its name alone: a list of all Secrets of its namespace, however short, is refused.
#[tokio::test]
async fn for_one_namespace_the_default_certificate_is_followed_when_the_api_server_is_back() {
    let values = [
        "rbac.scope=true",
        "controller.scope.enabled=true",
        "controller.scope.namespace=shop",
        "controller.extraArgs.default-ssl-certificate=default/fallback",
        "controller.publishService.enabled=false",
    ];
    let templates = ["rbac", "ingressclasses", "configmaps", "controller"];
    let roles = [("Role", Some(OWN), "penstock"), ("Role", Some("shop"), "penstock-scope")];
    let Installation { cluster, gateway, .. } = Installation::new(&templates, &values, &roles).await;
    let renew = async |version: &str| {
        cluster.apply(OWN, &Certificate::self_signed(&[version]).secret("fallback")).await;
        wait_for_name(&gateway, "any.test", version).await;
    };
    renew("first").await;
    cluster.kill();
    gateway.wait_for_log(&["watch is interrupted", "kind=Secret"]).await;
    cluster.restart().await;
    renew("second").await;
}

/// As `helm uninstall` does: the rights go before the pods. The lease is long, so that it is this replica's to the end.
#[tokio::test]
async fn a_last_replica_that_has_lost_its_rights_leaves_the_addresses_and_says_so() {
    let values = [
        "controller.publishService.enabled=false",
        "controller.extraArgs.publish-status-address=192.0.2.1",
        "controller.extraArgs.lame-duck=0s",
        "controller.electionTTL=60s",
    ];
    let templates = ["rbac", "ingressclasses", "configmaps", "controller"];
    let roles = [("ClusterRole", None, "penstock"), ("Role", Some(OWN), "penstock")];
    let installation = Installation::new(&templates, &values, &roles).await;
    let route = ingress("web", "web.test", &[], &[("/", "none")]);
    installation.apply(&[of_class(&route, "nginx")]).await;
    installation.assert_shown("192.0.2.1").await;
    for (kind, namespace) in [("RoleBinding", OWN), ("ClusterRoleBinding", "")] {
        installation.cluster.delete(kind, namespace, "penstock").await;
    }
    installation.wait_until_refused("coordination.k8s.io", "leases").await;
    installation.wait_until_refused("networking.k8s.io", "ingresses/status").await;
    installation.gateway.signal(Signal::TERM);
    installation.gateway.wait_for_log(&["WARN", "the Lease is not given back", "forbidden"]).await;
    assert!(installation.gateway.wait_for_exit().await.success());
    installation.assert_shown("192.0.2.1").await;
}

/// The least that an installation for one namespace can be: neither a default backend nor a certificate.
#[tokio::test]
async fn a_published_service_needs_no_right_to_see_its_endpoints() {
    let values = ["rbac.scope=true", "controller.scope.enabled=true", "controller.scope.namespace=shop"];
    let templates = ["rbac", "ingressclasses", "configmaps", "controller", "services"];
    let roles = [("ClusterRole", None, "penstock"), ("Role", Some("shop"), "penstock-scope")];
    let installation = Installation::new(&templates, &values, &roles).await;
    let sees = |resource: &str| {
        installation
            .cluster
            .recorded()
            .iter()
            .any(|request| request["objectRef"]["namespace"] == OWN && request["objectRef"]["resource"] == resource)
    };
    assert!(sees("services") && !sees("endpointslices"));
}
