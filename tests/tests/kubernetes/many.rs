//! Many objects: a start with all of them, a part of them gone while nobody looked, and all of a namespace gone at once
//! (K-03, K-06, K-17).

use std::time::Duration;

use serde_json::{Value, json};
use tests::manifests::service;
use tests::{Client, Cluster, Gateway, Relay, wait};

use crate::away::Hammer;

/// How many Ingresses there are.
const N_INGRESSES: usize = 10_000;
/// How many of them go while the API server is away.
const N_GONE: usize = 500;
/// How many go with their namespace.
const N_OF_TEAM: usize = 2_000;
/// How long it may take until they are gone here too: two seconds, and room for a machine that has other things to do.
const SOON: Duration = Duration::from_secs(10);
/// Every how many-th of those that stay is asked for again and again.
const STEP: usize = 95;

fn host(number: usize) -> String {
    format!("m{number}.test")
}

fn ingress(number: usize) -> Value {
    let goes = if number < N_GONE { "yes" } else { "no" };
    let backend = json!({"service": {"name": "many", "port": {"number": 80}}});
    let path = json!({"path": "/", "pathType": "Prefix", "backend": backend});
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": format!("m{number}"), "labels": {"goes": goes}},
        "spec": {"ingressClassName": "many", "rules": [{"host": host(number), "http": {"paths": [path]}}]},
    })
}

async fn statuses(client: &mut Client, numbers: impl Iterator<Item = usize>) -> Vec<u16> {
    let mut statuses = Vec::new();
    for number in numbers {
        statuses.push(client.get(&host(number), "/", &[]).await.status.as_u16());
    }
    statuses
}

#[tokio::test]
async fn thousands_of_routes_are_there_at_the_first_answer_and_only_those_that_went_are_missed() {
    let cluster = Cluster::start().await;
    cluster.class("many", "penstock.dev/ingress").await;
    let upstream = cluster.upstream("many").await;
    cluster.apply("default", &service("many", &[upstream.address()])).await;
    let ingresses: Vec<Value> = (0..N_INGRESSES).map(ingress).collect();
    cluster.create_all("Ingress", "default", &ingresses).await;

    let relay = Relay::to(cluster.address()).await;
    let gateway = Gateway::spawn_on(&cluster.kubeconfig_of("admin", relay.address()), &[]);
    let connected = async || Client::try_http1(gateway.addresses().http).await.ok();
    let mut client = wait::until("the gateway accepts", connected).await;
    // Each of them once, the last one first. The gateway ends a connection after a thousand requests.
    for first in (0..N_INGRESSES).step_by(500).rev() {
        let answers = statuses(&mut client, (first..first + 500).rev()).await;
        assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
        client = Client::http1(gateway.addresses().http).await;
    }
    gateway.wait_until_ready().await;

    let hammer = Hammer::start(&gateway, (N_GONE..N_INGRESSES).step_by(STEP).map(host).collect());
    relay.cut();
    gateway.wait_for_log(&["watch is interrupted", "kind=Ingress"]).await;
    cluster.delete_all("Ingress", "default", "goes=yes").await;
    // What happened meanwhile is forgotten with it.
    cluster.kill();
    cluster.restart().await;
    relay.restore();
    gateway.wait_for(&format!("http://{}/", host(0)), |answer| answer.status == 404).await;
    let mut client = Client::http1(gateway.addresses().http).await;
    let gone = statuses(&mut client, 0..N_GONE).await;
    assert!(gone.iter().all(|status| *status == 404), "{gone:?}");
    hammer.more(N_INGRESSES / STEP).await;
    hammer.end().await;
}

#[tokio::test]
async fn a_namespace_that_goes_with_all_its_routes_is_soon_gone_and_costs_others_nothing() {
    let cluster = Cluster::start().await;
    cluster.class("many", "penstock.dev/ingress").await;
    cluster.namespace("team").await;
    let upstream = cluster.upstream("many").await;
    for namespace in ["default", "team"] {
        cluster.apply(namespace, &service("many", &[upstream.address()])).await;
    }
    cluster.create_all("Ingress", "default", &[ingress(N_OF_TEAM)]).await;
    cluster.create_all("Ingress", "team", &(0..N_OF_TEAM).map(ingress).collect::<Vec<_>>()).await;
    let gateway = Gateway::start_on(&cluster.kubeconfig(), &[]).await;
    let mut client = Client::http1(gateway.addresses().http).await;
    assert_eq!(statuses(&mut client, [0, N_OF_TEAM - 1].into_iter()).await, [200, 200]);
    let hammer = Hammer::start(&gateway, vec![host(N_OF_TEAM)]);
    let n_compiled = async || gateway.metric("penstock_recompiled_hosts_total", &[]).await;
    let before = n_compiled().await;
    assert!(before > N_OF_TEAM as f64, "{before}");
    // What is left of deleting a namespace where nothing runs that would.
    cluster.delete_all("Ingress", "team", "").await;
    let are_gone = async || {
        let mut client = Client::http1(gateway.addresses().http).await;
        let left = statuses(&mut client, (0..N_OF_TEAM).rev().step_by(STEP)).await;
        left.iter().all(|status| *status == 404).then_some(())
    };
    wait::within(SOON, "the routes are gone", are_gone).await;
    let n_compiled = n_compiled().await - before;
    assert!(n_compiled <= 10.0, "{n_compiled} hosts were compiled because others went");
    hammer.more(100).await;
    hammer.end().await;
}
