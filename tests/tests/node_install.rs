//! `deploy/` on a real cluster: what the chart and the rendered manifests make, run and leave behind.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tests::node::{GATEWAY_IMAGE, NODE, Namespace, helm, kubectl, run, succeeded, until_port_leads_to_a_pod};
use tests::release::{CHART, Release, echo, try_get, until_served};
use tests::{Client, wait};
use tokio::sync::Mutex;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");

/// A pod that is about to go accepts for as long as nodes may take to learn of it.
const PATIENT: &str = "controller.extraArgs.lame-duck=5s";

/// A webhook for the namespaces of this test.
const JUDGING: &str =
    "controller.admissionWebhooks.enabled=true,controller.admissionWebhooks.namespaceSelector.matchLabels.judged=yes";

/// Held by tests that use the node's own ports, or the IngressClass `nginx` that fixed manifests have.
static NODE_IS_MINE: Mutex<()> = Mutex::const_new(());

/// Waits until the API server refuses an annotation of the echo server's Ingress, because the gateway says so.
async fn until_judged(namespace: &Namespace) {
    let annotation = "nginx.ingress.kubernetes.io/ssl-redirect=maybe";
    let namespace = ["--namespace", namespace.name()];
    let annotate = ["annotate", "--overwrite", "--dry-run=server", "ingress", "echo", annotation];
    let arguments = [&namespace[..], &annotate].concat();
    wait::until("an annotation is refused", async || {
        let output = run("kubectl", &arguments, "");
        let said = String::from_utf8_lossy(&output.stderr);
        (said.contains("denied the request") && said.contains("ssl-redirect")).then_some(())
    })
    .await;
}

// Pods that Kubernetes' strictest profile allows: not root, no rights but that to bind low ports.
#[tokio::test]
async fn a_deployment_within_the_restricted_profile_serves_and_judges_through_an_upgrade_and_leaves_nothing() {
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    let backend = Namespace::create("backend");
    let tcp = format!("tcp.9000={}/echo:80", backend.name());
    let release = Release::install("deployment", &[restricted], &[PATIENT, JUDGING, &tcp]);
    echo(&backend, release.name());
    let address = release.node_port("http").await;
    until_served(address, &backend).await;
    let port = release.node_port("9000-tcp").await;
    let passed_on = wait::until("the TCP service is reached", async || try_get(port, "any.test").await).await;
    assert_eq!(passed_on.upstream(), backend.name());
    kubectl(&["label", "namespace", backend.name(), "judged=yes"]);
    until_judged(&backend).await;

    let (done, host) = (Arc::new(AtomicBool::new(false)), format!("{}.test", backend.name()));
    let load = tokio::spawn({
        let done = Arc::clone(&done);
        async move {
            let mut statuses = Vec::new();
            while !done.load(Ordering::Relaxed) {
                statuses.push(try_get(address, &host).await.map(|answer| answer.status.as_u16()));
            }
            statuses
        }
    });
    let (release, pods) = tokio::task::spawn_blocking(move || {
        let pods = |selector: &str, output: &str| {
            let selector = format!("app.kubernetes.io/component=controller{selector}");
            release.namespace.kubectl(&["get", "pods", "--selector", &selector, output])
        };
        let version = pods("", "--output=jsonpath={.items[0].metadata.labels.pod-template-hash}");
        release.helm(
            "upgrade",
            &["controller.replicaCount=2", "controller.podAnnotations.upgraded=yes", PATIENT, JUDGING, &tcp],
        );
        // A Deployment that grows may give its old version one more pod first.
        let old = pods(&format!(",pod-template-hash={version}"), "--output=name");
        for pod in old.lines() {
            release.namespace.kubectl(&["wait", "--for=delete", pod, "--timeout=60s"]);
        }
        let pods = pods("", "--output=name");
        assert!(!pods.contains(&version), "{version} is among {pods}");
        (release, pods)
    })
    .await
    .unwrap();
    assert_eq!(pods.lines().count(), 2, "{pods}");
    done.store(true, Ordering::Relaxed);
    let statuses = load.await.unwrap();
    let failed = statuses.iter().filter(|status| **status != Some(200)).count();
    assert!(statuses.len() > 10 && failed == 0, "{failed} of {} requests failed during the upgrade", statuses.len());
    until_judged(&backend).await;
    release.uninstall().await;
}

// While kubectl waits, its client takes leave of the gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_daemon_set_serves_on_the_ports_of_its_node_and_shows_its_address_while_it_is_there() {
    let _node = NODE_IS_MINE.lock().await;
    let values = [
        "controller.kind=DaemonSet",
        "controller.hostNetwork=true",
        "controller.service.enabled=false",
        "controller.tolerations[0].operator=Exists",
    ];
    let release = Release::install("daemon-set", &[], &values);
    let backend = Namespace::create("backend");
    echo(&backend, release.name());
    until_served(SocketAddr::new(NODE, 80), &backend).await;
    let mut client = Client::https2(SocketAddr::new(NODE, 443), Some("any.test")).await;
    assert_eq!(client.get(&format!("{}.test", backend.name()), "/", &[]).await.upstream(), backend.name());
    let shown = || {
        let path = "--output=jsonpath={.status.loadBalancer.ingress[*].ip}";
        backend.kubectl(&["get", "ingress", "echo", path])
    };
    let is_shown = async || (shown() == NODE.to_string()).then_some(());
    wait::until("the address of the node is the status", is_shown).await;
    // As deploy/README.md has it: whoever uninstalls at once takes the rights away before the pods have gone.
    let pods = "--selector=app.kubernetes.io/component=controller";
    let delete = ["delete", "deployment,daemonset", pods, "--cascade=foreground", "--timeout=60s"];
    release.namespace.kubectl(&delete);
    assert_eq!(shown(), "");
    release.uninstall().await;
}

// Seed 3's DaemonSet: an old image's name, arguments that begin with its program, no user of its own.
#[tokio::test]
async fn the_manifest_of_an_ingress_nginx_daemon_set_runs_the_gateway() {
    let _node = NODE_IS_MINE.lock().await;
    let seed =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seeds/003/ingress-nginx-daemonset.yaml"))
            .unwrap();
    let image = seed.lines().find_map(|line| line.trim().strip_prefix("image: ")).unwrap();
    succeeded("ctr", &[], &run("ctr", &["images", "tag", "--force", *GATEWAY_IMAGE, image], ""));
    let namespace = Namespace::create("seed");
    let name = namespace.name();
    let account = format!("--serviceaccount={name}:default");
    kubectl(&["create", "clusterrolebinding", name, "--clusterrole=cluster-admin", &account]);
    namespace.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: nginx-configuration}}");
    namespace.apply(&seed.replace("  namespace: ingress-nginx\n", ""));
    namespace.kubectl(&["rollout", "status", "daemonset/ingress-nginx", "--timeout=60s"]);
    let class = format!(
        "{{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {{name: {name}}}, \
         spec: {{controller: k8s.io/ingress-nginx}}}}"
    );
    namespace.apply(&class);
    echo(&namespace, name);
    until_served(SocketAddr::new(NODE, 80), &namespace).await;
    // The node's ports are free again only when the pod has gone.
    namespace.kubectl(&["delete", "daemonset", "ingress-nginx"]);
    namespace.kubectl(&["wait", "--for=delete", "pod", "--selector=app=ingress-nginx", "--timeout=60s"]);
    kubectl(&["delete", "ingressclass,clusterrolebinding", name]);
}

#[tokio::test]
async fn the_manifests_for_bare_metal_serve_on_their_node_ports() {
    let _node = NODE_IS_MINE.lock().await;
    let manifests = format!("{DEPLOY}/static/baremetal.yaml");
    let text = std::fs::read_to_string(&manifests).unwrap();
    let image = text.lines().find_map(|line| line.trim().strip_prefix("image: ")).unwrap();
    succeeded("ctr", &[], &run("ctr", &["images", "tag", "--force", *GATEWAY_IMAGE, image], ""));
    kubectl(&["apply", "--filename", &manifests]);
    kubectl(&["--namespace=penstock", "rollout", "status", "deployment/penstock-controller", "--timeout=60s"]);
    let backend = Namespace::create("backend");
    echo(&backend, "nginx");
    until_port_leads_to_a_pod(30080).await;
    until_served(SocketAddr::new(NODE, 30080), &backend).await;
    let mut client = Client::https1(SocketAddr::new(NODE, 30443), Some("any.test")).await;
    assert_eq!(client.get(&format!("{}.test", backend.name()), "/", &[]).await.upstream(), backend.name());
    drop(client);
    // The kustomize base, which differs in the kind of its Service.
    kubectl(&["apply", "--dry-run=server", "--validate=strict", "--kustomize", &format!("{DEPLOY}/static")]);
    // A namespace waits for as long as its pods might.
    kubectl(&["--namespace=penstock", "delete", "deployment", "penstock-controller"]);
    kubectl(&["--namespace=penstock", "wait", "--for=delete", "pod", "--all", "--timeout=60s"]);
    kubectl(&["delete", "--filename", &manifests, "--ignore-not-found", "--timeout=60s"]);
}

#[test]
fn rendered_manifests_are_current() {
    let fresh = tempfile::tempdir().unwrap();
    let render = format!("{DEPLOY}/static/render");
    let arguments = [fresh.path().to_str().unwrap()];
    succeeded(&render, &arguments, &run(&render, &arguments, ""));
    for name in ["cloud.yaml", "baremetal.yaml"] {
        let committed = std::fs::read_to_string(Path::new(DEPLOY).join("static").join(name)).unwrap();
        let rendered = std::fs::read_to_string(fresh.path().join(name)).unwrap();
        assert!(committed == rendered, "deploy/static/{name} is out of date: run deploy/static/render");
        let version = format!("image: ghcr.io/penstock/gateway:{}\n", env!("CARGO_PKG_VERSION"));
        assert!(rendered.contains(&version), "the chart is not of this version");
    }
}

#[test]
fn the_chart_is_linted_and_refuses_values_that_mean_nothing() {
    helm(&["lint", "--strict", CHART]);
    helm(&["lint", "--strict", CHART, "--values", &format!("{CHART}/ci/everything-values.yaml")]);
    let by_cert_manager =
        "controller.admissionWebhooks.enabled=true,controller.admissionWebhooks.certManager.enabled=true";
    helm(&["lint", "--strict", CHART, "--set", by_cert_manager]);
    for value in [
        "controller.replicacount=2",
        "controller.kind=StatefulSet",
        "controller.handover.enabled=true",
        "tcp.http=ns/service:1",
    ] {
        let output = run("helm", &["template", "a", CHART, "--set", value], "");
        assert!(!output.status.success(), "{value}");
    }
}

#[tokio::test]
async fn the_api_server_takes_every_object_that_the_chart_can_make() {
    let programs = run("sh", &["-c", "dirname \"$(command -v helm)\""], "");
    let programs = String::from_utf8(programs.stdout).unwrap();
    for kind in ["podmonitors", "prometheusrules", "servicemonitors"] {
        let file = format!("{}/monitoring.coreos.com_{kind}.yaml", programs.trim());
        kubectl(&["apply", "--server-side", "--filename", &file]);
        let name = format!("customresourcedefinition/{kind}.monitoring.coreos.com");
        kubectl(&["wait", "--for=condition=Established", &name, "--timeout=30s"]);
    }
    let namespace = Namespace::create("everything");
    let everything = format!("{CHART}/ci/everything-values.yaml");
    let name = namespace.name();
    let rendered = helm(&["template", name, CHART, "--namespace", name, "--values", &everything]);
    let arguments = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename=-"];
    wait::until("the new kinds are known", async || {
        let output = run("kubectl", &arguments, &rendered);
        let said = String::from_utf8_lossy(&output.stderr);
        (!said.contains("no matches for kind")).then(|| succeeded("kubectl", &arguments, &output))
    })
    .await;
}
