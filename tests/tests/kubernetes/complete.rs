//! Ready means complete (K-05): nothing is accepted before every kind was listed to its end, and then the first answer is
//! right.

use serde_json::{Value, json};
use tests::certificate::Certificate;
use tests::manifests::{config_map, ingress, service, tls};
use tests::{Client, Cluster, Gateway, Interposer, Relay, wait};

use crate::away::Hammer;
use crate::of_class;

async fn assert_not_ready(gateway: &Gateway, why: &str) {
    let readiness = wait::until("the status endpoint", async || gateway.try_status("/readyz").await).await;
    assert_eq!(readiness.status, 503, "{why}");
    assert_eq!(gateway.status("/healthz").await.status, 200, "{why}");
    assert!(Client::try_http1(gateway.addresses().http).await.is_err(), "{why}: nothing is bound yet");
}

/// The first connection that is accepted.
async fn first(gateway: &Gateway) -> Client {
    let connected = async || Client::try_http1(gateway.addresses().http).await.ok();
    wait::until("the gateway accepts", connected).await
}

#[tokio::test]
async fn whichever_kind_comes_late_nothing_is_accepted_before_it() {
    let cluster = Cluster::start().await;
    cluster.class("late", "penstock.dev/ingress").await;
    cluster.patch("Namespace", "", "default", &json!({"metadata": {"labels": {"team": "a"}}})).await;
    let upstream = cluster.upstream("late").await;
    let route = ingress("late", "late.test", &[("ssl-redirect", "false")], &[("/", "late")]);
    let manifests = [
        config_map("settings", &[("proxy-body-size", "2m")]),
        Certificate::self_signed(&["late.test"]).secret("late"),
        service("late", &[upstream.address()]),
        format!("{}{}", of_class(&route, "late"), tls(&["late.test"], "late")),
    ];
    for manifest in manifests {
        cluster.apply("default", &manifest).await;
    }
    let flags = ["--configmap=default/settings", "--watch-namespace-selector=team=a"];
    let kinds = [
        "/namespaces?",
        "/ingressclasses?",
        "/ingresses?",
        "/services?",
        "/endpointslices?",
        "/configmaps?",
        "/secrets?",
    ];
    let mut delayed = Vec::new();
    for kind in kinds {
        let interposer = Interposer::before(&cluster).await;
        interposer.hold(kind);
        let gateway = Gateway::spawn_on(&cluster.kubeconfig_of("admin", interposer.address()), &flags);
        delayed.push((kind, interposer, gateway));
    }
    // One that started after them has all of it.
    let prompt = Gateway::start_on(&cluster.kubeconfig(), &flags).await;
    assert_eq!(prompt.get("http://late.test/").await.upstream(), "late");
    for (kind, interposer, gateway) in &delayed {
        wait::until("the kind is asked for", async || (interposer.n_asked(kind) > 0).then_some(())).await;
        assert_not_ready(gateway, kind).await;
    }
    for (kind, interposer, gateway) in &delayed {
        interposer.release();
        let mut client = first(gateway).await;
        assert_eq!(client.get("late.test", "/", &[]).await.upstream(), "late", "{kind}");
        let client = Client::https1(gateway.addresses().https, Some("late.test")).await;
        assert_eq!(client.common_name(), "late.test", "{kind}");
    }
}

/// More than fit on two pages.
const N_INGRESSES: usize = 1_200;

fn many(number: usize) -> Value {
    let backend = json!({"service": {"name": "paged", "port": {"number": 80}}});
    let path = json!({"path": "/", "pathType": "Prefix", "backend": backend});
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": format!("p{number}")},
        "spec": {"ingressClassName": "paged", "rules": [{"host": format!("p{number}.test"), "http": {"paths": [path]}}]},
    })
}

#[tokio::test]
async fn a_list_that_breaks_off_between_its_pages_is_no_list() {
    // An API server that streams no lists.
    let cluster = Cluster::start_with(&["--feature-gates=WatchList=false"]).await;
    cluster.class("paged", "penstock.dev/ingress").await;
    let upstream = cluster.upstream("paged").await;
    cluster.apply("default", &service("paged", &[upstream.address()])).await;
    cluster.create_all("Ingress", "default", &(0..N_INGRESSES).map(many).collect::<Vec<_>>()).await;
    let interposer = Interposer::before(&cluster).await;
    let next_page = "continue=";
    interposer.fail(Some(next_page));
    let relay = Relay::to(interposer.address()).await;
    let gateway = Gateway::spawn_on(&cluster.kubeconfig_of("admin", relay.address()), &[]);
    let has_failed = async |n_times: usize| {
        let enough = interposer.n_asked(next_page) + n_times;
        wait::until("a page fails", async || (interposer.n_asked(next_page) >= enough).then_some(())).await;
    };
    has_failed(2).await;
    assert_not_ready(&gateway, "a page fails").await;
    interposer.fail(None);
    let mut client = first(&gateway).await;
    let hosts: Vec<String> = (0..N_INGRESSES).step_by(100).map(|number| format!("p{number}.test")).collect();
    for host in &hosts {
        assert_eq!(client.get(host, "/", &[]).await.status, 200, "{host}");
    }

    // The same again while it serves: what was on the pages that are missing stays.
    let hammer = Hammer::start(&gateway, hosts);
    interposer.fail(Some(next_page));
    relay.cut();
    gateway.wait_for_log(&["watch is interrupted", "kind=Ingress"]).await;
    cluster.delete("Ingress", "default", "p1").await;
    cluster.kill();
    cluster.restart().await;
    relay.restore();
    has_failed(2).await;
    hammer.more(100).await;
    interposer.fail(None);
    gateway.wait_for("http://p1.test/", |answer| answer.status == 404).await;
    hammer.more(100).await;
    hammer.end().await;
}
