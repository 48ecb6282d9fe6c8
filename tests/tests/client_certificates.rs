//! Certificates that clients must show: rows of `ingress-nginx.md`, section 1.1, table 4, and section 1.9.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use http::Version;
use tests::certificate::{Authority, Certificate, secret, short_names};
use tests::manifests::{ingress, service};
use tests::{Answer, Client, Gateway, Manifests, Upstream, wait};

type Annotations<'a> = &'a [(&'a str, &'a str)];

const SECRET: (&str, &str) = ("auth-tls-secret", "default/ca");

struct Site {
    gateway: Gateway,
    manifests: Manifests,
    upstream: Upstream,
    /// Whom the Secret `ca` trusts.
    ca: Authority,
}

impl Site {
    async fn with(hosts: &[(&str, Annotations<'_>)], more: &str) -> Self {
        let (ca, upstream) = (Authority::new("ca"), Upstream::echo("web").await);
        let mut text = [service("web", &[upstream.address()]), more.to_owned()].concat();
        for (host, annotations) in hosts {
            text += &ingress(host, host, annotations, &[("/", "web")]);
        }
        let manifests = Manifests::of(&text);
        manifests.write("ca.yaml", &secret("ca", &[("ca.crt", ca.certificate.as_bytes())]));
        Self { gateway: Gateway::start(&manifests, &[]).await, manifests, upstream, ca }
    }

    async fn client(&self, name: Option<&str>, certificate: Option<&Certificate>) -> Client {
        self.client_of(name, certificate, Version::HTTP_11).await
    }

    async fn client_of(&self, name: Option<&str>, certificate: Option<&Certificate>, version: Version) -> Client {
        Client::showing(self.gateway.addresses().https, name, certificate, version).await.unwrap()
    }

    async fn get(&self, host: &str, certificate: Option<&Certificate>) -> Answer {
        self.client(Some(host), certificate).await.get(host, "/x", &[]).await
    }

    /// The status of an answer; `None` when the handshake is refused, which a client hears of at any point behind it.
    async fn status_of(&self, host: &str, certificate: &Certificate) -> Option<u16> {
        let address = self.gateway.addresses().https;
        let mut client = Client::showing(address, Some(host), Some(certificate), Version::HTTP_11).await.ok()?;
        let request = client.request("GET", host, "/x", &[], "");
        Some(client.try_send(request).await.ok()?.status.as_u16())
    }

    async fn cpu_seconds(&self) -> f64 {
        self.gateway.metric("nginx_ingress_controller_nginx_process_cpu_seconds_total", &[]).await
    }
}

/// "on|off|optional|optional_no_ca; on. Failure => HTTP 400 (not handshake abort)"; "403 if subject DN doesn't match";
/// "always sent: ssl-client-verify, ssl-client-subject-dn, ssl-client-issuer-dn".
#[tokio::test]
async fn a_client_gets_through_with_what_its_host_demands() {
    let verify = |value| ("auth-tls-verify-client", value);
    let site = Site::with(
        &[
            ("on.test", &[SECRET]),
            ("optional.test", &[SECRET, verify("optional")]),
            ("unknown.test", &[SECRET, verify("optional_no_ca")]),
            ("off.test", &[SECRET, verify("off")]),
            ("match.test", &[SECRET, verify("optional"), ("auth-tls-match-cn", "CN=(alice|bob)$")]),
            ("plain.test", &[]),
        ],
        "",
    )
    .await;
    let (alice, mallory) = (site.ca.issue(&["alice"]), site.ca.issue(&["mallory"]));
    let stranger = Authority::new("other").issue(&["alice"]);
    let failed = "FAILED:unable to verify the first certificate";
    for (host, certificate, status, told) in [
        ("on.test", None, 400, None),
        ("on.test", Some(&alice), 200, Some("SUCCESS")),
        ("on.test", Some(&stranger), 400, None),
        ("optional.test", None, 200, Some("NONE")),
        ("optional.test", Some(&alice), 200, Some("SUCCESS")),
        ("optional.test", Some(&stranger), 400, None),
        ("unknown.test", None, 200, Some("NONE")),
        ("unknown.test", Some(&alice), 200, Some("SUCCESS")),
        ("unknown.test", Some(&stranger), 200, Some(failed)),
        ("off.test", None, 200, None),
        ("off.test", Some(&stranger), 200, None),
        ("match.test", None, 403, None),
        ("match.test", Some(&alice), 200, Some("SUCCESS")),
        ("match.test", Some(&mallory), 403, None),
        ("plain.test", Some(&alice), 200, None),
    ] {
        let n_before = site.upstream.n_requests();
        let answer = site.get(host, certificate).await;
        assert_eq!(answer.status, status, "{host} {told:?}");
        assert_eq!(site.upstream.n_requests() - n_before, usize::from(status == 200), "{host} {told:?}");
        if status != 200 {
            continue;
        }
        let seen = answer.seen();
        assert_eq!(seen.header("ssl-client-verify"), told, "{host}");
        let has_name = matches!(told, Some("SUCCESS"));
        assert_eq!(seen.header("ssl-client-subject-dn"), (has_name || told == Some(failed)).then_some("CN=alice"));
        let issuer = if told == Some(failed) { Some("CN=other") } else { has_name.then_some("CN=ca") };
        assert_eq!(seen.header("ssl-client-issuer-dn"), issuer, "{host}");
        assert_eq!(seen.header("ssl-client-cert"), None, "{host}");
    }
}

/// "auth-tls-pass-certificate-to-upstream: header `ssl-client-cert` (URL-encoded PEM)".
#[tokio::test]
async fn upstreams_get_the_certificate_and_never_the_clients_word_for_it() {
    let whole = ("auth-tls-pass-certificate-to-upstream", "true");
    let optional = ("auth-tls-verify-client", "optional");
    let site = Site::with(&[("a.test", &[SECRET, whole, optional]), ("plain.test", &[])], "").await;
    let alice = site.ca.issue(&["alice"]);
    let answer = site.get("a.test", Some(&alice)).await;
    let escaped = answer.seen().header("ssl-client-cert").unwrap().to_owned();
    let pem = percent_decoded(&escaped);
    assert!(!escaped.contains(['+', '/', '=', ' ', '\n']), "{escaped}");
    assert_eq!(pem, alice.certificate.replace("\r\n", "\n"));
    let lies = [
        ("ssl-client-verify", "SUCCESS"),
        ("ssl-client-subject-dn", "CN=root"),
        ("ssl-client-issuer-dn", "CN=ca"),
        ("ssl-client-cert", "x"),
    ];
    for host in ["a.test", "plain.test"] {
        let over_tls = site.client(Some(host), None).await.get(host, "/x", &lies).await;
        let in_plain_text = site.gateway.get_with(&format!("http://{host}/x"), &lies).await;
        for (answer, verify) in [(over_tls, (host == "a.test").then_some("NONE")), (in_plain_text, None)] {
            let seen = answer.seen();
            let told = lies.map(|(name, _)| seen.header(name));
            assert_eq!(told, [verify, None, None, None], "{host}");
        }
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first == b'%' {
            let digits = std::str::from_utf8(&tail[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &tail[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// `pingora.md` section 2: "mTLS host reached through another SNI on the same connection must get 421".
#[tokio::test]
async fn a_connection_for_another_host_does_not_get_around_it() {
    let optional = ("auth-tls-verify-client", "optional");
    let hosts: [(&str, Annotations<'_>); 4] = [
        ("on.test", &[SECRET]),
        ("optional.test", &[SECRET, optional]),
        ("other.test", &[("auth-tls-secret", "other")]),
        ("plain.test", &[]),
    ];
    let other = Authority::new("other");
    let site = Site::with(&hosts, &secret("other", &[("ca.crt", other.certificate.as_bytes())])).await;
    let alice = site.ca.issue(&["alice"]);
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for (name, host, status) in [
            (Some("plain.test"), "on.test", 421),
            (Some("plain.test"), "optional.test", 421),
            (Some("nowhere.test"), "on.test", 421),
            (None, "on.test", 421),
            (Some("plain.test"), "plain.test", 200),
            (Some("on.test"), "plain.test", 200),
            // Asked on the way to another host that demands one: judged by whom this host trusts.
            (Some("optional.test"), "on.test", 200),
            (Some("on.test"), "other.test", 400),
        ] {
            let mut client = site.client_of(name, Some(&alice), version).await;
            let answer = client.get(host, "/x", &[]).await;
            assert_eq!(answer.status, status, "{name:?} {host} {version:?}");
        }
        // The same connection goes on with what it may have.
        let mut client = site.client_of(Some("plain.test"), None, version).await;
        for (host, status) in [("on.test", 421), ("plain.test", 200)] {
            assert_eq!(client.get(host, "/x", &[]).await.status, status, "{host} {version:?}");
        }
    }
    // In plain text nobody shows anything.
    for (host, status) in [("on.test", 400), ("optional.test", 200), ("plain.test", 200)] {
        assert_eq!(site.gateway.get(&format!("http://{host}/x")).await.status, status, "{host}");
    }
}

/// "auth-tls is per host": a path of another Ingress is behind it too.
#[tokio::test]
async fn the_oldest_ingress_that_says_so_decides_for_the_whole_host() {
    let open = ingress("zz-open", "a.test", &[], &[("/open", "web")]);
    let site = Site::with(&[("a.test", &[SECRET])], &open).await;
    let mut client = site.client(Some("a.test"), None).await;
    for target in ["/", "/open", "/nowhere"] {
        assert_eq!(client.get("a.test", target, &[]).await.status, 400, "{target}");
    }
}

/// "Redirect on 495/496".
#[tokio::test]
async fn a_client_without_certificate_is_sent_to_the_error_page() {
    let page = ("auth-tls-error-page", "https://help.test/no?host=$host");
    let site = Site::with(&[("a.test", &[SECRET, page])], "").await;
    let stranger = Authority::new("other").issue(&["alice"]);
    for certificate in [None, Some(&stranger)] {
        let answer = site.get("a.test", certificate).await;
        let location = Some("https://help.test/no?host=a.test");
        assert_eq!((answer.status.as_u16(), answer.header("location")), (302, location));
    }
    assert_eq!(site.get("a.test", Some(&site.ca.issue(&["alice"]))).await.status, 200);
}

#[tokio::test]
async fn without_authorities_nobody_gets_through() {
    let broken = [
        secret("broken", &[("ca.crt", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")]),
        secret("empty", &[("ca.crt", b"")]),
        secret("keyless", &[("other", b"x")]),
    ];
    let optional = ("auth-tls-verify-client", "optional_no_ca");
    let name = |value| ("auth-tls-secret", value);
    let hosts: [(&str, Annotations<'_>); 6] = [
        ("missing.test", &[name("nothing")]),
        ("broken.test", &[name("broken")]),
        ("empty.test", &[name("empty"), optional]),
        ("keyless.test", &[name("keyless")]),
        ("foreign.test", &[name("other/ca")]),
        ("optional.test", &[name("nothing"), optional]),
    ];
    let site = Site::with(&hosts, &broken.concat()).await;
    let alice = site.ca.issue(&["alice"]);
    for (host, _) in hosts {
        for certificate in [None, Some(&alice)] {
            assert_eq!(site.get(host, certificate).await.status, 503, "{host}");
        }
        assert_eq!(site.gateway.get(&format!("http://{host}/")).await.status, 503, "{host}");
    }
    assert_eq!(site.upstream.n_requests(), 0);
}

#[tokio::test]
async fn another_authority_counts_at_once_on_connections_that_are_open() {
    let site = Site::with(&[("a.test", &[SECRET])], "").await;
    let other = Authority::new("other");
    let (old, new) = (site.ca.issue(&["alice"]), other.issue(&["alice"]));
    let mut with_old = site.client(Some("a.test"), Some(&old)).await;
    let mut with_new = site.client(Some("a.test"), Some(&new)).await;
    assert_eq!(with_old.get("a.test", "/", &[]).await.status, 200);
    assert_eq!(with_new.get("a.test", "/", &[]).await.status, 400);
    site.manifests.write("ca.yaml", &secret("ca", &[("ca.crt", other.certificate.as_bytes())]));
    wait::until("the new authority counts", async || {
        (with_new.get("a.test", "/", &[]).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(with_old.get("a.test", "/", &[]).await.status, 400);
    site.manifests.write("ca.yaml", &secret("ca", &[("ca.crt", b"nonsense")]));
    wait::until("nobody is trusted", async || (with_new.get("a.test", "/", &[]).await.status == 503).then_some(()))
        .await;
}

/// robustness.md S-11: "client cert SAN `good.com\\0.evil`, 10k SANs, 20-deep chain: reject, bounded CPU".
#[tokio::test]
async fn certificates_that_are_made_to_deceive_or_to_be_costly_let_nobody_in_and_cost_little() {
    let bounded = Authority::for_domains("bounded", &["good.com".to_owned()]);
    // What is below no name is every name.
    let domains: Vec<_> = (0..100).map(|number| format!("d{number}.test")).chain([String::new()]).collect();
    let lengthy = Authority::for_domains("lengthy", &domains);
    let deep = ("auth-tls-verify-depth", "255");
    let site = Site::with(
        &[
            ("on.test", &[SECRET]),
            ("deep.test", &[SECRET, deep]),
            ("match.test", &[SECRET, ("auth-tls-match-cn", "CN=good.com$")]),
            ("bounded.test", &[("auth-tls-secret", "bounded")]),
            ("lengthy.test", &[("auth-tls-secret", "lengthy")]),
        ],
        &[
            secret("bounded", &[("ca.crt", bounded.certificate.as_bytes())]),
            secret("lengthy", &[("ca.crt", lengthy.certificate.as_bytes())]),
        ]
        .concat(),
    )
    .await;
    let above = site.ca.descendants(20);
    let chain_of = |n: usize| Certificate::issued_below(&above[above.len() - n..], &["alice"]);
    // Each of them may have issued every other one: there are more orders of them than anybody can try.
    let same: Vec<_> = (0..150).map(|_| Authority::new("same")).collect();
    let many_ways = Certificate::issued_below(&same, &["alice"]);
    let short: Vec<_> = short_names().take(10_000).collect();
    let long: Vec<_> = short.iter().map(|name| format!("{name}.good.com")).collect();
    let [short, long] = [&short, &long].map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
    let (good, evil) = (["good.com"], ["good.com\0.evil"]);
    for (host, certificate, status, what) in [
        ("on.test", chain_of(1), Some(200), "a chain of the usual depth"),
        ("on.test", chain_of(20), Some(400), "20 deep"),
        ("deep.test", chain_of(6), Some(200), "as deep as can be"),
        ("deep.test", chain_of(20), Some(400), "20 deep where that is no matter"),
        ("deep.test", many_ways, Some(400), "a chain of many ways"),
        ("match.test", site.ca.issue(&good), Some(200), "the name that is demanded"),
        ("match.test", site.ca.issue(&evil), Some(403), "a name with a zero in it"),
        ("bounded.test", bounded.issue(&good), Some(200), "a name that the authority may vouch for"),
        ("bounded.test", bounded.issue(&evil), Some(400), "a name with a zero after what it may vouch for"),
        ("on.test", site.ca.issue(&short), Some(200), "10,000 names that nobody has to look at"),
        ("bounded.test", bounded.issue(&long[..1000]), Some(200), "1000 names that are allowed"),
        ("lengthy.test", lengthy.issue(&good), Some(200), "one name and a hundred that are allowed"),
        ("lengthy.test", lengthy.issue(&short), Some(400), "10,000 names and a hundred that are allowed"),
        ("on.test", site.ca.issue(&long), None, "10,000 names of the usual length"),
    ] {
        let before = site.cpu_seconds().await;
        for _ in 0..5 {
            assert_eq!(site.status_of(host, &certificate).await, status, "{what}");
        }
        let spent = site.cpu_seconds().await - before;
        assert!(spent < 0.25, "{what}: {spent} s of five connections");
    }
}
