//! Objects as large and as odd as an API server takes them (K-08, K-18): what is wrong is said of the object, and nobody
//! else notices.

use serde_json::{Value, json};
use tests::manifests::service;
use tests::{Gateway, wait};

use crate::Own;

fn backend(service: &str) -> Value {
    json!({"service": {"name": service, "port": {"number": 80}}})
}

/// An Ingress of the class of a test.
fn ingress(own: &Own, name: &str, annotations: &Value, rules: &Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name, "annotations": annotations},
        "spec": {"ingressClassName": own.name, "rules": rules},
    })
}

fn rule(host: &str, path: &str, service: &str) -> Value {
    json!({"host": host, "http": {"paths": [{"path": path, "pathType": "ImplementationSpecific", "backend": backend(service)}]}})
}

/// Objects that the API server takes.
fn bombs(own: &Own) -> Vec<Value> {
    let many: Vec<Value> = (0..8_000).map(|number| json!({"host": format!("b{number}.bombs.test")})).collect();
    let same: Vec<Value> = (0..500).map(|_| rule("same.bombs.test", "/", "web")).collect();
    let nested = format!("/{}a{}", "(".repeat(300), ")*".repeat(300));
    let regex = json!({"nginx.ingress.kubernetes.io/use-regex": "true"});
    let long = json!({"nginx.ingress.kubernetes.io/rewrite-target": "/x".repeat(100_000)});
    let no_host = json!([{"http": {"paths": [{"path": "/bomb", "pathType": "Prefix", "backend": backend("web")}]}}]);
    vec![
        ingress(own, "rules", &json!({}), &json!(many)),
        ingress(own, "same", &json!({}), &json!(same)),
        ingress(own, "regex", &regex, &json!([rule("regex.bombs.test", &nested, "web")])),
        ingress(own, "long", &long, &json!([rule("long.bombs.test", "/", "web")])),
        ingress(own, "nobody", &json!({}), &no_host),
    ]
}

/// Everything that a host of the snapshot has.
async fn of_host(gateway: &Gateway, host: &str) -> Value {
    let snapshot: Value = serde_json::from_slice(&gateway.admin("/snapshot").await.body).unwrap();
    let hosts = snapshot["hosts"].as_object().unwrap();
    hosts.iter().filter(|(key, _)| key.ends_with(&format!("/{host}"))).map(|(_, entry)| entry.clone()).collect()
}

#[tokio::test]
async fn object_bombs_change_no_answer_of_others_and_are_told_what_is_wrong() {
    let own = Own::new("bombs").await;
    let upstream = own.cluster.upstream("web").await;
    own.apply(&[service("web", &[upstream.address()]), own.ingress("good", "good.bombs.test", "web")].concat()).await;
    let gateway = own.start(&[]).await;
    assert_eq!(gateway.get("http://good.bombs.test/").await.status, 200);
    let before = of_host(&gateway, "good.bombs.test").await;
    own.cluster.create_all("Ingress", own.name, &bombs(&own)).await;
    gateway.wait_for("http://same.bombs.test/", |answer| answer.status == 200).await;
    own.apply(&own.ingress("after", "after.bombs.test", "web")).await;
    gateway.wait_for("http://after.bombs.test/", |answer| answer.status == 200).await;
    for name in ["regex", "same"] {
        let find = async || {
            let events = own.cluster.list("Event", own.name).await;
            events.into_iter().find(|event| event["involvedObject"]["name"] == name && event["type"] == "Warning")
        };
        wait::until(&format!("Ingress {name} is told what is wrong"), find).await;
    }
    assert_eq!(of_host(&gateway, "good.bombs.test").await, before);
    assert_eq!(gateway.get("http://good.bombs.test/").await.upstream(), "web");
    // What nobody can store: the API server itself says no.
    for spec in [json!(null), json!({"rules": [rule("*", "/", "web")]}), json!({"rules": [rule("a b", "/", "web")]})] {
        let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "never"}, "spec": spec});
        let target = tests::cluster::collection("Ingress", own.name);
        let reply = own.cluster.request("POST", &target, &object.to_string()).await;
        assert_eq!(reply.status, 422, "{reply:?}");
    }
}

/// A slice with addresses of a family.
fn slice(name: &str, family: &str, addresses: &[String], port: u16) -> Value {
    let endpoints: Vec<Value> =
        addresses.iter().map(|address| json!({"addresses": [address], "conditions": {"ready": true}})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "large"}},
        "endpoints": endpoints, "ports": [{"name": "http", "port": port}],
    })
}

/// K-18: thirty slices with 3,000 endpoints, some of them twice, and those of the other family.
#[tokio::test]
async fn a_service_has_the_endpoints_of_all_its_slices_and_of_both_families() {
    let own = Own::new("slices").await;
    own.apply(&[service("large", &[]), own.ingress("web", "web.slices.test", "large")].concat()).await;
    let gateway = own.start(&[]).await;
    let mut slices: Vec<Value> = (0..30)
        .map(|slice_number| {
            let addresses: Vec<String> = (0..100).map(|number| format!("198.18.{slice_number}.{number}")).collect();
            slice(&format!("large-{slice_number}"), "IPv4", &addresses, 8080)
        })
        .collect();
    let sixth: Vec<String> = (1..=100).map(|number| format!("2001:db8::{number:x}")).collect();
    slices.push(slice("large-v6", "IPv6", &sixth, 8080));
    // As it is while a slice is split: an endpoint is in two of them for a moment.
    slices.push(slice("large-twice", "IPv4", &["198.18.0.7".to_owned()], 8080));
    own.cluster.create_all("EndpointSlice", own.name, &slices).await;
    let n_endpoints = async || {
        let text = gateway.admin("/snapshot").await.text();
        [text.matches("198.18.").count(), text.matches("2001:db8::").count()]
    };
    let are_all_there = async || (n_endpoints().await == [3_000, 100]).then_some(());
    wait::until("all endpoints are there, each of them once", are_all_there).await;
    own.cluster.delete("EndpointSlice", own.name, "large-v6").await;
    let are_fewer = async || (n_endpoints().await == [3_000, 0]).then_some(());
    wait::until("those of the other family are gone", are_fewer).await;
    own.cluster.delete("EndpointSlice", own.name, "large-twice").await;
    own.cluster.delete("EndpointSlice", own.name, "large-29").await;
    let are_fewer = async || (n_endpoints().await == [2_900, 0]).then_some(());
    wait::until("one slice is gone, and what was twice is there once", are_fewer).await;
}
