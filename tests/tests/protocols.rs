//! HTTP/1.0, HTTP/1.1 and HTTP/2 as clients and upstreams speak them: connections, framing, bodies, trailers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tests::certificate::Certificate;
use tests::client::Answer;
use tests::manifests::{ingress, service, tls};
use tests::raw::{self, RawUpstream, exchange, read_head};
use tests::upstream::{Answering, fed, full, zeros};
use tests::{Client, Gateway, Manifests, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;

/// Long enough that an answer which is still to come has come.
const SILENCE: Duration = Duration::from_millis(300);
const LARGE: usize = 64 << 20;

/// A gateway whose host a.test leads to one upstream, with and without TLS.
struct Setting {
    gateway: Gateway,
    _manifests: Manifests,
}

impl Setting {
    async fn new(upstream: SocketAddr, annotations: &[(&str, &str)]) -> Self {
        let secret = Certificate::self_signed(&["a.test"]).secret("a");
        let annotations = [annotations, &[("ssl-redirect", "false")]].concat();
        let ingress = ingress("a", "a.test", &annotations, &[("/", "a")]);
        let text = [service("a", &[upstream]), secret, ingress, tls(&["a.test"], "a")].concat();
        let manifests = Manifests::of(&text);
        Self { gateway: Gateway::start(&manifests, &[]).await, _manifests: manifests }
    }

    fn http(&self) -> SocketAddr {
        self.gateway.addresses().http
    }
}

// === targets ===

#[tokio::test]
async fn a_target_is_normalised_for_the_same_host_in_every_version_of_http() {
    let upstream = Upstream::echo("a").await;
    let setting = Setting::new(upstream.address(), &[]).await;
    for mut client in setting.gateway.clients("a.test").await {
        for (target, normalised) in [("/%7Eb", "/~b"), ("/a/../b?c=%41", "/b?c=%41"), ("/./", "/")] {
            let answer = client.get("a.test", target, &[]).await;
            let seen = answer.seen();
            assert_eq!((&*seen.target, &*seen.host), (normalised, "a.test"), "{target}");
        }
    }
}

// === carriers ===

/// The head of a request with a body is written by Pingora, and that of one without by ourselves.
#[tokio::test]
async fn what_a_request_meets_does_not_depend_on_whether_it_has_a_body() {
    let upstream = Upstream::echo("a").await;
    let setting = Setting::new(upstream.address(), &[("x-forwarded-prefix", "/p"), ("enable-cors", "true")]).await;
    let sent = [("Te", "trailers"), ("Proxy-Authorization", "Basic eDp5"), ("X-Own", "1"), ("Origin", "http://b.test")];
    let forwarded = |answer: &Answer| {
        let of_one_of_them = ["x-request-id", "content-length", "content-type"];
        let mut headers = answer.seen().headers;
        headers.retain(|(name, _)| !of_one_of_them.contains(&&**name));
        headers.sort();
        headers
    };
    let answered = |answer: &Answer| {
        let names = answer.headers.keys().map(|name| name.as_str().to_owned());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    for mut client in setting.gateway.clients("a.test").await {
        let without = client.get("a.test", "/x?y", &sent).await;
        let with = client.request("GET", "a.test", "/x?y", &sent, "body");
        let with = client.send(with).await;
        assert_eq!((without.seen().body, with.seen().body), (String::new(), "body".to_owned()));
        assert_eq!(forwarded(&without), forwarded(&with));
        assert!(forwarded(&without).iter().any(|(name, _)| name == "x-own"));
        assert!(!forwarded(&without).iter().any(|(name, _)| name == "te" || name == "proxy-authorization"));
        assert_eq!(answered(&without), answered(&with));
        assert_eq!((without.status, without.version), (with.status, with.version));
    }
}

// === connections ===

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let upstream = Upstream::echo("a").await;
    let setting = Setting::new(upstream.address(), &[]).await;
    for mut client in setting.gateway.clients("a.test").await {
        for number in 0..20 {
            let answer = client.get("a.test", &format!("/{number}"), &[]).await;
            assert_eq!(answer.seen().target, format!("/{number}"));
        }
    }
    assert_eq!(upstream.n_requests(), 80);
    // A client may be there before the connection that served another is free.
    assert!(upstream.n_connections() <= 4, "{} for 80 requests", upstream.n_connections());
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::echo("a").await;
    let setting = Setting::new(upstream.address(), &[]).await;
    let mut requests = String::new();
    for number in 0..20 {
        requests.push_str(&format!(
            "POST /{number} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbodyGET /{number}/next HTTP/1.1\r\nHost: a.test\r\n\r\n"
        ));
    }
    requests.push_str("GET /last HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    let text = exchange(setting.http(), requests.as_bytes(), SILENCE).await.text();
    let targets: Vec<&str> = text.split("\"target\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let mut wanted: Vec<_> = (0..20).flat_map(|number| [format!("/{number}"), format!("/{number}/next")]).collect();
    wanted.push("/last".to_owned());
    assert_eq!(targets, wanted);
    assert_eq!(text.matches("\"body\":\"body\"").count(), 20, "{text}");
}

/// RFC 9112 section 9.3: HTTP/1.1 persists unless told otherwise, HTTP/1.0 closes unless told otherwise.
#[tokio::test]
async fn a_connection_stays_open_as_its_version_and_its_client_say() {
    let upstream = Upstream::echo("a").await;
    let setting = Setting::new(upstream.address(), &[]).await;
    for (version, connection, stays) in [
        ("1.1", None, true),
        ("1.1", Some("close"), false),
        ("1.0", None, false),
        ("1.0", Some("close"), false),
        ("1.0", Some("keep-alive"), true),
    ] {
        let field = connection.map(|value| format!("Connection: {value}\r\n")).unwrap_or_default();
        let request = format!("GET / HTTP/{version}\r\nHost: a.test\r\n{field}\r\n");
        let answer = exchange(setting.http(), request.as_bytes(), SILENCE).await;
        let case = format!("HTTP/{version} {connection:?}: {}", answer.text());
        assert_eq!((answer.status(), answer.is_closed), (200, !stays), "{case}");
        let head = answer.text().to_ascii_lowercase();
        assert!(head.contains("connection: close\r\n") || stays || version == "1.0", "{case}");
        // Without it a client of HTTP/1.0 waits for the end of the connection.
        assert!(head.contains("connection: keep-alive\r\n") || !stays || version == "1.1", "{case}");
    }
}

/// An HTTP/1.0 request need not name a host: it is for the catch-all one.
#[tokio::test]
async fn http10_without_a_host_is_answered() {
    let upstream = Upstream::echo("a").await;
    let setting = Setting::new(upstream.address(), &[]).await;
    let answer = exchange(setting.http(), b"GET / HTTP/1.0\r\n\r\n", SILENCE).await;
    assert_eq!((answer.status(), answer.is_closed), (404, true));
    assert!(answer.text().ends_with("default backend - 404"), "{}", answer.text());
}

#[tokio::test]
async fn http2_answers_a_hundred_streams_at_once() {
    const N: usize = 100;
    let all_there = Arc::new(Barrier::new(N));
    let upstream = Upstream::with(move |request: Request<Incoming>| -> Answering {
        let all_there = Arc::clone(&all_there);
        Box::pin(async move {
            // Nobody is answered before all have come.
            all_there.wait().await;
            Response::new(full(request.uri().path().to_owned()))
        })
    })
    .await;
    let setting = Setting::new(upstream.address(), &[]).await;
    let at = setting.gateway.addresses();
    for client in [Client::h2c(at.http).await, Client::https2(at.https, Some("a.test")).await] {
        let mut requests = tokio::task::JoinSet::new();
        for number in 0..N {
            let mut client = client.another();
            requests.spawn(async move { (number, client.get("a.test", &format!("/{number}"), &[]).await) });
        }
        while let Some(done) = requests.join_next().await {
            let (number, answer) = done.unwrap();
            assert_eq!((answer.status.as_u16(), answer.text()), (200, format!("/{number}")));
        }
    }
}

// === bodies ===

#[tokio::test]
async fn large_bodies_stream_both_ways_through_little_memory() {
    let upstream = Upstream::with(|request: Request<Incoming>| -> Answering {
        Box::pin(async move {
            let answer = Response::builder().header("x-length", length_of(request.into_body()).await);
            answer.body(zeros(LARGE)).unwrap()
        })
    })
    .await;
    let setting = Setting::new(upstream.address(), &[("proxy-body-size", "0")]).await;
    let before = setting.gateway.peak_memory();
    for kind in 0..4 {
        // Opened when it is needed: a connection without a request does not stay open for long.
        let mut client = setting.gateway.clients("a.test").await.into_iter().nth(kind).unwrap();
        let request = client.request("PUT", "a.test", "/", &[], "").map(|_| zeros(LARGE));
        let answer = client.open(request).await.unwrap();
        assert_eq!(answer.headers()["x-length"], LARGE.to_string().as_str());
        assert_eq!(length_of(answer.into_body()).await, LARGE);
    }
    let grown = setting.gateway.peak_memory().saturating_sub(before);
    // Windows and buffers, but no body as a whole.
    assert!(grown < LARGE / 2, "the gateway holds {grown} bytes more than before");
}

async fn length_of(mut body: Incoming) -> usize {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().data_ref().map_or(0, |data| data.len());
    }
    length
}

#[tokio::test]
async fn a_piece_of_a_body_passes_before_the_next_one_is_there() {
    let upstream = Upstream::with(|request: Request<Incoming>| -> Answering {
        Box::pin(async move { Response::new(request.into_body().map_err(std::io::Error::other).boxed()) })
    })
    .await;
    let setting = Setting::new(upstream.address(), &[]).await;
    for mut client in setting.gateway.clients("a.test").await {
        let (mut sender, body) = fed();
        sender.send_data("first".into()).await.unwrap();
        let request = client.request("POST", "a.test", "/", &[], "").map(|_| body);
        let mut echo = client.open(request).await.unwrap().into_body();
        for next in ["second", "third", ""] {
            let piece = echo.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(["first", "second", "third"].contains(&std::str::from_utf8(&piece).unwrap()), "{piece:?}");
            if !next.is_empty() {
                sender.send_data(next.into()).await.unwrap();
            }
        }
        drop(sender);
    }
}

#[tokio::test]
async fn an_answer_does_not_wait_for_the_end_of_the_body() {
    let upstream = Upstream::with(|request: Request<Incoming>| -> Answering {
        Box::pin(async move {
            let is_read = request.uri().path() == "/read";
            let mut body = request.into_body();
            if is_read {
                body.frame().await.unwrap().unwrap();
                // The rest is read when the answer is there.
                tokio::spawn(async move { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} });
            }
            Response::builder().status(403).body(full("enough")).unwrap()
        })
    })
    .await;
    let setting = Setting::new(upstream.address(), &[]).await;
    for target in ["/read", "/unread"] {
        for mut client in setting.gateway.clients("a.test").await {
            let (mut sender, body) = fed();
            sender.send_data("first".into()).await.unwrap();
            let request = client.request("POST", "a.test", target, &[], "").map(|_| body);
            let answer = client.open(request).await.unwrap();
            assert_eq!(answer.status(), 403, "{target}");
            assert_eq!(length_of(answer.into_body()).await, "enough".len(), "{target}");
            drop(sender);
        }
    }
    for mut client in setting.gateway.clients("a.test").await {
        assert_eq!(client.get("a.test", "/unread", &[]).await.status, 403, "everybody else is served");
    }
}

#[tokio::test]
async fn a_head_request_gets_the_length_and_no_body() {
    let upstream = Upstream::echo("a").await;
    let setting = Setting::new(upstream.address(), &[]).await;
    for mut client in setting.gateway.clients("a.test").await {
        let request = client.request("HEAD", "a.test", "/", &[], "");
        let answer = client.send(request).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
        assert!(answer.header("content-length").unwrap().parse::<usize>().unwrap() > 100);
        let request = client.request("HEAD", "unknown.test", "/", &[], "");
        let answer = client.send(request).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (404, 0));
        assert_eq!(answer.header("content-length"), Some("21"), "that of `default backend - 404`");
        assert_eq!(client.get("a.test", "/", &[]).await.status, 200);
    }
}

/// RFC 9110 sections 15.3.5 and 15.4.5: neither has content, whatever its header says.
#[tokio::test]
async fn answers_without_content_leave_the_connection_in_step() {
    let upstream = RawUpstream::start(|_, mut stream| async move {
        loop {
            let head = read_head(&mut stream).await;
            let answer = match head.split(' ').nth(1) {
                Some("/204") => "HTTP/1.1 204 No Content\r\n\r\n",
                Some("/304") => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 1000\r\n\r\n",
                Some(_) => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
                None => return,
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let setting = Setting::new(upstream.address(), &[]).await;
    for mut client in setting.gateway.clients("a.test").await {
        for status in [204, 304, 204, 304] {
            let answer = client.get("a.test", &format!("/{status}"), &[]).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (status, String::new()));
            assert_eq!(answer.header("etag"), (status == 304).then_some("\"x\""));
            assert_eq!(client.get("a.test", "/", &[]).await.text(), "body");
        }
    }
    let no_content = exchange(setting.http(), b"GET /204 HTTP/1.1\r\nHost: a.test\r\n\r\n", SILENCE).await.text();
    let head = no_content.to_ascii_lowercase();
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "RFC 9110 8.6: {head}");
}

#[tokio::test]
async fn chunks_pass_both_ways() {
    let upstream = RawUpstream::start(|_, mut stream| async move {
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        assert!(head.contains("transfer-encoding: chunked") && !head.contains("content-length"), "{head}");
        let body = raw::read_chunks(&mut stream).await;
        let answer = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x};name=value\r\n{body}\r\n3\r\n!!!\r\n0\r\n\r\n",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let setting = Setting::new(upstream.address(), &[]).await;
    let request = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    let mut stream = TcpStream::connect(setting.http()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("transfer-encoding: chunked"), "{head}");
    assert_eq!(raw::read_chunks(&mut stream).await, "hello world!!!");
    // The length of a body is not known in advance in HTTP/2 either.
    for mut client in setting.gateway.clients("a.test").await {
        let (mut sender, body) = fed();
        sender.send_data("hello".into()).await.unwrap();
        drop(sender);
        let request = client.request("POST", "a.test", "/", &[], "").map(|_| body);
        assert_eq!(client.send(request).await.text(), "hello!!!");
    }
}

/// RFC 9112 section 6.1: "A server MUST NOT send a response containing Transfer-Encoding unless the corresponding request
/// indicates HTTP/1.1".
#[tokio::test]
async fn http10_gets_a_body_of_unknown_length_without_chunks() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    let upstream = RawUpstream::answering(answer).await;
    let setting = Setting::new(upstream.address(), &[]).await;
    let answer = exchange(setting.http(), b"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n", SILENCE).await;
    assert!(answer.is_closed, "only the end of the connection ends the body");
    let text = answer.text();
    assert!(!text.to_ascii_lowercase().contains("transfer-encoding"), "{text}");
    assert!(text.ends_with("\r\n\r\nhello world"), "{text}");
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_whole() {
    let upstream = RawUpstream::answering("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello").await;
    let setting = Setting::new(upstream.address(), &[]).await;
    for mut client in setting.gateway.clients("a.test").await {
        for _ in 0..2 {
            assert_eq!(client.get("a.test", "/", &[]).await.text(), "hello");
        }
    }
}

// === 100-continue and trailers ===

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it() {
    // The upstream asks for the body by itself, or cannot: towards HTTP/2 the gateway answers.
    for annotations in [&[][..], &[("backend-protocol", "GRPC")]] {
        let upstream = Upstream::echo("a").await;
        let setting = Setting::new(upstream.address(), annotations).await;
        let mut stream = TcpStream::connect(setting.http()).await.unwrap();
        let head = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let interim = read_head(&mut stream).await;
        assert!(interim.starts_with("HTTP/1.1 100 "), "{annotations:?}: {interim}");
        stream.write_all(b"hello").await.unwrap();
        let answer = read_head(&mut stream).await.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 200 "), "{annotations:?}: {answer}");
        let length = answer.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        assert!(String::from_utf8(body).unwrap().contains("\"body\":\"hello\""));
    }
}

#[tokio::test]
async fn an_upstream_may_refuse_a_body_that_waits_for_100_continue() {
    let upstream = RawUpstream::answering("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno").await;
    let setting = Setting::new(upstream.address(), &[]).await;
    let head = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let mut stream = TcpStream::connect(setting.http()).await.unwrap();
    stream.write_all(head).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 417"));
    // Where the connection stays open, the body is still owed: it must not be taken for a request.
    stream.write_all(b"GET /GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
    let rest = raw::read(&mut stream, SILENCE).await.text();
    assert!(rest == "no" || rest.starts_with("noHTTP/1.1 417"), "{rest}");
}

#[tokio::test]
async fn http2_trailers_of_an_answer_arrive() {
    let upstream = Upstream::with(|_| -> Answering {
        Box::pin(async {
            let (mut sender, body) = fed();
            tokio::spawn(async move {
                sender.send_data("body".into()).await.unwrap();
                let trailers = HeaderMap::from_iter([("x-checksum".parse().unwrap(), "42".parse().unwrap())]);
                sender.send_trailers(trailers).await.unwrap();
            });
            Response::new(body)
        })
    })
    .await;
    let setting = Setting::new(upstream.address(), &[("backend-protocol", "GRPC")]).await;
    let at = setting.gateway.addresses();
    for mut client in [Client::h2c(at.http).await, Client::https2(at.https, Some("a.test")).await] {
        let Answer { status, body, trailers, .. } = client.get("a.test", "/", &[("te", "trailers")]).await;
        assert_eq!((status.as_u16(), &*body), (200, &b"body"[..]));
        assert_eq!(trailers["x-checksum"], "42");
    }
}

/// RFC 9110 section 6.5.1 lets an intermediary drop trailers; they must not be taken for something else.
#[tokio::test]
async fn trailers_of_http1_do_not_disturb_the_next_request() {
    let upstream = RawUpstream::start(|_, mut stream| async move {
        while !read_head(&mut stream).await.is_empty() {
            let body = raw::read_chunks(&mut stream).await;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n{:x}\r\n{body}\r\n0\r\nX-T: 1\r\n\r\n",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let setting = Setting::new(upstream.address(), &[]).await;
    let mut stream = TcpStream::connect(setting.http()).await.unwrap();
    for body in ["first", "other"] {
        let request = format!(
            "{} / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-S\r\n\r\n5\r\n{body}\r\n0\r\nX-S: 1\r\n\r\n",
            Method::POST
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
        assert_eq!(raw::read_chunks(&mut stream).await, body);
    }
}
