//! PROXY headers on the data ports (`use-proxy-protocol`; `ingress-nginx.md` sections 1.3 and 1.11).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Version;
use tests::certificate::Certificate;
use tests::client::insecure_config;
use tests::manifests::{SETTINGS, ingress, service, settings, tls};
use tests::raw;
use tests::{Answer, Client, Gateway, Manifests, Upstream, wait};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const TEXT: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.2 12345 8080\r\n";
/// The same in version 2, with an extension behind it.
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc0\0\x02\x07\xc6\x33\x64\x02\x30\x39\x1f\x90\x04\0\x01\0";
/// A health check of the load balancer.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
/// A load balancer that ended TLS at its port 443.
const TEXT_443: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.2 12345 443\r\n";

async fn gateway(keys: &[(&str, &str)]) -> (Gateway, Manifests, Upstream) {
    let upstream = Upstream::echo("a").await;
    let objects = [
        service("a", &[upstream.address()]),
        Certificate::self_signed(&["a.test"]).secret("a"),
        ingress("a", "a.test", &[("ssl-redirect", "false")], &[("/", "a")]),
        tls(&["a.test"], "a"),
    ];
    let manifests = Manifests::of(&objects.concat());
    manifests.write("settings.yaml", &settings(keys));
    (Gateway::start(&manifests, &[SETTINGS]).await, manifests, upstream)
}

/// A connection that has sent a PROXY header.
async fn introduced(address: SocketAddr, header: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(header).await.unwrap();
    stream
}

async fn ask(address: SocketAddr, header: &[u8], headers: &[(&str, &str)]) -> Answer {
    let stream = introduced(address, header).await;
    Client::over(stream, None, Version::HTTP_11).await.get("a.test", "/", headers).await
}

#[tokio::test]
async fn the_client_of_the_header_is_the_client() {
    let (gateway, _manifests, _upstream) = gateway(&[("use-proxy-protocol", "true")]).await;
    let http = gateway.addresses().http;
    for (header, client, port, scheme) in [
        (TEXT, "192.0.2.7", "8080", "http"),
        (BINARY, "192.0.2.7", "8080", "http"),
        (TEXT_443, "192.0.2.7", "443", "https"),
    ] {
        let seen = ask(http, header, &[("x-forwarded-for", "203.0.113.9")]).await.seen();
        assert_eq!(seen.header("x-real-ip"), Some(client));
        assert_eq!(seen.header("x-forwarded-for"), Some(client));
        assert_eq!(seen.header("x-forwarded-port"), Some(port));
        assert_eq!(seen.header("x-forwarded-proto"), Some(scheme));
    }
    gateway.wait_for_access_log(&["192.0.2.7 - ", "GET /"]).await;
    for header in [LOCAL, b"PROXY UNKNOWN\r\n"] {
        let seen = ask(http, header, &[]).await.seen();
        assert!(seen.header("x-real-ip").unwrap().starts_with("127."), "{seen:?}");
    }
}

#[tokio::test]
async fn tls_comes_after_the_header() {
    let (gateway, _manifests, _upstream) = gateway(&[("use-proxy-protocol", "true")]).await;
    for header in [TEXT, BINARY] {
        let stream = introduced(gateway.addresses().https, header).await;
        let connector = TlsConnector::from(Arc::new(insecure_config().0));
        let stream = connector.connect("a.test".try_into().unwrap(), stream).await.unwrap();
        let seen = Client::over(stream, None, Version::HTTP_11).await.get("a.test", "/", &[]).await.seen();
        assert_eq!((seen.header("x-real-ip"), seen.header("x-forwarded-proto")), (Some("192.0.2.7"), Some("https")));
    }
}

#[tokio::test]
async fn the_header_of_a_stranger_is_read_and_not_believed() {
    let keys = [("use-proxy-protocol", "true"), ("proxy-real-ip-cidr", "203.0.113.0/24")];
    let (gateway, _manifests, _upstream) = gateway(&keys).await;
    let seen = ask(gateway.addresses().http, TEXT, &[]).await.seen();
    assert!(seen.header("x-real-ip").unwrap().starts_with("127."), "{seen:?}");
}

#[tokio::test]
async fn forwarded_headers_count_where_the_client_of_the_header_is_trusted() {
    let keys = [("use-proxy-protocol", "true"), ("use-forwarded-headers", "true")];
    let trusted = [("proxy-real-ip-cidr", "127.0.0.0/8,192.0.2.0/24")];
    let stranger = [("proxy-real-ip-cidr", "127.0.0.0/8")];
    for (cidr, client) in [(trusted, "203.0.113.9"), (stranger, "192.0.2.7")] {
        let (gateway, _manifests, _upstream) = gateway(&[&keys[..], &cidr].concat()).await;
        let seen = ask(gateway.addresses().http, TEXT, &[("x-forwarded-for", "203.0.113.9")]).await.seen();
        assert_eq!(seen.header("x-real-ip"), Some(client));
    }
}

#[tokio::test]
async fn whoever_sends_no_header_or_another_one_is_cut_off() {
    let keys = [("use-proxy-protocol", "true"), ("proxy-protocol-header-timeout", "1")];
    let (gateway, _manifests, upstream) = gateway(&keys).await;
    let too_long = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", &[0; 4096][..]].concat();
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".as_slice(),
        b"PROXY TCP4 192.0.2.7 198.51.100.2 1\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        // Not complete in time.
        b"PROXY TCP4 192.0.2.7",
        &too_long,
    ] {
        let exchange = raw::exchange(gateway.addresses().http, bytes, Duration::from_secs(1)).await;
        assert!(exchange.is_closed && exchange.received.is_empty(), "{}: {exchange:?}", bytes.escape_ascii());
    }
    assert_eq!(upstream.n_requests(), 0);
    assert!(gateway.metric("penstock_proxy_header_failures_total", &[]).await >= 4.0);
}

#[tokio::test]
async fn the_header_is_demanded_of_connections_after_the_edit() {
    let (gateway, manifests, _upstream) = gateway(&[]).await;
    let mut before = Client::http1(gateway.addresses().http).await;
    assert_eq!(before.get("a.test", "/", &[]).await.status, 200);
    let exchange = raw::exchange(gateway.addresses().http, TEXT, Duration::from_secs(1)).await;
    assert_eq!(exchange.status(), 400, "{exchange:?}");
    manifests.write("settings.yaml", &settings(&[("use-proxy-protocol", "true")]));
    let is_demanded = async || {
        let stream = introduced(gateway.addresses().http, TEXT).await;
        let mut client = Client::over(stream, None, Version::HTTP_11).await;
        let request = client.request("GET", "a.test", "/", &[], "");
        client.try_send(request).await.ok().filter(|answer| answer.status == 200).map(drop)
    };
    wait::until("the header is read", is_demanded).await;
    // Who was there before goes on.
    assert_eq!(before.get("a.test", "/", &[]).await.status, 200);
}
