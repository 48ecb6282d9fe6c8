//! The way to upstreams: which protocol is spoken, which endpoint is chosen, which connection is used again.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tests::certificate::Certificate;
use tests::manifests::{ingress, service, slice, tls};
use tests::upstream::{Answering, full};
use tests::{Client, Gateway, Manifests, Upstream};
use tokio::sync::Barrier;

/// A way to say what an upstream speaks, and what must come of it.
struct Case {
    annotation: Option<&'static str>,
    app_protocol: Option<&'static str>,
    client: &'static str,
    upstream: &'static str,
    version: &'static str,
}

#[tokio::test]
async fn an_upstream_is_spoken_to_as_it_asks() {
    let case = |annotation, app_protocol, client, upstream, version| Case {
        annotation,
        app_protocol,
        client,
        upstream,
        version,
    };
    let cases = [
        case(None, None, "http", "plain", "HTTP/1.1"),
        case(None, None, "https", "plain", "HTTP/1.1"),
        case(Some("HTTP"), None, "https", "plain", "HTTP/1.1"),
        case(Some("HTTPS"), None, "http", "tls", "HTTP/1.1"),
        case(Some("AUTO_HTTP"), None, "http", "plain", "HTTP/1.1"),
        case(Some("AUTO_HTTP"), None, "https", "tls", "HTTP/1.1"),
        case(Some("GRPC"), None, "http", "plain", "HTTP/2.0"),
        case(Some("GRPCS"), None, "http", "tls", "HTTP/2.0"),
        case(None, Some("http"), "http", "plain", "HTTP/1.1"),
        case(None, Some("example.com/own"), "http", "plain", "HTTP/1.1"),
        case(None, Some("https"), "http", "tls", "HTTP/1.1"),
        case(None, Some("kubernetes.io/h2c"), "http", "plain", "HTTP/2.0"),
        case(None, Some("kubernetes.io/ws"), "http", "plain", "HTTP/1.1"),
        case(None, Some("kubernetes.io/wss"), "http", "tls", "HTTP/1.1"),
        // The Ingress knows better.
        case(Some("HTTP"), Some("https"), "http", "plain", "HTTP/1.1"),
        case(Some("HTTPS"), Some("kubernetes.io/h2c"), "http", "tls", "HTTP/1.1"),
    ];
    // Nobody vouches for its certificate, and its name is another: ingress-nginx verifies only when asked to.
    let certificate = Certificate::self_signed(&["another.test"]);
    let (plain, over_tls) = (Upstream::echo("plain").await, Upstream::echo_tls("tls", &certificate).await);
    let manifests = Manifests::of(&certificate.secret("tls"));
    for (number, Case { annotation, app_protocol, upstream, .. }) in cases.iter().enumerate() {
        let name = format!("case-{number}");
        let host = format!("{name}.test");
        let address = if *upstream == "tls" { over_tls.address() } else { plain.address() };
        let mut text = service(&name, &[address]);
        if let Some(protocol) = app_protocol {
            text = text.replacen("port: 80\n", &format!("port: 80\n      appProtocol: {protocol}\n"), 1);
        }
        let mut annotations = vec![("ssl-redirect", "false")];
        annotations.extend(annotation.map(|protocol| ("backend-protocol", protocol)));
        text.push_str(&ingress(&name, &host, &annotations, &[("/", &name)]));
        text.push_str(&tls(&[&host], "tls"));
        manifests.write(&format!("{name}.yaml"), &text);
    }
    let gateway = Gateway::start(&manifests, &[]).await;
    for (number, Case { annotation, app_protocol, client, upstream, version }) in cases.iter().enumerate() {
        let answer = gateway.get(&format!("{client}://case-{number}.test/x")).await;
        let what = format!("{annotation:?} {app_protocol:?} over {client}: {answer:?}");
        assert_eq!(answer.status, 200, "{what}");
        let seen = answer.seen();
        assert_eq!((&*seen.upstream, &*seen.version, &*seen.target), (*upstream, *version, "/x"), "{what}");
        assert_eq!(seen.host, format!("case-{number}.test"), "{what}");
    }
}

#[tokio::test]
async fn round_robin_gives_every_endpoint_its_turn() {
    let upstreams = [Upstream::echo("a").await, Upstream::echo("b").await, Upstream::echo("c").await];
    let addresses = upstreams.each_ref().map(Upstream::address);
    let manifests = Manifests::of(&[service("s", &addresses), ingress("s", "s.test", &[], &[("/", "s")])].concat());
    let gateway = Gateway::start(&manifests, &[]).await;
    let at = gateway.addresses().http;
    let mut clients = [Client::http1(at).await, Client::h2c(at).await, Client::http1(at).await];
    let mut turns = BTreeMap::<String, usize>::new();
    for number in 0..60 {
        let answer = clients[number % 2].get("s.test", "/", &[]).await;
        *turns.entry(answer.upstream()).or_default() += 1;
    }
    assert_eq!(turns, BTreeMap::from([("a".into(), 20), ("b".into(), 20), ("c".into(), 20)]));
    let mut last = String::new();
    for _ in 0..9 {
        let next = clients[2].get("s.test", "/", &[]).await.upstream();
        assert_ne!(next, last, "one after the other");
        last = next;
    }
}

#[tokio::test]
async fn connections_to_an_upstream_are_used_again() {
    let upstream = Upstream::echo("a").await;
    let manifests =
        Manifests::of(&[service("a", &[upstream.address()]), ingress("a", "a.test", &[], &[("/", "a")])].concat());
    let gateway = Gateway::start(&manifests, &[]).await;
    let mut client = Client::http1(gateway.addresses().http).await;
    for _ in 0..10 {
        assert_eq!(client.get("a.test", "/", &[]).await.status, 200);
    }
    assert_eq!((upstream.n_requests(), upstream.n_connections()), (10, 1));
    assert_eq!(gateway.metric("penstock_upstream_connections_total", &["reused"]).await, 9.0);
}

#[tokio::test]
async fn one_http2_connection_to_an_upstream_carries_many_requests() {
    const N: usize = 50;
    let all_there = Arc::new(Barrier::new(N));
    let upstream = Upstream::with(move |request: Request<Incoming>| -> Answering {
        let all_there = Arc::clone(&all_there);
        Box::pin(async move {
            if request.uri().path() == "/together" {
                all_there.wait().await;
            }
            Response::new(full(""))
        })
    })
    .await;
    let route = ingress("a", "a.test", &[("backend-protocol", "GRPC")], &[("/", "a")]);
    let manifests = Manifests::of(&[service("a", &[upstream.address()]), route].concat());
    let gateway = Gateway::start(&manifests, &[]).await;
    let mut first = Client::h2c(gateway.addresses().http).await;
    assert_eq!(first.get("a.test", "/", &[]).await.status, 200);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..N {
        let mut client = first.another();
        requests.spawn(async move { client.get("a.test", "/together", &[]).await });
    }
    for answer in requests.join_all().await {
        assert_eq!(answer.status, 200);
    }
    // Requests that come while a connection is on its way do not wait for it.
    assert!(upstream.n_connections() < N, "{} connections", upstream.n_connections());
}

#[tokio::test]
async fn a_rewritten_request_of_http2_is_for_the_same_host_whatever_its_upstream_speaks() {
    let upstream = Upstream::echo("a").await;
    let mut text = service("a", &[upstream.address()]);
    for protocol in ["HTTP", "GRPC"] {
        let annotations = [("backend-protocol", protocol), ("rewrite-target", "/new")];
        let host = format!("{}.test", protocol.to_lowercase());
        text.push_str(&ingress(&protocol.to_lowercase(), &host, &annotations, &[("/", "a")]));
    }
    let gateway = Gateway::start(&Manifests::of(&text), &[]).await;
    let mut client = Client::h2c(gateway.addresses().http).await;
    for host in ["http.test", "grpc.test"] {
        let answer = client.get(host, "/old?a=b", &[]).await;
        assert_eq!(answer.status, 200, "{host}: {answer:?}");
        let seen = answer.seen();
        assert_eq!((&*seen.host, &*seen.target), (host, "/new?a=b"));
    }
}

/// A pod that gets the address of another is a stranger: it must not get what a connection to the other one carries.
#[tokio::test]
async fn a_pod_at_the_address_of_another_gets_a_connection_of_its_own() {
    let upstream = Upstream::echo("a").await;
    let pod = |uid: &str| {
        let slice = slice("a-1", "a", "http", upstream.address());
        format!("{slice}    targetRef: {{kind: Pod, name: p, uid: {uid}}}\n")
    };
    let manifests = Manifests::of(&[service("a", &[]), ingress("a", "a.test", &[], &[("/", "a")])].concat());
    manifests.write("slice.yaml", &pod("first"));
    let gateway = Gateway::start(&manifests, &[]).await;
    let mut n_marks = 0;
    let mut replace = async |uid: &str| {
        manifests.write("slice.yaml", &pod(uid));
        // What is written later is live later.
        n_marks += 1;
        let host = format!("mark-{n_marks}.test");
        let redirect = [("permanent-redirect", "https://elsewhere.test/")];
        manifests.write(&format!("mark-{n_marks}.yaml"), &ingress(&host, &host, &redirect, &[("/", "a")]));
        gateway.wait_for(&format!("http://{host}/"), |answer| answer.status == 301).await;
    };
    let mut client = Client::http1(gateway.addresses().http).await;
    for (uid, n_connections) in [("first", 1), ("first", 1), ("second", 2), ("second", 2)] {
        replace(uid).await;
        assert_eq!(client.get("a.test", "/", &[]).await.status, 200);
        assert_eq!(upstream.n_connections(), n_connections, "pod {uid}");
    }
}
