//! What happens when an endpoint fails: `proxy-next-upstream`, the retry budget, passive ejection.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tests::manifests::{ingress, service};
use tests::upstream::{full, refusing_address};
use tests::{Client, Gateway, Manifests, Upstream, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// An upstream that answers everything with one status.
async fn answering(status: u16) -> Upstream {
    Upstream::with(move |_| {
        Box::pin(async move { http::Response::builder().status(status).body(full(format!("{status}"))).unwrap() })
    })
    .await
}

/// An upstream that reads a whole request of one packet and closes the connection.
async fn closing() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (address, n_requests) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&n_requests);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 64 << 10];
            if stream.read(&mut head).await.is_ok_and(|length| length > 0) {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    (address, n_requests)
}

/// A gateway with one Ingress for `a.test`, whose Service has these endpoints.
async fn gateway(annotations: &[(&str, &str)], endpoints: &[SocketAddr]) -> (Gateway, Manifests) {
    let text = [service("a", endpoints), ingress("a", "a.test", annotations, &[("/", "a")])].concat();
    let manifests = Manifests::of(&text.replace("nginx.ingress.kubernetes.io/passive", "penstock.dev/passive"));
    (Gateway::start(&manifests, &[]).await, manifests)
}

/// The statuses of so many requests with a small body.
async fn statuses(gateway: &Gateway, method: &str, n: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..n {
        let mut client = Client::http1(gateway.addresses().http).await;
        let request = client.request(method, "a.test", "/", &[], if method == "POST" { "body" } else { "" });
        statuses.push(client.send(request).await.status.as_u16());
    }
    statuses
}

const NO_EJECTION: (&str, &str) = ("passive-ejection", "off");

#[tokio::test]
async fn a_refused_connection_is_tried_elsewhere_whatever_the_method() {
    let echo = Upstream::echo("echo").await;
    let (gateway, _manifests) = gateway(&[NO_EJECTION], &[refusing_address().await, echo.address()]).await;
    assert_eq!(statuses(&gateway, "POST", 4).await, [200; 4]);
    assert_eq!(statuses(&gateway, "GET", 4).await, [200; 4]);
}

#[tokio::test]
async fn conditions_decide_after_which_answers_another_endpoint_is_tried() {
    for (conditions, method, status, is_retried) in [
        ("error timeout", "GET", 503, false),
        ("http_503", "GET", 503, true),
        ("http_502 http_504", "GET", 503, false),
        ("http_404", "GET", 404, true),
        ("http_429", "GET", 429, true),
        // "normally, requests with a non-idempotent method are not passed to the next server if a request has been
        // sent" (nginx, proxy_next_upstream).
        ("http_503", "POST", 503, false),
        ("http_503 non_idempotent", "POST", 503, true),
        ("off", "GET", 503, false),
    ] {
        let (failing, echo) = (answering(status).await, Upstream::echo("echo").await);
        let endpoints = [failing.address(), echo.address()];
        let (gateway, _manifests) = gateway(&[("proxy-next-upstream", conditions)], &endpoints).await;
        let mut statuses = statuses(&gateway, method, 4).await;
        statuses.sort_unstable();
        let expected = if is_retried { [200; 4] } else { [200, 200, status, status] };
        assert_eq!(statuses, expected, "{conditions} {method} {status}");
    }
}

#[tokio::test]
async fn what_an_endpoint_may_have_acted_upon_is_not_repeated() {
    let (address, n_requests) = closing().await;
    let echo = Upstream::echo("echo").await;
    let (gateway, _manifests) = gateway(&[NO_EJECTION], &[address, echo.address()]).await;
    let mut posts = statuses(&gateway, "POST", 6).await;
    posts.sort_unstable();
    assert_eq!(posts, [200, 200, 200, 502, 502, 502]);
    assert_eq!((n_requests.load(Ordering::SeqCst), echo.n_requests()), (3, 3));
    assert_eq!(statuses(&gateway, "GET", 4).await, [200; 4]);
}

#[tokio::test]
async fn no_endpoint_gets_a_request_twice() {
    for n_endpoints in [1, 2, 4] {
        let mut upstreams = Vec::new();
        for _ in 0..n_endpoints {
            upstreams.push(answering(503).await);
        }
        let endpoints: Vec<_> = upstreams.iter().map(Upstream::address).collect();
        let annotations = [("proxy-next-upstream", "http_503"), ("proxy-next-upstream-tries", "0"), NO_EJECTION];
        let (gateway, _manifests) = gateway(&annotations, &endpoints).await;
        assert_eq!(statuses(&gateway, "GET", 1).await, [503]);
        let requests: Vec<_> = upstreams.iter().map(Upstream::n_requests).collect();
        assert_eq!(requests, vec![1; n_endpoints]);
    }
}

#[tokio::test]
async fn tries_limit_the_endpoints_that_are_tried() {
    let upstreams = [answering(503).await, answering(503).await, answering(503).await];
    let endpoints: Vec<_> = upstreams.iter().map(Upstream::address).collect();
    let annotations = [("proxy-next-upstream", "http_503"), ("proxy-next-upstream-tries", "2"), NO_EJECTION];
    let (gateway, _manifests) = gateway(&annotations, &endpoints).await;
    assert_eq!(statuses(&gateway, "GET", 1).await, [503]);
    assert_eq!(upstreams.iter().map(Upstream::n_requests).sum::<usize>(), 2);
}

#[tokio::test]
async fn when_all_endpoints_fail_attempts_stay_below_six_fifths_of_requests() {
    let upstreams = [answering(503).await, answering(503).await, answering(503).await];
    let endpoints: Vec<_> = upstreams.iter().map(Upstream::address).collect();
    let (gateway, _manifests) = gateway(&[("proxy-next-upstream", "error http_503"), NO_EJECTION], &endpoints).await;
    let n_requests = 500;
    let mut client = Client::http1(gateway.addresses().http).await;
    for _ in 0..n_requests {
        assert_eq!(client.get("a.test", "/", &[]).await.status, 503);
    }
    let n_attempts: usize = upstreams.iter().map(Upstream::n_requests).sum();
    assert!(n_attempts > n_requests, "some requests are tried again");
    assert!(n_attempts * 5 <= n_requests * 6, "{n_attempts} attempts for {n_requests} requests");
    assert!(gateway.metric("penstock_upstream_retries_total", &["over_budget"]).await > 0.0);
}

#[tokio::test]
async fn an_endpoint_that_keeps_failing_is_left_out_on_every_route() {
    let echo = Upstream::echo("echo").await;
    let (gateway, manifests) = gateway(&[], &[refusing_address().await, echo.address()]).await;
    manifests.write("b.yaml", &ingress("b", "b.test", &[], &[("/", "a")]));
    gateway.wait_for("http://b.test/", |answer| answer.status == 200).await;
    let retries = async || gateway.metric("penstock_upstream_retries_total", &["made"]).await;
    wait::until("an ejection", async || {
        assert_eq!(gateway.get("http://a.test/").await.status, 200);
        (gateway.metric("penstock_endpoint_ejections_total", &[]).await == 1.0).then_some(())
    })
    .await;
    let before = retries().await;
    for _ in 0..10 {
        assert_eq!(gateway.get("http://b.test/").await.status, 200);
    }
    assert_eq!(retries().await, before, "nothing had to be retried");
}

#[tokio::test]
async fn the_last_half_of_the_endpoints_stays_although_all_fail() {
    let (gateway, _manifests) = gateway(&[], &[refusing_address().await, refusing_address().await]).await;
    for _ in 0..30 {
        assert_eq!(gateway.get("http://a.test/").await.status, 502);
    }
    assert_eq!(gateway.metric("penstock_endpoint_ejections_total", &[]).await, 1.0);
}

/// An upstream that closes every connection after the request until it is told to be well, and its requests since then.
async fn recovering() -> (SocketAddr, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (is_well, n_answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (address, health, counter) = (listener.local_addr().unwrap(), Arc::clone(&is_well), Arc::clone(&n_answers));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 64 << 10];
            if stream.read(&mut head).await.is_ok_and(|length| length > 0) && health.load(Ordering::SeqCst) {
                counter.fetch_add(1, Ordering::SeqCst);
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                stream.write_all(answer).await.unwrap();
            }
        }
    });
    (address, is_well, n_answers)
}

#[tokio::test]
async fn an_endpoint_that_was_left_out_gets_requests_again_when_it_is_well() {
    let echo = Upstream::echo("echo").await;
    let (address, is_well, n_answers) = recovering().await;
    let (gateway, _manifests) = gateway(&[], &[address, echo.address()]).await;
    wait::until("an ejection", async || {
        assert_eq!(gateway.get("http://a.test/").await.status, 200);
        (gateway.metric("penstock_endpoint_ejections_total", &[]).await == 1.0).then_some(())
    })
    .await;
    is_well.store(true, Ordering::SeqCst);
    wait::until("its return", async || {
        assert_eq!(gateway.get("http://a.test/").await.status, 200);
        (n_answers.load(Ordering::SeqCst) > 0).then_some(())
    })
    .await;
    assert_eq!(gateway.metric("penstock_endpoint_ejections_total", &[]).await, 1.0, "it stays");
}
