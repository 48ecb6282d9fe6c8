//! Upgrades in a real Kubernetes: pods that hand over to each other, and a container whose gateway is replaced in place.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};

use tempfile::TempDir;
use tests::gateway::Addresses;
use tests::handoff::{OTHER_VERSION, Place, VERSION};
use tests::load::{Kind, Lane, Load};
use tests::manifests::{ingress, service};
use tests::node::{GATEWAY_IMAGE, NODE, Namespace, import_gateway};
use tests::release::{Release, echo, until_served};
use tests::{Client, Upstream, wait};

/// The user of the image.
const USER: u32 = 65532;

/// A load of every kind of connection.
fn load(http: SocketAddr, https: SocketAddr, host: &str) -> Load {
    let lane = |(kind, address)| Lane { kind, address, host: host.to_owned(), path: "/".to_owned() };
    let lanes = [(Kind::Http1, http), (Kind::Http2Reopened, http), (Kind::New, http), (Kind::NewTls, https)];
    Load::start(lanes.map(lane).to_vec())
}

async fn assert_none_lost(load: Load) {
    load.wait_for(500).await;
    let outcomes = load.stop().await;
    let lost: Vec<_> = outcomes.iter().filter(|outcome| !outcome.summary().starts_with("200")).collect();
    assert!(outcomes.len() >= 1000, "{} requests", outcomes.len());
    assert!(lost.is_empty(), "{} of {} lost: {:?}", lost.len(), outcomes.len(), lost.first());
}

/// The version of the process that answers.
async fn version(status: SocketAddr) -> String {
    let mut client = Client::http1(status).await;
    let text = client.get("gateway", "/metrics", &[]).await.text();
    let line = text.lines().find(|line| line.starts_with("nginx_ingress_controller_build_info{")).unwrap();
    let (_, rest) = line.split_once("release=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

/// Runs something that takes its time beside everything else.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

// The old pod goes when the new one is ready: that it is ready no sooner than it serves is up to its probe, which must
// not take the answer of the old one for its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_a_daemon_set_hand_over_to_each_other() {
    let values = [
        "controller.kind=DaemonSet",
        "controller.hostNetwork=true",
        "controller.handover.enabled=true",
        "controller.service.enabled=false",
        "controller.tolerations[0].operator=Exists",
        "controller.readinessProbe.periodSeconds=1",
        "controller.extraArgs.handoff-probation=1s",
    ];
    let [status, http, https] = [10254, 80, 443].map(|port| SocketAddr::new(NODE, port));
    let release = Release::install("hand-over", &[], &values);
    let backend = Namespace::create("backend");
    echo(&backend, release.name());
    until_served(http, &backend).await;
    assert_eq!(version(status).await, VERSION);
    import_gateway("docker.io/penstock/gateway:other", &Place::new().other_version());

    let pods = "--output=jsonpath={.items[*].metadata.name}";
    let restarts = "--output=jsonpath={.items[*].status.containerStatuses[*].restartCount}";
    let before = release.namespace.kubectl(&["get", "pods", pods]);
    release.begin_upgrade(&[&values[..], &["controller.extraArgs.threads=0"]].concat());
    wait::until("a pod that cannot serve has ended", async || {
        let restarts = release.namespace.kubectl(&["get", "pods", restarts]);
        restarts.split(' ').any(|n_restarts| !matches!(n_restarts, "" | "0")).then_some(())
    })
    .await;
    assert!(release.namespace.kubectl(&["get", "pods", pods]).contains(&before), "it has replaced a pod");

    let load = load(http, https, &format!("{}.test", backend.name()));
    load.wait_for(500).await;
    let (release, before) = beside(move || {
        release.helm("upgrade", &[&values[..], &["controller.image.tag=other"]].concat());
        let gone = format!("pod/{before}");
        release.namespace.kubectl(&["wait", "--for=delete", &gone, "--timeout=60s"]);
        (release, before)
    })
    .await;
    assert_none_lost(load).await;
    assert_eq!(version(status).await, OTHER_VERSION, "another program answers");
    assert_ne!(release.namespace.kubectl(&["get", "pods", pods]), before);
    let is_alone = async || (release.namespace.kubectl(&["get", "pods", restarts]) == "0").then_some(());
    wait::until("one pod is left, which has never ended", is_alone).await;
    release.uninstall().await;
}

/// A gateway on the network of the node, whose manifests are in a ConfigMap and whose directory is one of the node.
struct Supervised {
    namespace: Namespace,
    addresses: Addresses,
    directory: TempDir,
    _upstream: Upstream,
}

impl Supervised {
    async fn start() -> Self {
        let namespace = Namespace::create("supervised");
        let upstream = Upstream::echo("a").await;
        let manifests = [service("a", &[upstream.address()]), ingress("a", "a.test", &[], &[("/", "a")])].concat();
        let manifests = manifests.replace('\n', "\n    ");
        let (addresses, directory) = (Addresses::reserve(), TempDir::new().unwrap());
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        chown(directory.path(), Some(USER), Some(USER)).unwrap();
        let flags = addresses.flags().into_iter().map(|flag| format!("'{flag}'")).collect::<Vec<_>>().join(", ");
        namespace.apply(&format!(
            "apiVersion: v1
kind: ConfigMap
metadata: {{name: manifests}}
data:
  all.yaml: |
    {manifests}
---
apiVersion: v1
kind: Pod
metadata: {{name: gateway}}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 600
  containers:
  - name: gateway
    image: {}
    args: [supervise, --, run, --manifests=/manifests, --handoff-socket=/shared/socket, --handoff-probation=1s,
           --lame-duck=0s, {flags}]
    securityContext: {{runAsUser: {USER}, runAsGroup: {USER}, readOnlyRootFilesystem: true}}
    volumeMounts:
    - {{name: manifests, mountPath: /manifests}}
    - {{name: shared, mountPath: /shared}}
  volumes:
  - {{name: manifests, configMap: {{name: manifests}}}}
  - {{name: shared, hostPath: {{path: {}, type: Directory}}}}
",
            *GATEWAY_IMAGE,
            directory.path().display()
        ));
        let supervised = Self { namespace, addresses, directory, _upstream: upstream };
        wait::until("the gateway serves", async || {
            let mut client = Client::try_http1(addresses.http).await.ok()?;
            let request = client.request("GET", "a.test", "/", &[], "");
            (client.try_send(request).await.ok()?.status == 200).then_some(())
        })
        .await;
        supervised
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_stays_while_its_gateway_is_replaced() {
    let Supervised { namespace, addresses, directory, _upstream } = Supervised::start().await;
    std::fs::copy(Place::new().other_version(), directory.path().join("gateway")).unwrap();
    assert_eq!(version(addresses.status).await, VERSION);
    let load = load(addresses.http, addresses.https, "a.test");
    load.wait_for(500).await;
    let (socket, binary) = ("--handoff-socket=/shared/socket", "--binary=/shared/gateway");
    let namespace = beside(move || {
        namespace.kubectl(&["exec", "gateway", "--", "/gateway", "upgrade", socket, binary]);
        namespace
    })
    .await;
    assert_none_lost(load).await;
    assert_eq!(version(addresses.status).await, OTHER_VERSION, "another program answers");
    let state = "--output=jsonpath={.status.containerStatuses[0].ready} {.status.containerStatuses[0].restartCount}";
    assert_eq!(namespace.kubectl(&["get", "pod", "gateway", state]), "true 0");
    // The container ends with its last gateway, long before the kubelet would kill it.
    beside(move || namespace.kubectl(&["delete", "pod", "gateway", "--timeout=60s"])).await;
}
