//! What happens when upstreams fail, or when clients go away.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tests::manifests::{ingress, service};
use tests::raw::{RawUpstream, read_head};
use tests::upstream::{Answering, fed, full, refusing_address};
use tests::wait::LIMIT;
use tests::{Client, Gateway, Manifests, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout;

/// A gateway whose host a.test leads to these endpoints.
async fn gateway_to(endpoints: &[SocketAddr], annotations: &[(&str, &str)]) -> (Gateway, Manifests) {
    let route = ingress("a", "a.test", annotations, &[("/", "a")]);
    let manifests = Manifests::of(&[service("a", endpoints), route].concat());
    (Gateway::start(&manifests, &[]).await, manifests)
}

// === connecting ===

#[tokio::test]
async fn no_client_notices_an_endpoint_that_refuses() {
    let good = Upstream::echo("good").await;
    let endpoints = [refusing_address().await, good.address(), refusing_address().await];
    let (gateway, _manifests) = gateway_to(&endpoints, &[]).await;
    let body = "x".repeat(20_000);
    let at = gateway.addresses().http;
    for mut client in [Client::http1(at).await, Client::h2c(at).await] {
        for number in 0..15 {
            let method = if number % 2 == 0 { "GET" } else { "POST" };
            let sent = if method == "POST" { &*body } else { "" };
            let request = client.request(method, "a.test", "/", &[], sent);
            let answer = client.send(request).await;
            assert_eq!(answer.status, 200, "{method} {number}");
            assert!(answer.seen().body == sent, "{method} {number}");
        }
    }
    assert_eq!(good.n_requests(), 30);
}

#[tokio::test]
async fn endpoints_that_all_refuse_are_a_bad_gateway() {
    let endpoints = [refusing_address().await, refusing_address().await];
    let (gateway, _manifests) = gateway_to(&endpoints, &[]).await;
    let answer = gateway.get("http://a.test/").await;
    // Whoever is cut off is told.
    assert_eq!((answer.status.as_u16(), answer.header("connection")), (502, Some("close")));
    let mut client = Client::h2c(gateway.addresses().http).await;
    for _ in 0..2 {
        assert_eq!(client.get("a.test", "/", &[]).await.status, 502);
    }
}

/// Runs for the 5 s of `proxy-connect-timeout`.
#[tokio::test]
async fn an_endpoint_that_does_not_answer_the_connect_is_given_up() {
    let (hole, _queue) = black_hole().await;
    let good = Upstream::echo("good").await;
    let (gateway, manifests) = gateway_to(&[hole], &[]).await;
    manifests.write("b.yaml", &[service("b", &[hole, good.address()]), route_b()].concat());
    gateway.wait_for("http://b.test/", |answer| answer.status == 200).await;
    let began = Instant::now();
    let (alone, one, other) =
        tokio::join!(gateway.get("http://a.test/"), gateway.get("http://b.test/"), gateway.get("http://b.test/"));
    assert_eq!(alone.status, 504);
    assert_eq!((one.upstream(), other.upstream()), ("good".into(), "good".into()));
    // Far more only on a machine that is busy with other things.
    assert!((5..15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

fn route_b() -> String {
    ingress("b", "b.test", &[], &[("/", "b")])
}

/// An address where the kernel drops what wants to connect, because the queue is full and nobody accepts.
async fn black_hole() -> (SocketAddr, (tokio::net::TcpListener, Vec<TcpStream>)) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
        queue.push(stream.unwrap());
    }
    (address, (listener, queue))
}

// === kept connections ===

#[tokio::test]
async fn a_kept_connection_that_the_upstream_closed_fails_no_request() {
    let upstream = RawUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let (gateway, _manifests) = gateway_to(&[upstream.address()], &[]).await;
    let mut client = Client::http1(gateway.addresses().http).await;
    for _ in 0..50 {
        assert_eq!(client.get("a.test", "/", &[]).await.text(), "ok");
    }
}

/// RFC 9110 section 9.2.2: a request that is not idempotent is not repeated when the upstream may have acted on it.
#[tokio::test]
async fn a_request_that_broke_off_is_repeated_only_when_it_may_be() {
    let (sender, mut heads) = unbounded_channel();
    let upstream = RawUpstream::start(move |_, mut stream| {
        let sender = sender.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            // It takes a second request, and closes without an answer.
            let head = read_head(&mut stream).await;
            let _ = sender.send(head.split(' ').next().unwrap().to_owned());
        }
    })
    .await;
    let (gateway, _manifests) = gateway_to(&[upstream.address()], &[]).await;
    let mut client = Client::h2c(gateway.addresses().http).await;
    for (method, status) in [("GET", 200), ("GET", 200), ("POST", 502), ("PUT", 200), ("PUT", 200), ("DELETE", 200)] {
        let n_before = upstream.n_connections();
        let request = client.request(method, "a.test", "/", &[], "");
        assert_eq!(client.send(request).await.status, status, "{method}");
        assert!(upstream.n_connections() <= n_before + 1, "{method} is repeated once");
        if method == "POST" {
            while heads.recv().await.unwrap() != "POST" {}
            // The connection is gone: the next one begins anew.
            assert_eq!(upstream.n_connections(), n_before);
        }
    }
}

// === answers that break off ===

#[tokio::test]
async fn a_truncated_answer_is_seen_to_be_truncated() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nshort",
    ] {
        let upstream = RawUpstream::answering(answer).await;
        let (gateway, _manifests) = gateway_to(&[upstream.address()], &[]).await;
        let at = gateway.addresses().http;
        for mut client in [Client::http1(at).await, Client::h2c(at).await] {
            let request = client.request("GET", "a.test", "/", &[], "");
            let result = timeout(LIMIT, client.try_send(request)).await.unwrap();
            assert!(result.is_err(), "{answer:?} came as {result:?}");
        }
    }
}

#[tokio::test]
async fn a_truncated_answer_over_http2_is_seen_to_be_truncated() {
    let upstream = Upstream::with(|_| -> Answering {
        Box::pin(async {
            let (mut sender, body) = fed();
            tokio::spawn(async move {
                sender.send_data("short".into()).await.unwrap();
                sender.abort(std::io::ErrorKind::Other.into());
            });
            http::Response::new(body)
        })
    })
    .await;
    let (gateway, _manifests) = gateway_to(&[upstream.address()], &[("backend-protocol", "GRPC")]).await;
    let at = gateway.addresses().http;
    for mut client in [Client::http1(at).await, Client::h2c(at).await] {
        let request = client.request("GET", "a.test", "/", &[], "");
        let result = timeout(LIMIT, client.try_send(request)).await.unwrap();
        assert!(result.is_err(), "came as {result:?}");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_a_bad_gateway() {
    for answer in [
        "",
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX",
        // Nobody asked for another protocol.
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let upstream = RawUpstream::answering(answer).await;
        let (gateway, _manifests) = gateway_to(&[upstream.address()], &[]).await;
        assert_eq!(gateway.get("http://a.test/").await.status, 502, "{answer:?}");
    }
}

// === clients that go away ===

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_with_it() {
    let (sender, mut ended) = unbounded_channel();
    let upstream = RawUpstream::start(move |_, mut stream| {
        let sender = sender.clone();
        async move {
            let head = read_head(&mut stream).await;
            if head.contains("/body") {
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nfirst";
                stream.write_all(head).await.unwrap();
            }
            sender.send("began").unwrap();
            // How the connection ends does not matter, but that it does.
            let _ = stream.read(&mut [0; 1]).await;
            sender.send("ended").unwrap();
        }
    })
    .await;
    let (gateway, _manifests) = gateway_to(&[upstream.address()], &[]).await;
    let at = gateway.addresses().http;
    for target in ["/head", "/body"] {
        for is_http2 in [false, true] {
            let mut client = if is_http2 { Client::h2c(at).await } else { Client::http1(at).await };
            let request = client.request("GET", "a.test", target, &[], "");
            // Another stream on the connection must not keep the first one alive.
            let keeper = is_http2.then(|| client.another());
            let task = tokio::spawn(async move { client.try_send(request).await.map(drop) });
            assert_eq!(timeout(LIMIT, ended.recv()).await.unwrap(), Some("began"));
            task.abort();
            let end = timeout(LIMIT, ended.recv()).await;
            assert_eq!(end.unwrap(), Some("ended"), "{target} over HTTP/2: {is_http2}");
            if let Some(mut keeper) = keeper {
                assert_eq!(keeper.get("unknown.test", "/", &[]).await.status, 404);
            }
        }
    }
}

#[tokio::test]
async fn a_request_body_that_breaks_off_does_not_reach_the_upstream_as_a_whole() {
    let (sender, mut ended) = unbounded_channel();
    let upstream = RawUpstream::start(move |_, mut stream| {
        let sender = sender.clone();
        async move {
            read_head(&mut stream).await;
            let mut rest = Vec::new();
            // Cut or closed, it has ended.
            let _ = stream.read_to_end(&mut rest).await;
            sender.send(String::from_utf8(rest).unwrap()).unwrap();
        }
    })
    .await;
    let (gateway, _manifests) = gateway_to(&[upstream.address()], &[]).await;
    for (field, sent) in [("Content-Length: 100", "short"), ("Transfer-Encoding: chunked", "5\r\nshort\r\n")] {
        let mut stream = TcpStream::connect(gateway.addresses().http).await.unwrap();
        let request = format!("POST / HTTP/1.1\r\nHost: a.test\r\n{field}\r\n\r\n{sent}");
        stream.write_all(request.as_bytes()).await.unwrap();
        drop(stream);
        let received = timeout(LIMIT, ended.recv()).await.unwrap().unwrap();
        assert!(!received.contains("\r\n0\r\n") && !received.starts_with("0\r\n"), "{field}: {received:?}");
    }
}

#[tokio::test]
async fn an_answer_that_has_begun_outlives_its_endpoint() {
    let (sender, mut begun) = unbounded_channel();
    let old = Upstream::with(move |request| -> Answering {
        let (mut answer, body) = fed();
        let sender = sender.clone();
        Box::pin(async move {
            if request.uri().path() != "/long" {
                return http::Response::new(full("old"));
            }
            answer.send_data("begun, ".into()).await.unwrap();
            sender.send(answer).unwrap();
            http::Response::new(body)
        })
    })
    .await;
    let new = Upstream::echo("new").await;
    let (gateway, manifests) = gateway_to(&[old.address()], &[]).await;
    let mut client = Client::http1(gateway.addresses().http).await;
    let request = client.request("GET", "a.test", "/long", &[], "");
    let task = tokio::spawn(async move { client.send(request).await.text() });
    let mut answer = timeout(LIMIT, begun.recv()).await.unwrap().unwrap();
    let route = ingress("a", "a.test", &[], &[("/", "a")]);
    manifests.write("manifests.yaml", &[service("a", &[new.address()]), route].concat());
    gateway.wait_for("http://a.test/", |answer| answer.upstream() == "new").await;
    answer.send_data("done".into()).await.unwrap();
    drop(answer);
    assert_eq!(task.await.unwrap(), "begun, done");
}
