//! Which endpoint takes a request: `load-balance`, `upstream-hash-by`, and the time an upstream gets.

use std::collections::BTreeMap;
use std::sync::Arc;

use tests::manifests::{ingress, service};
use tests::{Client, Gateway, Manifests, Upstream, upstream};
use tokio::sync::Semaphore;

/// Echo upstreams with the names `0`, `1` and so on.
async fn echoes(n: usize) -> Vec<Upstream> {
    let mut echoes = Vec::new();
    for number in 0..n {
        echoes.push(Upstream::echo(&number.to_string()).await);
    }
    echoes
}

/// A gateway with one Ingress for `a.test`, whose Service has these endpoints.
async fn gateway(annotations: &[(&str, &str)], upstreams: &[Upstream]) -> (Gateway, Manifests) {
    let addresses: Vec<_> = upstreams.iter().map(Upstream::address).collect();
    let manifests =
        Manifests::of(&[service("a", &addresses), ingress("a", "a.test", annotations, &[("/", "a")])].concat());
    (Gateway::start(&manifests, &[]).await, manifests)
}

/// How many requests each upstream answers.
async fn shares(gateway: &Gateway, targets: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut client = Client::http1(gateway.addresses().http).await;
    let mut shares = BTreeMap::new();
    for target in targets {
        *shares.entry(client.get("a.test", &target, &[]).await.upstream()).or_default() += 1;
    }
    shares
}

#[tokio::test]
async fn round_robin_goes_from_one_endpoint_to_the_next() {
    let upstreams = echoes(3).await;
    let (gateway, _manifests) = gateway(&[("load-balance", "round_robin")], &upstreams).await;
    let shares = shares(&gateway, (0..30).map(|_| "/".to_owned())).await;
    assert_eq!(shares.into_values().collect::<Vec<_>>(), [10, 10, 10]);
}

#[tokio::test]
async fn least_requests_and_ewma_leave_a_busy_endpoint_alone() {
    for algorithm in ["least_requests", "ewma"] {
        let release = Arc::new(Semaphore::new(0));
        let mut upstreams = Vec::new();
        for _ in 0..2 {
            let release = Arc::clone(&release);
            upstreams.push(
                Upstream::with(move |request| {
                    let release = Arc::clone(&release);
                    Box::pin(async move {
                        if request.uri().path() == "/hold" {
                            drop(release.acquire().await);
                        }
                        http::Response::new(upstream::full(""))
                    })
                })
                .await,
            );
        }
        let (gateway, _manifests) = gateway(&[("load-balance", algorithm)], &upstreams).await;
        let held = {
            let mut client = Client::http1(gateway.addresses().http).await;
            tokio::spawn(async move { client.get("a.test", "/hold", &[]).await })
        };
        let n_held = async || (upstreams.iter().map(Upstream::n_requests).sum::<usize>() == 1).then_some(());
        tests::wait::until("the held request is there", n_held).await;
        let busy = upstreams.iter().position(|upstream| upstream.n_requests() == 1);
        let mut client = Client::http1(gateway.addresses().http).await;
        for _ in 0..20 {
            assert_eq!(client.get("a.test", "/", &[]).await.status, 200);
        }
        let requests: Vec<_> = upstreams.iter().map(Upstream::n_requests).collect();
        assert_eq!(busy.map(|busy| requests[busy]), Some(1), "{algorithm}: {requests:?}");
        release.add_permits(1);
        assert_eq!(held.await.map(|answer| answer.status).ok(), Some(http::StatusCode::OK));
    }
}

#[tokio::test]
async fn a_key_always_goes_to_the_same_endpoint() {
    let upstreams = echoes(3).await;
    let (gateway, _manifests) = gateway(&[("upstream-hash-by", "$request_uri")], &upstreams).await;
    let mut n_used = std::collections::BTreeSet::new();
    for number in 0..40 {
        let target = format!("/item?id={number}");
        let shares = shares(&gateway, (0..3).map(|_| target.clone())).await;
        assert_eq!(shares.len(), 1, "{target}: {shares:?}");
        n_used.extend(shares.into_keys());
    }
    assert_eq!(n_used.len(), 3, "40 keys on 3 endpoints");
}

/// nginx `$request_uri`: "full original request URI"; `$uri`: "current URI in request, normalized".
#[tokio::test]
async fn a_key_of_the_request_uri_is_of_what_the_client_sent() {
    let upstreams = echoes(3).await;
    for (key, is_one) in [("$request_uri", false), ("$uri", true)] {
        let (gateway, _manifests) = gateway(&[("upstream-hash-by", key)], &upstreams).await;
        let shares = shares(&gateway, (0..40).map(|number| format!("/{number}/../item"))).await;
        assert_eq!(shares.len() == 1, is_one, "{key}: {shares:?}");
    }
}

#[tokio::test]
async fn a_key_with_a_subset_goes_to_so_many_endpoints() {
    let upstreams = echoes(5).await;
    let annotations =
        [("upstream-hash-by", "$arg_id"), ("upstream-hash-by-subset", "true"), ("upstream-hash-by-subset-size", "2")];
    let (gateway, _manifests) = gateway(&annotations, &upstreams).await;
    for number in 0..5 {
        let shares = shares(&gateway, (0..40).map(|_| format!("/?id={number}"))).await;
        assert_eq!(shares.len(), 2, "{number}: {shares:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_is_too_slow_is_answered_with_504() {
    let never = [Upstream::with(|_| Box::pin(std::future::pending())).await];
    let annotations = [("proxy-read-timeout", "1")];
    let (gateway, _manifests) = gateway(&annotations, &never).await;
    assert_eq!(gateway.get("http://a.test/").await.status, 504);
}
