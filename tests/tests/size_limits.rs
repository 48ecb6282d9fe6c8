//! Limits of heads, bodies and connections (`ingress-nginx.md` section 1.3, `robustness.md` B2 rows 7 and 17, D-05,
//! U-12).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use http::{Request, Response};
use tests::manifests::{SETTINGS, ingress, service, settings};
use tests::raw::{self, Exchange};
use tests::upstream::{fed, full};
use tests::{Client, Gateway, Manifests, Upstream, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SILENCE: Duration = Duration::from_millis(500);

/// A gateway with a host `a.test` with annotations.
struct Site {
    gateway: Gateway,
    manifests: Manifests,
    upstream: Upstream,
}

impl Site {
    async fn with(keys: &[(&str, &str)], annotations: &[(&str, &str)]) -> Self {
        Self::of(Upstream::echo("a").await, keys, annotations).await
    }

    async fn of(upstream: Upstream, keys: &[(&str, &str)], annotations: &[(&str, &str)]) -> Self {
        let objects = [service("a", &[upstream.address()]), ingress("a", "a.test", annotations, &[("/", "a")])];
        let manifests = Manifests::of(&objects.concat());
        manifests.write("settings.yaml", &settings(keys));
        Self { gateway: Gateway::start(&manifests, &[SETTINGS]).await, manifests, upstream }
    }

    async fn send(&self, bytes: &[u8]) -> Exchange {
        raw::exchange(self.gateway.addresses().http, bytes, SILENCE).await
    }

    async fn post(&self, n_bytes: usize) -> Exchange {
        let head = format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {n_bytes}\r\n\r\n");
        self.send(&[head.as_bytes(), &vec![b'x'; n_bytes]].concat()).await
    }

    async fn post_chunked(&self, n_bytes: usize) -> Exchange {
        let chunk = [b"1000\r\n", &[b'x'; 0x1000][..], b"\r\n"].concat();
        let head = b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        self.send(&[head, &chunk.repeat(n_bytes / 0x1000)[..], b"0\r\n\r\n"].concat()).await
    }
}

fn get(target: &str, headers: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n{headers}\r\n").into_bytes()
}

#[tokio::test]
async fn a_head_within_its_limits_passes_and_a_larger_one_does_not() {
    let site = Site::with(&[], &[]).await;
    let fields = |n: usize| (0..n).map(|number| format!("X-{number}: 1\r\n")).collect::<String>();
    let field = |n: usize| format!("X: {}\r\n", "x".repeat(n));
    for (what, request, status) in [
        ("8 KiB and a byte of path", get(&format!("/{}", "a".repeat(8 << 10)), ""), 414),
        ("8 KiB of path", get(&format!("/{}", "a".repeat((8 << 10) - 1)), ""), 200),
        ("64 KiB of query", get(&format!("/?{}", "a".repeat(64 << 10)), ""), 414),
        ("61 KiB of head", get("/", &field(61 << 10)), 431),
        ("80 headers and Host", get("/", &fields(80)), 200),
        ("128 headers and Host", get("/", &fields(128)), 431),
        ("a cookie of 8 KiB", get("/", &format!("Cookie: {}\r\n", "c".repeat(8 << 10))), 200),
    ] {
        let exchange = site.send(&request).await;
        assert_eq!(exchange.status(), status, "{what}");
        assert_eq!(exchange.is_closed, status != 200, "{what}");
    }
    assert_eq!(site.upstream.n_requests(), 3);
}

#[tokio::test]
async fn large_client_header_buffers_limits_lines_and_the_whole() {
    let site = Site::with(&[("large-client-header-buffers", "2 2k")], &[]).await;
    let field = |name: &str, n: usize| format!("{name}: {}\r\n", "x".repeat(n));
    for (what, request, status) in [
        ("a line of 2 KiB", get("/", &field("X", 2040)), 200),
        ("a longer line", get("/", &field("X", 2060)), 431),
        ("a longer target", get(&format!("/{}", "a".repeat(2048)), ""), 414),
        ("4 KiB in all", get("/", &[field("X", 2000), field("Y", 2000), field("Z", 200)].concat()), 431),
    ] {
        assert_eq!(site.send(&request).await.status(), status, "{what}");
    }
    site.manifests.write("settings.yaml", &settings(&[]));
    let request = get("/", &field("X", 2060));
    wait::until("the limit is gone", async || (site.send(&request).await.status() == 200).then_some(())).await;
}

#[tokio::test]
async fn proxy_body_size_answers_413_by_length_and_by_count() {
    const MIB: usize = 1 << 20;
    for (keys, annotations, limit) in [
        (&[][..], &[][..], Some(MIB)),
        (&[("proxy-body-size", "8k")], &[], Some(8 << 10)),
        (&[("proxy-body-size", "8k")], &[("proxy-body-size", "16K")], Some(16 << 10)),
        (&[("proxy-body-size", "8k")], &[("proxy-body-size", "0")], None),
        (&[("proxy-body-size", "0")], &[], None),
    ] {
        let site = Site::with(keys, annotations).await;
        let within = limit.unwrap_or(2 * MIB);
        assert_eq!(site.post(within).await.status(), 200, "{keys:?} {annotations:?}");
        assert_eq!(site.post_chunked(within).await.status(), 200, "{keys:?} {annotations:?}");
        let Some(limit) = limit else { continue };
        let n_requests = site.upstream.n_requests();
        let exchange = site.post(limit + 1).await;
        assert_eq!((exchange.status(), exchange.is_closed), (413, true), "{keys:?} {annotations:?}");
        // Nothing of a body that is known to be too large is forwarded.
        assert_eq!(site.upstream.n_requests(), n_requests);
        // The upstream meets a body that shows its size as it comes, so this is the last.
        assert_eq!(site.post_chunked(limit + 0x1000).await.status(), 413, "{keys:?} {annotations:?}");
    }
}

#[tokio::test]
async fn a_length_that_is_too_large_is_answered_before_the_body_comes() {
    let site = Site::with(&[], &[]).await;
    let exchange = site.send(b"PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1048577\r\n\r\n").await;
    assert_eq!(exchange.status(), 413);
    let mut client = Client::h2c(site.gateway.addresses().http).await;
    let body = "x".repeat((1 << 20) + 1);
    let request = client.request("PUT", "a.test", "/", &[("content-length", "1048577")], &body);
    assert_eq!(client.open(request).await.unwrap().status(), 413);
}

#[tokio::test]
async fn an_answer_whose_head_exceeds_proxy_buffer_size_is_a_bad_gateway() {
    let large = |_: Request<_>| -> tests::upstream::Answering {
        Box::pin(async { Response::builder().header("x-large", "x".repeat(5 << 10)).body(full("large")).unwrap() })
    };
    for (keys, annotations, status) in [
        (&[][..], &[][..], 502),
        (&[("proxy-buffer-size", "8k")], &[], 200),
        (&[], &[("proxy-buffer-size", "8k")], 200),
        (&[("proxy-buffer-size", "8k")], &[("proxy-buffer-size", "4k")], 502),
    ] {
        let site = Site::of(Upstream::with(large).await, keys, annotations).await;
        assert_eq!(site.gateway.get("http://a.test/").await.status, status, "{keys:?} {annotations:?}");
        assert_eq!(site.upstream.n_requests(), 1);
    }
}

#[tokio::test]
async fn the_answer_that_reaches_keep_alive_requests_closes_politely() {
    let site = Site::with(&[("keep-alive-requests", "3")], &[]).await;
    let mut client = Client::http1(site.gateway.addresses().http).await;
    for request in 1..=3 {
        let answer = client.get("a.test", "/", &[]).await;
        let closes = answer.header("connection") == Some("close");
        assert_eq!((answer.status.as_u16(), closes), (200, request == 3), "request {request}");
    }
    let request = client.request("GET", "a.test", "/", &[], "");
    assert!(client.try_send(request).await.is_err());
}

#[tokio::test]
async fn http2_connections_are_told_how_many_streams_they_may_open() {
    let site = Site::with(&[], &[]).await;
    assert_eq!(max_concurrent_streams(&site.gateway).await, Some(128));
    site.manifests.write("settings.yaml", &settings(&[("http2-max-concurrent-streams", "7")]));
    let is_live = async || (max_concurrent_streams(&site.gateway).await == Some(7)).then_some(());
    wait::until("the limit is live", is_live).await;
}

/// "h2 stream window 64 KiB", "h2 connection window 1 MiB" (`robustness.md`, the edge list): what a client may send that
/// nobody has read.
#[tokio::test]
async fn http2_clients_may_send_64_kib_on_a_stream_and_1_mib_in_all() {
    let site = Site::with(&[], &[]).await;
    let mut stream = begin_http2(&site.gateway).await;
    assert_eq!(setting(&mut stream, 4).await, Some(64 << 10));
    loop {
        let (kind, payload) = frame(&mut stream).await;
        if kind == 8 {
            // From 65,535 on (RFC 9113 section 6.9.2).
            assert_eq!(u32::from_be_bytes(payload.try_into().unwrap()) + 65_535, 1 << 20);
            return;
        }
    }
}

/// What the gateway's SETTINGS frame says (RFC 9113 section 6.5.2: identifier 3).
async fn max_concurrent_streams(gateway: &Gateway) -> Option<u32> {
    setting(&mut begin_http2(gateway).await, 3).await
}

/// A connection whose client has said that it speaks HTTP/2.
async fn begin_http2(gateway: &Gateway) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.addresses().http).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    stream
}

/// A value of the SETTINGS frame that comes first.
async fn setting(stream: &mut TcpStream, identifier: u8) -> Option<u32> {
    let (kind, payload) = frame(stream).await;
    assert_eq!(kind, 4, "a SETTINGS frame comes first");
    let mut settings = payload.chunks(6).map(|entry| (entry[1], u32::from_be_bytes(entry[2..6].try_into().unwrap())));
    settings.find(|(found, _)| *found == identifier).map(|(_, value)| value)
}

/// The type and the payload of the next frame.
async fn frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    stream.read_exact(&mut payload).await.unwrap();
    (head[3], payload)
}

#[tokio::test]
async fn names_that_nginx_takes_for_invalid_are_dropped_unless_the_settings_want_them() {
    let sent = [("x_a", "1"), ("x.b", "2"), ("x-c", "3")];
    for (keys, passed) in [
        (&[][..], [false, false, true]),
        (&[("enable-underscores-in-headers", "true")], [true, false, true]),
        (&[("ignore-invalid-headers", "false")], [true, true, true]),
    ] {
        let site = Site::with(keys, &[]).await;
        let seen = site.gateway.get_with("http://a.test/", &sent).await.seen();
        let found = sent.map(|(name, _)| seen.header(name).is_some());
        assert_eq!(found, passed, "{keys:?}");
    }
}

#[tokio::test]
async fn client_body_timeout_ends_a_body_that_stops_coming() {
    let site = Site::with(&[("client-body-timeout", "1")], &[]).await;
    let exchange = site.send(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhalf").await;
    assert_eq!((exchange.status(), exchange.is_closed), (408, true));
    for mut client in site.gateway.clients("a.test").await {
        let (mut sender, body) = fed();
        sender.send_data("half".into()).await.unwrap();
        let request = client.request("POST", "a.test", "/", &[], "").map(|_| body);
        assert_eq!(client.open(request).await.unwrap().status(), 408);
        drop(sender);
    }
}
