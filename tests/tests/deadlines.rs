//! Nothing waits for ever: every way in which a client can be silent has a limit.

use std::time::{Duration, Instant};

use tests::certificate::Certificate;
use tests::client::tls_stream;
use tests::manifests::{config_map, ingress, service, tls};
use tests::raw::{RawUpstream, read, read_head};
use tests::upstream::{Answering, zeros};
use tests::wait::LIMIT;
use tests::{Gateway, Manifests, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// A gateway with one of the limits set to a second, so that the test does not wait for the default. All others are far
/// above what the test waits for.
async fn gateway_with(setting: &str, upstream: std::net::SocketAddr) -> (Gateway, Manifests) {
    let settings = ["keep-alive", "client-header-timeout", "client-body-timeout"];
    let settings = settings.map(|name| (name, if name == setting { "1" } else { "600" }));
    let secret = Certificate::self_signed(&["a.test"]).secret("a");
    let route = ingress("a", "a.test", &[("ssl-redirect", "false")], &[("/", "a")]);
    let text = [service("a", &[upstream]), route, tls(&["a.test"], "a"), secret, config_map("settings", &settings)];
    let manifests = Manifests::of(&text.concat());
    (Gateway::start(&manifests, &["--configmap=default/settings"]).await, manifests)
}

/// Waits for the end of a stream, which must come, and not before the second is over.
async fn assert_ends_in_time(what: &str, began: Instant, stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = timeout(LIMIT, stream.read_to_end(&mut rest)).await.unwrap_or_else(|_| panic!("{what} waits for ever"));
    assert!(began.elapsed() >= Duration::from_millis(900), "{what} ended after {:?}", began.elapsed());
}

#[tokio::test]
async fn a_kept_connection_is_not_idle_for_ever() {
    let upstream = Upstream::echo("a").await;
    let (gateway, _manifests) = gateway_with("keep-alive", upstream.address()).await;
    let at = gateway.addresses();
    let mut stream = TcpStream::connect(at.http).await.unwrap();
    let (mut over_tls, _) = tls_stream(at.https, Some("a.test"), http::Version::HTTP_11).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    over_tls.write_all(REQUEST).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
    assert!(read_head(&mut over_tls).await.starts_with("HTTP/1.1 200"));
    let began = Instant::now() - Duration::from_millis(200);
    tokio::join!(
        assert_ends_in_time("an idle connection", began, &mut stream),
        assert_ends_in_time("an idle connection over TLS", began, &mut over_tls),
    );
}

#[tokio::test]
async fn a_request_head_has_one_limit_for_all_of_it() {
    let upstream = Upstream::echo("a").await;
    let (gateway, _manifests) = gateway_with("client-header-timeout", upstream.address()).await;
    let at = gateway.addresses();
    let began = Instant::now();
    let silent = async {
        let mut stream = TcpStream::connect(at.http).await.unwrap();
        assert_ends_in_time("a silent connection", began, &mut stream).await;
    };
    let silent_handshake = async {
        let mut stream = TcpStream::connect(at.https).await.unwrap();
        assert_ends_in_time("a silent TLS handshake", began, &mut stream).await;
    };
    let silent_http1 = async {
        let (mut stream, _) = tls_stream(at.https, Some("a.test"), http::Version::HTTP_11).await.unwrap();
        assert_ends_in_time("a silent HTTP/1.1 connection over TLS", began, &mut stream).await;
    };
    let silent_http2 = async {
        let (mut stream, _) = tls_stream(at.https, Some("a.test"), http::Version::HTTP_2).await.unwrap();
        assert_ends_in_time("a silent HTTP/2 connection over TLS", began, &mut stream).await;
    };
    let half_preface = async {
        let mut stream = TcpStream::connect(at.http).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
        assert_ends_in_time("half an HTTP/2 preface", began, &mut stream).await;
    };
    let drip_feed = async {
        let stream = TcpStream::connect(at.http).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        // A byte now and then would keep a limit for each read away for ever: the pace is what is tested.
        let feed = tokio::spawn(async move {
            while writer.write_all(b"G").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        assert_ends_in_time("a head in small pieces", began, &mut reader).await;
        feed.abort();
    };
    let second_head = async {
        let mut stream = TcpStream::connect(at.http).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a").await.unwrap();
        assert_ends_in_time("half of a second head", began, &mut stream).await;
    };
    tokio::join!(silent, silent_handshake, silent_http1, silent_http2, half_preface, drip_feed, second_head);
}

#[tokio::test]
async fn a_request_body_that_stops_is_given_up() {
    let (sender, mut ended) = unbounded_channel();
    let upstream = RawUpstream::start(move |_, mut stream| {
        let sender = sender.clone();
        async move {
            read_head(&mut stream).await;
            // How the connection ends does not matter, but that it does.
            let _ = stream.read_to_end(&mut Vec::new()).await;
            sender.send(()).unwrap();
        }
    })
    .await;
    let (gateway, _manifests) = gateway_with("client-body-timeout", upstream.address()).await;
    let mut stream = TcpStream::connect(gateway.addresses().http).await.unwrap();
    let request = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\nfirst";
    stream.write_all(request).await.unwrap();
    let answer = read(&mut stream, LIMIT).await;
    assert!(answer.is_closed);
    assert_eq!(answer.status(), 408, "{}", answer.text());
    timeout(LIMIT, ended.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let (sender, mut ended) = unbounded_channel();
    let upstream = Upstream::with(move |_| -> Answering {
        /// Tells when the answer is given up.
        struct Guard(tokio::sync::mpsc::UnboundedSender<()>);
        impl Drop for Guard {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let guard = Guard(sender.clone());
        Box::pin(async move {
            use http_body_util::BodyExt;
            let body = zeros(256 << 20).map_frame(move |frame| {
                let _alive = &guard;
                frame
            });
            http::Response::new(body.boxed())
        })
    })
    .await;
    let (gateway, _manifests) = gateway_with("client-body-timeout", upstream.address()).await;
    let at = gateway.addresses();
    let mut stream = TcpStream::connect(at.http).await.unwrap();
    let (mut over_tls, _) = tls_stream(at.https, Some("a.test"), http::Version::HTTP_11).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    over_tls.write_all(REQUEST).await.unwrap();
    for _ in 0..2 {
        timeout(LIMIT, ended.recv()).await.expect("an answer that nobody reads waits for ever").unwrap();
    }
}

/// The limit is from read to read, as that of nginx is.
#[tokio::test]
async fn an_upload_that_is_slow_but_alive_is_not_cut_off() {
    let upstream = Upstream::echo("a").await;
    let (gateway, _manifests) = gateway_with("client-body-timeout", upstream.address()).await;
    let mut stream = TcpStream::connect(gateway.addresses().http).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\n").await.unwrap();
    // Longer than the limit in all, shorter from piece to piece: the pace is what is tested.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        stream.write_all(b"x").await.unwrap();
    }
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
}
