//! What upstreams are told about clients (ingress-nginx.md section 1.11), and which headers do not pass.

use std::time::Duration;

use http::header::HeaderValue;
use tests::certificate::Certificate;
use tests::manifests::{config_map, ingress, service, tls};
use tests::raw::{RawUpstream, exchange, read_head};
use tests::{Client, Gateway, Manifests, Upstream};
use tokio::io::AsyncWriteExt;

const SILENCE: Duration = Duration::from_millis(300);

/// What a client says about itself.
const CLAIMS: &[(&str, &str)] = &[
    ("x-forwarded-for", "192.0.2.9, 198.51.100.7"),
    ("x-forwarded-host", "outer.test"),
    ("x-forwarded-port", "8443"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-scheme", "https"),
    ("x-scheme", "https"),
    ("x-real-ip", "192.0.2.9"),
    ("x-original-forwarded-for", "203.0.113.1"),
    ("x-original-forwarded-host", "evil.test"),
    ("forwarded", "for=192.0.2.9"),
    ("proxy", "http://evil.test"),
];

/// A gateway whose host a.test leads to an echo upstream, with and without TLS, with settings.
struct Setting {
    gateway: Gateway,
    _upstream: Upstream,
    manifests: Manifests,
}

impl Setting {
    async fn new(settings: &[(&str, &str)]) -> Self {
        let upstream = Upstream::echo("a").await;
        let secret = Certificate::self_signed(&["a.test"]).secret("a");
        let ingress = ingress("a", "a.test", &[("ssl-redirect", "false")], &[("/", "a")]);
        let text = [service("a", &[upstream.address()]), secret, ingress, tls(&["a.test"], "a")].concat();
        let manifests = Manifests::of(&text);
        manifests.write("settings.yaml", &config_map("settings", settings));
        let gateway = Gateway::start(&manifests, &["--configmap=default/settings"]).await;
        Self { gateway, _upstream: upstream, manifests }
    }

    /// Asks with the claims, and compares what the upstream was told.
    async fn check(&self, told: &[(&str, Option<&str>)]) {
        let mut client = Client::http1(self.gateway.addresses().http).await;
        let seen = client.get("a.test", "/", CLAIMS).await.seen();
        for (name, value) in told {
            assert_eq!(seen.header(name), *value, "{name}");
        }
    }
}

#[tokio::test]
async fn a_client_cannot_say_who_it_is() {
    let setting = Setting::new(&[]).await;
    let at = setting.gateway.addresses();
    for mut client in setting.gateway.clients("a.test").await {
        let (scheme, port) = client.certificate().map_or(("http", at.http.port()), |_| ("https", at.https.port()));
        let port = port.to_string();
        for claims in [&[][..], CLAIMS] {
            let seen = client.get("a.test", "/", claims).await.seen();
            let chain = claims.first().map(|(_, chain)| *chain);
            for (name, value) in [
                ("x-forwarded-for", Some("127.0.0.1")),
                ("x-real-ip", Some("127.0.0.1")),
                ("x-forwarded-host", Some("a.test")),
                ("x-forwarded-port", Some(&*port)),
                ("x-forwarded-proto", Some(scheme)),
                ("x-forwarded-scheme", Some(scheme)),
                ("x-scheme", Some(scheme)),
                ("x-original-forwarded-for", chain),
                ("forwarded", None),
                ("proxy", None),
            ] {
                assert_eq!(seen.header(name), value, "{name} over {scheme} with {claims:?}");
            }
            assert_eq!(seen.host, "a.test");
        }
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let setting =
        Setting::new(&[("use-forwarded-headers", "true"), ("proxy-real-ip-cidr", "127.0.0.0/8, 198.51.100.0/24")])
            .await;
    setting
        .check(&[
            ("x-forwarded-for", Some("192.0.2.9")),
            ("x-real-ip", Some("192.0.2.9")),
            ("x-forwarded-host", Some("outer.test")),
            ("x-forwarded-port", Some("8443")),
            ("x-forwarded-proto", Some("https")),
            ("x-forwarded-scheme", Some("https")),
            ("x-scheme", Some("https")),
            ("x-original-forwarded-for", Some("192.0.2.9, 198.51.100.7")),
            ("x-original-forwarded-host", Some("outer.test")),
            ("host", Some("outer.test")),
            ("forwarded", None),
            ("proxy", None),
        ])
        .await;
    // The host that a proxy names is for the upstream; which route is taken says the request itself.
    let claims = [("x-forwarded-host", "first.test, second.test")];
    let mut client = Client::http1(setting.gateway.addresses().http).await;
    let seen = client.get("a.test", "/", &claims).await.seen();
    assert_eq!((seen.host.as_str(), seen.header("x-forwarded-host")), ("first.test", Some("first.test")));
}

#[tokio::test]
async fn a_peer_outside_the_trusted_networks_is_not_believed() {
    let setting = Setting::new(&[
        ("use-forwarded-headers", "true"),
        ("compute-full-forwarded-for", "true"),
        ("proxy-real-ip-cidr", "10.0.0.0/8"),
    ])
    .await;
    setting
        .check(&[
            ("x-forwarded-for", Some("127.0.0.1")),
            ("x-real-ip", Some("127.0.0.1")),
            ("x-forwarded-host", Some("a.test")),
            ("x-forwarded-proto", Some("http")),
            ("x-scheme", Some("http")),
            ("x-original-forwarded-for", Some("192.0.2.9, 198.51.100.7")),
            ("host", Some("a.test")),
        ])
        .await;
}

#[tokio::test]
async fn the_full_chain_is_kept_where_it_is_wanted() {
    let setting = Setting::new(&[
        ("use-forwarded-headers", "true"),
        ("compute-full-forwarded-for", "true"),
        ("proxy-real-ip-cidr", "127.0.0.0/8"),
    ])
    .await;
    setting
        .check(&[
            ("x-forwarded-for", Some("192.0.2.9, 198.51.100.7, 127.0.0.1")),
            // The last one that is no trusted proxy.
            ("x-real-ip", Some("198.51.100.7")),
        ])
        .await;
    // A list in several fields is one list (RFC 9110 section 5.3).
    let mut client = Client::http1(setting.gateway.addresses().http).await;
    let claims = [("x-forwarded-for", "192.0.2.9"), ("x-forwarded-for", "198.51.100.7")];
    let seen = client.get("a.test", "/", &claims).await.seen();
    assert_eq!(seen.header("x-forwarded-for"), Some("192.0.2.9, 198.51.100.7, 127.0.0.1"));
    assert_eq!(seen.header("x-original-forwarded-for"), Some("192.0.2.9, 198.51.100.7"));
    assert_eq!(client.get("a.test", "/", &[]).await.seen().header("x-forwarded-for"), Some("127.0.0.1"));
}

#[tokio::test]
async fn the_chain_may_come_in_a_header_of_another_name() {
    let setting = Setting::new(&[
        ("use-forwarded-headers", "true"),
        ("forwarded-for-header", "CF-Connecting-IP"),
        ("proxy-real-ip-cidr", "127.0.0.0/8"),
    ])
    .await;
    let mut client = Client::http1(setting.gateway.addresses().http).await;
    let claims = [("cf-connecting-ip", "192.0.2.33"), ("x-forwarded-for", "203.0.113.5")];
    let seen = client.get("a.test", "/", &claims).await.seen();
    assert_eq!(seen.header("x-real-ip"), Some("192.0.2.33"));
    assert_eq!(seen.header("x-forwarded-for"), Some("192.0.2.33"));
    assert_eq!(seen.header("x-original-forwarded-for"), Some("192.0.2.33"));
}

#[tokio::test]
async fn a_request_id_is_kept_or_made() {
    let setting = Setting::new(&[]).await;
    let mut made = Vec::new();
    for mut client in setting.gateway.clients("a.test").await {
        let kept = client.get("a.test", "/", &[("x-request-id", "mine")]).await.seen();
        assert_eq!(kept.header("x-request-id"), Some("mine"));
        for _ in 0..2 {
            let seen = client.get("a.test", "/", &[]).await.seen();
            let id = seen.header("x-request-id").unwrap().to_owned();
            let is_hex = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            assert!(id.len() == 32 && is_hex, "{id}");
            made.push(id);
        }
    }
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 8, "each request has one of its own");
    let setting = Setting::new(&[("generate-request-id", "false")]).await;
    let mut client = Client::http1(setting.gateway.addresses().http).await;
    assert_eq!(client.get("a.test", "/", &[]).await.seen().header("x-request-id"), None);
}

/// robustness.md D-01: `Connection` names fields of the client's hop, never ours.
#[tokio::test]
async fn a_client_cannot_have_our_headers_dropped() {
    let setting = Setting::new(&[]).await;
    let named = "close, X-Forwarded-For, X-Real-IP, X-Forwarded-Proto, X-Request-ID, Host, Authorization, X-Hop";
    let claims = [("connection", named), ("authorization", "secret"), ("x-hop", "1"), ("x-other", "2")];
    let mut client = Client::http1(setting.gateway.addresses().http).await;
    let seen = client.get("a.test", "/", &claims).await.seen();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-request-id").unwrap().len(), 32);
    assert_eq!((seen.header("host"), seen.header("x-other")), (Some("a.test"), Some("2")));
    assert_eq!((seen.header("authorization"), seen.header("x-hop")), (None, None));
}

/// robustness.md D-02, RFC 9110 section 7.6.1.
#[tokio::test]
async fn headers_of_one_hop_stay_there() {
    let (sender, mut heads) = tokio::sync::mpsc::unbounded_channel();
    let upstream = RawUpstream::start(move |_, mut stream| {
        let sender = sender.clone();
        async move {
            sender.send(read_head(&mut stream).await).unwrap();
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Private, keep-alive\r\nX-Private: 1\r\n\
                          Keep-Alive: timeout=7\r\nProxy-Connection: keep-alive\r\nX-Public: 1\r\n\r\nok";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let route = ingress("a", "a.test", &[], &[("/", "a")]);
    let manifests = Manifests::of(&[service("a", &[upstream.address()]), route].concat());
    let gateway = Gateway::start(&manifests, &[]).await;
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
                   TE: gzip, trailers\r\nTrailer: X-T\r\nUpgrade: h2c\r\nProxy-Authorization: Basic eA==\r\n\
                   Connection: keep-alive, TE, Upgrade\r\nX-Kept: 1\r\n\r\n";
    let answer = exchange(gateway.addresses().http, request.as_bytes(), SILENCE).await.text();
    let head = heads.recv().await.unwrap().to_ascii_lowercase();
    for name in ["keep-alive:", "proxy-connection:", "te:", "trailer:", "upgrade:"] {
        assert!(!head.contains(&format!("\r\n{name}")), "{name} passed: {head}");
    }
    assert!(head.contains("\r\nx-kept: 1\r\n"), "{head}");
    let answer = answer.to_ascii_lowercase();
    for name in ["keep-alive:", "proxy-connection:", "x-private:"] {
        assert!(!answer.contains(&format!("\r\n{name}")), "{name} passed: {answer}");
    }
    assert!(answer.contains("\r\nx-public: 1\r\n"), "{answer}");
}

/// RFC 9113 section 8.2.3.
#[tokio::test]
async fn crumbs_of_a_cookie_are_joined_for_http1() {
    let setting = Setting::new(&[]).await;
    let at = setting.gateway.addresses();
    for mut client in [Client::h2c(at.http).await, Client::https2(at.https, Some("a.test")).await] {
        let crumbs = [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")];
        let seen = client.get("a.test", "/", &crumbs).await.seen();
        assert_eq!((seen.version.as_str(), seen.header("cookie")), ("HTTP/1.1", Some("a=1; b=2; c=3")));
    }
}

#[tokio::test]
async fn the_upstream_sees_the_host_that_the_client_asked_for() {
    let setting = Setting::new(&[]).await;
    for mut client in setting.gateway.clients("a.test").await {
        for host in ["a.test", "A.Test", "a.test:8080"] {
            let seen = client.get(host, "/", &[]).await.seen();
            assert_eq!(seen.header("host"), Some(host));
            assert_eq!(seen.header("x-forwarded-host"), Some(host));
        }
    }
}

/// nginx drops them, and so do we: `X_Real_IP` and `X-Real-IP` are one variable to many programs.
#[tokio::test]
async fn headers_with_an_underscore_do_not_pass() {
    let setting = Setting::new(&[]).await;
    for mut client in setting.gateway.clients("a.test").await {
        let mut request = client.request("GET", "a.test", "/", &[("x-ok", "1")], "");
        for name in ["x_real_ip", "x_forwarded_for", "x_y"] {
            request.headers_mut().append(name, HeaderValue::from_static("evil"));
        }
        let seen = client.send(request).await.seen();
        assert!(!seen.headers.iter().any(|(name, _)| name.contains('_')), "{:?}", seen.headers);
        assert_eq!(seen.header("x-ok"), Some("1"));
    }
}

#[tokio::test]
async fn a_changed_setting_holds_for_the_next_request_of_an_open_connection() {
    let setting = Setting::new(&[]).await;
    let mut client = Client::http1(setting.gateway.addresses().http).await;
    assert_eq!(client.get("a.test", "/", CLAIMS).await.seen().header("x-real-ip"), Some("127.0.0.1"));
    let settings = [("use-forwarded-headers", "true"), ("proxy-real-ip-cidr", "127.0.0.0/8")];
    setting.manifests.write("settings.yaml", &config_map("settings", &settings));
    tests::wait::until("the setting is live", async || {
        let seen = client.get("a.test", "/", CLAIMS).await.seen();
        (seen.header("x-real-ip") == Some("198.51.100.7")).then_some(())
    })
    .await;
}
