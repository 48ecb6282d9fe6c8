//! Active health checks: the annotation `penstock.dev/health-check` on a Service or an Ingress.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tests::manifests::{ingress, service};
use tests::upstream::full;
use tests::{Gateway, Manifests, Upstream, wait};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;

const TIMES: &str = "interval=100ms timeout=2s fall=2 rise=2";

/// A Service with the annotation.
fn checked(service: &str, check: &str) -> String {
    service.replacen(
        "metadata:\n",
        &format!("metadata:\n  annotations:\n    penstock.dev/health-check: {check} {TIMES}\n"),
        1,
    )
}

/// An Ingress for which only active checks count.
fn unforgiving(name: &str) -> String {
    ingress(
        name,
        &format!("{name}.test"),
        &[("proxy-next-upstream", "off"), ("passive-ejection", "off")],
        &[("/", "a")],
    )
    .replace("nginx.ingress.kubernetes.io/passive", "penstock.dev/passive")
}

async fn wait_for_down(gateway: &Gateway, n: f64) {
    let is_so = async || {
        let down = gateway.metric("penstock_health_check_endpoints", &["state=\"down\""]).await;
        (down == n).then_some(())
    };
    wait::until(&format!("{n} endpoints down; log:\n{}", gateway.log()), is_so).await;
}

async fn answers(gateway: &Gateway) -> Vec<String> {
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.push(gateway.get("http://a.test/").await.upstream());
    }
    answers.sort();
    answers.dedup();
    answers
}

#[tokio::test]
async fn a_killed_endpoint_leaves_the_rotation_through_the_check_alone_and_comes_back() {
    for check in ["tcp", "http:/healthz"] {
        let (stays, goes) = (Upstream::echo("stays").await, Upstream::echo("goes").await);
        let address = goes.address();
        let service = checked(&service("a", &[stays.address(), address]), check);
        let manifests = Manifests::of(&[service, unforgiving("a")].concat());
        let gateway = Gateway::start(&manifests, &[]).await;
        assert_eq!(answers(&gateway).await, ["goes", "stays"]);
        // Its slice still says that it is ready.
        drop(goes);
        wait_for_down(&gateway, 1.0).await;
        assert_eq!(answers(&gateway).await, ["stays"], "{check}");
        let _back = Upstream::echo_at("back", TcpListener::bind(address).await.unwrap());
        wait_for_down(&gateway, 0.0).await;
        assert_eq!(answers(&gateway).await, ["back", "stays"], "{check}");
    }
}

#[tokio::test]
async fn an_endpoint_that_says_it_is_not_well_leaves_the_rotation() {
    let is_well = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&is_well);
    let sick = Upstream::with(move |request| {
        let is_check = request.uri().path() == "/healthz";
        let status = if is_check && !told.load(Ordering::SeqCst) { 503 } else { 200 };
        Box::pin(async move { http::Response::builder().status(status).body(full("sick")).unwrap() })
    })
    .await;
    let well = Upstream::echo("well").await;
    let service = checked(&service("a", &[sick.address(), well.address()]), "http:/healthz");
    let manifests = Manifests::of(&[service, unforgiving("a")].concat());
    let gateway = Gateway::start(&manifests, &[]).await;
    assert_eq!(answers(&gateway).await, ["", "well"]);
    is_well.store(false, Ordering::SeqCst);
    wait_for_down(&gateway, 1.0).await;
    assert_eq!(answers(&gateway).await, ["well"]);
    is_well.store(true, Ordering::SeqCst);
    wait_for_down(&gateway, 0.0).await;
    assert_eq!(answers(&gateway).await, ["", "well"]);
}

#[tokio::test]
async fn an_endpoint_is_asked_once_however_many_routes_lead_to_it() {
    let upstreams = [Upstream::echo("a").await, Upstream::echo("b").await];
    let service = service("a", &upstreams.each_ref().map(Upstream::address));
    let mut text = checked(&service, "tcp");
    for name in ["a", "b", "c", "d"] {
        text.push_str(&unforgiving(name));
    }
    // The same port by its name.
    text.push_str(&unforgiving("e").replace("number: 80", "name: http"));
    let manifests = Manifests::of(&text);
    let gateway = Gateway::start(&manifests, &[]).await;
    let checks = async || gateway.metric("penstock_health_check_endpoints", &[]).await;
    wait::until("both are asked", async || (checks().await == 2.0).then_some(())).await;
    // Without the annotation nobody is asked.
    manifests.write("manifests.yaml", &[service, unforgiving("a")].concat());
    wait::until("nobody is asked", async || (checks().await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn the_annotation_of_an_ingress_counts_for_its_services() {
    let upstream = Upstream::echo("a").await;
    let ingress = unforgiving("a").replacen(
        "annotations:\n",
        &format!("annotations:\n    penstock.dev/health-check: http:/ {TIMES}\n"),
        1,
    );
    let manifests = Manifests::of(&[service("a", &[upstream.address()]), ingress].concat());
    let gateway = Gateway::start(&manifests, &[]).await;
    let is_asked = async || (upstream.n_requests() > 3).then_some(());
    wait::until("questions", is_asked).await;
    assert_eq!(gateway.metric("penstock_health_check_endpoints", &["state=\"up\""]).await, 1.0);
}

#[tokio::test]
async fn a_grpc_server_is_asked_by_its_own_protocol() {
    let (reporter, server) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_service(server);
    let serving = tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let tell = async |status| reporter.set_service_status("shop.Cart", status).await;
    tell(ServingStatus::Serving).await;
    let service = checked(&service("a", &[address]), "grpc:shop.Cart");
    let manifests = Manifests::of(&[service, unforgiving("a")].concat());
    let gateway = Gateway::start(&manifests, &[]).await;
    let is_asked = async || (gateway.metric("penstock_health_check_endpoints", &["up"]).await == 1.0).then_some(());
    wait::until("a check", is_asked).await;
    tell(ServingStatus::NotServing).await;
    wait_for_down(&gateway, 1.0).await;
    tell(ServingStatus::Serving).await;
    wait_for_down(&gateway, 0.0).await;
    serving.abort();
}
