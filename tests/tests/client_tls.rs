//! Settings of TLS towards clients (`ingress-nginx.md` sections 1.3 and 1.9).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, cipher_suite};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ClientConfig, SupportedProtocolVersion};
use tests::certificate::Certificate;
use tests::client::{insecure_config_by, insecure_config_of};
use tests::manifests::{SETTINGS, ingress, service, settings, tls};
use tests::{Gateway, Manifests, Upstream, wait};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A gateway with the host `a.test`, which has a certificate, and `plain.test`, which has none.
struct Site {
    gateway: Gateway,
    manifests: Manifests,
    _upstream: Upstream,
}

impl Site {
    async fn with(keys: &[(&str, &str)]) -> Self {
        let upstream = Upstream::echo("a").await;
        let objects = [
            service("a", &[upstream.address()]),
            Certificate::self_signed(&["a.test"]).secret("a"),
            ingress("plain", "plain.test", &[], &[("/", "a")]),
            ingress("a", "a.test", &[], &[("/", "a")]),
            tls(&["a.test"], "a"),
        ];
        let manifests = Manifests::of(&objects.concat());
        manifests.write("settings.yaml", &settings(keys));
        Self { gateway: Gateway::start(&manifests, &[SETTINGS]).await, manifests, _upstream: upstream }
    }

    async fn handshake(&self, name: &str, versions: &[&'static SupportedProtocolVersion]) -> Option<CipherSuite> {
        handshake(self.gateway.addresses().https, name, versions).await
    }
}

/// The cipher suite that a client of these versions of TLS gets; `None` when it is refused.
async fn handshake(
    address: SocketAddr,
    name: &str,
    versions: &[&'static SupportedProtocolVersion],
) -> Option<CipherSuite> {
    negotiate(address, name, insecure_config_of(versions).0).await
}

async fn negotiate(address: SocketAddr, name: &str, config: ClientConfig) -> Option<CipherSuite> {
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name.to_owned().try_into().unwrap(), stream).await.ok()?;
    Some(stream.get_ref().1.negotiated_cipher_suite()?.suite())
}

const ALL: &[&SupportedProtocolVersion] = rustls::ALL_VERSIONS;

#[tokio::test]
async fn hsts_is_on_for_every_answer_over_tls_and_for_no_other() {
    let site = Site::with(&[]).await;
    let value = Some("max-age=31536000; includeSubDomains");
    for (url, expected) in [
        ("https://a.test/", value),
        ("https://a.test/?status=500", value),
        ("https://plain.test/", value),
        ("https://nowhere.test/", value),
        ("http://a.test/", None),
        ("http://plain.test/", None),
    ] {
        let answer = site.gateway.get(url).await;
        assert_eq!(answer.header("strict-transport-security"), expected, "{url}");
    }
}

#[tokio::test]
async fn hsts_follows_its_keys_live() {
    let site = Site::with(&[("hsts-max-age", "60"), ("hsts-include-subdomains", "false")]).await;
    let answer = site.gateway.get("https://a.test/").await;
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=60"));
    for (keys, expected) in [
        (&[("hsts-preload", "true")][..], Some("max-age=31536000; includeSubDomains; preload")),
        (&[("hsts", "false")][..], None),
    ] {
        site.manifests.write("settings.yaml", &settings(keys));
        site.gateway.wait_for("https://a.test/", |answer| answer.header("strict-transport-security") == expected).await;
    }
}

#[tokio::test]
async fn http_redirect_code_is_that_of_the_redirect_to_https() {
    let site = Site::with(&[("http-redirect-code", "301")]).await;
    assert_eq!(site.gateway.get("http://a.test/x").await.status, 301);
    site.manifests.write("settings.yaml", &settings(&[]));
    site.gateway.wait_for("http://a.test/x", |answer| answer.status == 308).await;
}

#[tokio::test]
async fn ssl_protocols_decide_which_clients_get_through() {
    for (value, with_12, with_13) in
        [("TLSv1.2 TLSv1.3", true, true), ("TLSv1.2", true, false), ("TLSv1.1 TLSv1.3", false, true)]
    {
        let site = Site::with(&[("ssl-protocols", value)]).await;
        assert_eq!(site.handshake("a.test", &[&TLS12]).await.is_some(), with_12, "{value}");
        assert_eq!(site.handshake("a.test", &[&TLS13]).await.is_some(), with_13, "{value}");
    }
}

#[tokio::test]
async fn ssl_ciphers_choose_among_the_suites_of_tls_1_2_live() {
    let site = Site::with(&[("ssl-ciphers", "ECDHE-ECDSA-CHACHA20-POLY1305:DHE-RSA-AES128-GCM-SHA256")]).await;
    let chacha = Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
    assert_eq!(site.handshake("a.test", &[&TLS12]).await, chacha);
    assert!(site.handshake("a.test", &[&TLS13]).await.is_some());
    // The suite of another kind of key leaves nothing to speak with.
    site.manifests.write("settings.yaml", &settings(&[("ssl-ciphers", "ECDHE-RSA-AES256-GCM-SHA384")]));
    wait::until("the suite is gone", async || site.handshake("a.test", &[&TLS12]).await.is_none().then_some(())).await;
    site.gateway.wait_for_log(&["DHE-RSA-AES128-GCM-SHA256 is not known here"]).await;
}

/// nginx `ssl_prefer_server_ciphers on`, which ingress-nginx always sets: the order of `ssl-ciphers`, and for TLS 1.3
/// that of OpenSSL, whatever the client prefers.
#[tokio::test]
async fn the_suite_is_the_first_one_of_the_gateway_that_the_client_has() {
    let aes128 = (cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256");
    let aes256 = (cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384");
    let chacha = (cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305");
    let of_tls13 = [
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        cipher_suite::TLS13_AES_128_GCM_SHA256,
    ];
    for order in [[aes128, aes256, chacha], [chacha, aes128, aes256]] {
        let names = order.map(|(_, name)| name).join(":");
        let site = Site::with(&[("ssl-ciphers", &names)]).await;
        for (version, suites) in [(&TLS12, order.map(|(suite, _)| suite)), (&TLS13, of_tls13)] {
            for n_offered in 1..=suites.len() {
                // The client has the last ones, and prefers the very last.
                let offered: Vec<_> = suites.iter().rev().take(n_offered).copied().collect();
                let first = offered.last().unwrap().suite();
                let provider = CryptoProvider { cipher_suites: offered, ..ring::default_provider() };
                let config = insecure_config_by(provider, &[version]).0;
                let got = negotiate(site.gateway.addresses().https, "a.test", config).await;
                assert_eq!(got, Some(first), "{names}: {n_offered} offered");
            }
        }
    }
}

#[tokio::test]
async fn ssl_reject_handshake_refuses_names_that_no_host_has() {
    let site = Site::with(&[]).await;
    assert!(site.handshake("nowhere.test", ALL).await.is_some());
    site.manifests.write("settings.yaml", &settings(&[("ssl-reject-handshake", "true")]));
    wait::until("it is refused", async || site.handshake("nowhere.test", ALL).await.is_none().then_some(())).await;
    // A host without a certificate is served with the default one still.
    for name in ["a.test", "plain.test"] {
        assert!(site.handshake(name, ALL).await.is_some(), "{name}");
    }
}
