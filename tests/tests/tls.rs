//! TLS at the edge: which certificate a name gets, which versions and protocols are spoken, and how certificates change
//! under traffic.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tests::certificate::{Authority, Certificate, secret};
use tests::manifests::{ingress, service, tls};
use tests::{Client, Gateway, Manifests, Upstream, raw, wait};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The name in the certificate that the gateway makes for itself.
const FAKE: &str = "Penstock Fake Certificate";

/// How long the gateway may be silent before what it sent counts as all of it.
const SILENCE: Duration = Duration::from_millis(200);

/// A running gateway with one upstream, and a Service `a` for it.
struct Scene {
    gateway: Gateway,
    manifests: Manifests,
    _upstream: Upstream,
}

impl Scene {
    async fn new(manifests: &[String], flags: &[&str]) -> Self {
        let upstream = Upstream::echo("a").await;
        let files = Manifests::of(&[service("a", &[upstream.address()]), manifests.concat()].concat());
        let gateway = Gateway::start(&files, flags).await;
        Self { gateway, manifests: files, _upstream: upstream }
    }

    fn https(&self) -> SocketAddr {
        self.gateway.addresses().https
    }

    /// The common name of the certificate that a name gets.
    async fn shown_to(&self, name: Option<&str>) -> String {
        Client::https1(self.https(), name).await.common_name()
    }

    async fn check_shown(&self, expected: &[(&str, &str)]) {
        for (name, shown) in expected {
            assert_eq!(self.shown_to(Some(name)).await, *shown, "{name}");
        }
    }

    async fn wait_until_shown(&self, name: &str, shown: &str) {
        let is_shown = async || (self.shown_to(Some(name)).await == shown).then_some(());
        wait::until(&format!("{shown} for {name}; log:\n{}", self.gateway.log()), is_shown).await;
    }
}

/// An Ingress of one host that leads to Service `a`, with a Secret for the host.
fn host(name: &str, host: &str, secret: &str) -> String {
    [ingress(name, &format!("{host:?}"), &[], &[("/", "a")]), tls(&[&format!("{host:?}")], secret)].concat()
}

/// A connection of a client that believes one authority only, and speaks one version of TLS only.
async fn connect(
    address: SocketAddr,
    name: &str,
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

/// The record of a ClientHello without the extension for versions, so that its highest version is the one named
/// (RFC 5246, section 7.4.1.2), with a name as it is written.
fn client_hello(version: u16, name: &str) -> Vec<u8> {
    let sized = |content: Vec<u8>| [&u16::try_from(content.len()).unwrap().to_be_bytes()[..], &content].concat();
    let extension = |kind: u16, content: Vec<u8>| [kind.to_be_bytes().to_vec(), sized(content)].concat();
    // ECDHE with ECDSA, then RSA, each with AES-128-GCM (TLS 1.2) and AES-128-CBC-SHA (all versions).
    let ciphers = [0xc02b_u16, 0xc02f, 0xc009, 0xc013].iter().flat_map(|cipher| cipher.to_be_bytes()).collect();
    let signatures = [0x0403_u16, 0x0804, 0x0401].iter().flat_map(|scheme| scheme.to_be_bytes()).collect();
    let groups = [0x001d_u16, 0x0017].iter().flat_map(|group| group.to_be_bytes()).collect();
    let server_name = [vec![0], sized(name.as_bytes().to_vec())].concat();
    let extensions = [
        extension(0x0000, sized(server_name)),
        extension(0x000a, sized(groups)),
        extension(0x000b, vec![1, 0]),
        extension(0x000d, sized(signatures)),
    ];
    let body =
        [version.to_be_bytes().to_vec(), vec![7; 32], vec![0], sized(ciphers), vec![1, 0], sized(extensions.concat())]
            .concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    [vec![22, 3, 1], sized(message)].concat()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn hosts_of_one_address_are_told_apart_by_sni() {
    let secrets = [("a", "a.test"), ("b", "b.test")].map(|(name, host)| Certificate::self_signed(&[host]).secret(name));
    let scene = Scene::new(&[secrets.concat(), host("a", "a.test", "a"), host("b", "b.test", "b")], &[]).await;
    scene.check_shown(&[("a.test", "a.test"), ("b.test", "b.test")]).await;
    for url in ["https://a.test/x", "https://b.test/x"] {
        assert_eq!(scene.gateway.get(url).await.upstream(), "a", "{url}");
    }
}

#[tokio::test]
async fn a_name_that_nobody_claims_gets_the_self_signed_default_certificate() {
    let scene = Scene::new(&[Certificate::self_signed(&["a.test"]).secret("a"), host("a", "a.test", "a")], &[]).await;
    assert_eq!(scene.shown_to(Some("unknown.test")).await, FAKE);
    assert_eq!(scene.shown_to(None).await, FAKE);
    // The certificate comes before the request: a host that is asked for over it is served.
    let mut client = Client::https1(scene.https(), None).await;
    assert_eq!(client.get("unknown.test", "/", &[]).await.text(), "default backend - 404");
}

#[tokio::test]
async fn the_default_certificate_is_the_one_of_the_flag() {
    let scene = Scene::new(&[host("a", "a.test", "absent")], &["--default-ssl-certificate=default/fallback"]).await;
    // Until its Secret is there, and when it has changed.
    scene.check_shown(&[("unknown.test", FAKE)]).await;
    for name in ["default.test", "newer.test"] {
        scene.manifests.write("fallback.yaml", &Certificate::self_signed(&[name]).secret("fallback"));
        scene.wait_until_shown("unknown.test", name).await;
        scene.check_shown(&[("a.test", name)]).await;
        assert_eq!(scene.shown_to(None).await, name);
    }
}

#[tokio::test]
async fn a_missing_or_broken_secret_costs_its_own_host_the_certificate_and_nobody_else() {
    let [good, other] = ["good.test", "other.test"].map(|name| Certificate::self_signed(&[name]));
    let mixed = Certificate { certificate: good.certificate.clone(), key: other.key.clone() };
    let scene = Scene::new(
        &[
            good.secret("good"),
            mixed.secret("mixed"),
            secret("garbage", &[("tls.crt", b"garbage"), ("tls.key", b"garbage")]),
            secret("half", &[("tls.crt", good.certificate.as_bytes())]),
            secret("empty", &[("unrelated", b"")]),
            host("good", "good.test", "good"),
            host("missing", "missing.test", "missing"),
            host("mixed", "mixed.test", "mixed"),
            host("garbage", "garbage.test", "garbage"),
            host("half", "half.test", "half"),
            host("empty", "empty.test", "empty"),
        ],
        &[],
    )
    .await;
    scene.check_shown(&[("good.test", "good.test")]).await;
    for broken in ["missing", "mixed", "garbage", "half", "empty"] {
        scene.check_shown(&[(&format!("{broken}.test"), FAKE)]).await;
        assert_eq!(scene.gateway.get(&format!("https://{broken}.test/")).await.upstream(), "a", "{broken}");
        scene.gateway.wait_for_log(&[&format!("Ingress default/{broken}"), "CertificateUnavailable"]).await;
    }
}

#[tokio::test]
async fn a_secret_that_comes_later_is_live_without_a_restart() {
    let scene = Scene::new(&[host("a", "a.test", "a")], &[]).await;
    scene.check_shown(&[("a.test", FAKE)]).await;
    scene.manifests.write("secret.yaml", &Certificate::self_signed(&["a.test"]).secret("a"));
    scene.wait_until_shown("a.test", "a.test").await;
    scene.manifests.remove("secret.yaml");
    scene.wait_until_shown("a.test", FAKE).await;
}

#[tokio::test]
async fn a_secret_that_breaks_keeps_its_last_good_certificate() {
    let scene = Scene::new(&[host("a", "a.test", "a"), host("b", "b.test", "b")], &[]).await;
    let [a, b] = ["a.test", "b.test"].map(|name| Certificate::self_signed(&[name]));
    scene.manifests.write("a.yaml", &a.secret("a"));
    scene.wait_until_shown("a.test", "a.test").await;
    scene.manifests.write("a.yaml", &secret("a", &[("tls.crt", b"garbage"), ("tls.key", b"garbage")]));
    // A later change that is live says that the broken one has been seen.
    scene.manifests.write("b.yaml", &b.secret("b"));
    scene.wait_until_shown("b.test", "b.test").await;
    scene.gateway.wait_for_log(&["Secret default/a", "a.yaml:6"]).await;
    scene.check_shown(&[("a.test", "a.test")]).await;
    assert_eq!(scene.gateway.metric("penstock_stale_objects", &[]).await, 1.0);
}

#[tokio::test]
async fn a_wildcard_certificate_is_for_one_label() {
    let certificate = Certificate::self_signed(&["*.wild.test"]);
    let scene = Scene::new(
        &[
            certificate.secret("wild"),
            host("wild", "*.wild.test", "wild"),
            host("one", "one.wild.test", "wild"),
            host("deep", "two.one.wild.test", "wild"),
        ],
        &[],
    )
    .await;
    scene
        .check_shown(&[
            ("any.wild.test", "*.wild.test"),
            ("one.wild.test", "*.wild.test"),
            ("two.one.wild.test", FAKE),
            ("wild.test", FAKE),
        ])
        .await;
}

#[tokio::test]
async fn a_certificate_for_another_host_is_not_shown() {
    let certificate = Certificate::self_signed(&["other.test"]);
    let scene = Scene::new(&[certificate.secret("a"), host("a", "a.test", "a")], &[]).await;
    scene.check_shown(&[("a.test", FAKE)]).await;
    scene.gateway.wait_for_log(&["Ingress default/a", "CertificateMismatch"]).await;
}

#[tokio::test]
async fn an_entry_without_hosts_is_for_the_hosts_of_the_rules() {
    let certificate = Certificate::self_signed(&["a.test"]);
    let entry = "  tls:\n    - secretName: a\n".to_owned();
    let scene = Scene::new(&[certificate.secret("a"), ingress("a", "a.test", &[], &[("/", "a")]), entry], &[]).await;
    scene.check_shown(&[("a.test", "a.test"), ("b.test", FAKE)]).await;
}

#[tokio::test]
async fn only_the_keys_of_a_secret_count_and_never_its_type() {
    let [opaque, plain] = ["opaque.test", "plain.test"].map(|name| Certificate::self_signed(&[name]));
    let indented = |text: &str| text.replace('\n', "\n    ");
    let string_data = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: plain\nstringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n",
        indented(&plain.certificate),
        indented(&plain.key)
    );
    let scene = Scene::new(
        &[
            format!("{}type: Opaque\n", opaque.secret("opaque")),
            string_data,
            host("opaque", "opaque.test", "opaque"),
            host("plain", "plain.test", "plain"),
        ],
        &[],
    )
    .await;
    scene.check_shown(&[("opaque.test", "opaque.test"), ("plain.test", "plain.test")]).await;
}

#[tokio::test]
async fn an_rsa_key_serves_beside_an_ecdsa_key() {
    let rsa = std::fs::read_to_string("tests/seeds/003/webapp-tls-secret.yaml").unwrap();
    let manifests = [
        format!("---\n{rsa}"),
        Certificate::self_signed(&["ecdsa.test"]).secret("ecdsa"),
        host("rsa", "webapp.example.com", "webapp-tls-secret"),
        host("ecdsa", "ecdsa.test", "ecdsa"),
    ];
    let scene = Scene::new(&manifests, &[]).await;
    scene.check_shown(&[("webapp.example.com", "webapp.example.com"), ("ecdsa.test", "ecdsa.test")]).await;
    assert_eq!(scene.gateway.get("https://webapp.example.com/").await.upstream(), "a");
}

#[tokio::test]
async fn a_name_is_compared_without_case() {
    let scene =
        Scene::new(&[Certificate::self_signed(&["shown.test"]).secret("a"), host("a", "shown.test", "a")], &[]).await;
    // In TLS 1.2 the certificate is sent in the clear.
    for (name, is_shown) in [("shown.test", true), ("SHOWN.Test", true), ("hidden.test", false)] {
        let answer = raw::exchange(scene.https(), &client_hello(0x0303, name), SILENCE).await;
        assert_eq!(contains(&answer.received, b"shown.test"), is_shown, "{name}: {answer:?}");
        assert_eq!(contains(&answer.received, FAKE.as_bytes()), !is_shown, "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn both_current_versions_are_spoken_and_no_older_one() {
    let authority = Authority::new("authority");
    let scene = Scene::new(&[authority.issue(&["a.test"]).secret("a"), host("a", "a.test", "a")], &[]).await;
    for (version, expected) in
        [(&rustls::version::TLS12, ProtocolVersion::TLSv1_2), (&rustls::version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        let stream = connect(scene.https(), "a.test", &authority, version, &[]).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(expected));
        let mut client = Client::over(stream, None, http::Version::HTTP_11).await;
        assert_eq!(client.get("a.test", "/", &[]).await.upstream(), "a");
    }
    for version in [0x0302, 0x0301] {
        let answer = raw::exchange(scene.https(), &client_hello(version, "a.test"), SILENCE).await;
        assert!(answer.is_closed, "{answer:?}");
        // A fatal alert, protocol_version (RFC 5246, section 7.2.2).
        assert_eq!((answer.received[0], &answer.received[5..]), (21, &[2, 70][..]), "{version:#x}: {answer:?}");
    }
}

#[tokio::test]
async fn the_protocol_is_agreed_on_by_alpn() {
    let authority = Authority::new("authority");
    let scene = Scene::new(&[authority.issue(&["a.test"]).secret("a"), host("a", "a.test", "a")], &[]).await;
    let connect = async |protocols: &[&str]| {
        connect(scene.https(), "a.test", &authority, &rustls::version::TLS13, protocols).await
    };
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&["spdy/3", "http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let stream = connect(offered).await.unwrap();
        let protocol = stream.get_ref().1.alpn_protocol().map(|protocol| String::from_utf8(protocol.to_vec()).unwrap());
        assert_eq!(protocol.as_deref(), agreed, "{offered:?}");
        let version = if agreed == Some("h2") { http::Version::HTTP_2 } else { http::Version::HTTP_11 };
        let mut client = Client::over(stream, None, version).await;
        assert_eq!(client.get("a.test", "/", &[]).await.upstream(), "a", "{offered:?}");
    }
    // "A fatal no_application_protocol alert" (RFC 7301, section 3.2).
    let error = connect(&["spdy/3"]).await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

/// The certificate changes 20 times while clients shake hands without a pause.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_changes_under_traffic_without_a_failed_handshake() {
    let scene = Scene::new(&[host("a", "a.test", "a")], &[]).await;
    let certificates: Vec<_> = (0..20).map(|_| Certificate::self_signed(&["a.test"])).collect();
    let leaf = |certificate: &Certificate| {
        CertificateDer::from_pem_slice(certificate.certificate.as_bytes()).unwrap().to_vec()
    };
    let known: Vec<_> = certificates.iter().map(leaf).collect();
    scene.manifests.write("secret.yaml", &certificates[0].secret("a"));
    scene.wait_until_shown("a.test", "a.test").await;
    let mut old = Client::https1(scene.https(), Some("a.test")).await;
    assert_eq!(old.get("a.test", "/", &[]).await.status, 200);
    let (address, is_over) = (scene.https(), Arc::new(AtomicBool::new(false)));
    let handshakes = tokio::spawn({
        let (known, is_over) = (known.clone(), Arc::clone(&is_over));
        async move {
            let mut n_handshakes = 0;
            while !is_over.load(Ordering::Relaxed) {
                // A handshake that fails is a panic.
                let client = Client::https1(address, Some("a.test")).await;
                assert!(known.iter().any(|leaf| Some(&leaf[..]) == client.certificate()));
                n_handshakes += 1;
            }
            n_handshakes
        }
    });
    for (certificate, leaf) in certificates.iter().zip(&known) {
        scene.manifests.write("secret.yaml", &certificate.secret("a"));
        let is_shown = async || {
            let client = Client::https1(address, Some("a.test")).await;
            (client.certificate() == Some(&leaf[..])).then_some(())
        };
        wait::until("the next certificate", is_shown).await;
    }
    is_over.store(true, Ordering::Relaxed);
    assert!(handshakes.await.unwrap() > 20);
    // The connection from before the first change goes on.
    assert_eq!(old.get("a.test", "/", &[]).await.status, 200);
    assert_eq!(old.certificate(), Some(&known[0][..]));
}
