//! TLS towards upstreams: rows of `ingress-nginx.md`, section 1.1, table 3.

use std::sync::Arc;

use rustls::server::Acceptor;
use tests::certificate::{Authority, Certificate, secret, short_names};
use tests::manifests::{ingress, service};
use tests::{Gateway, Manifests, Upstream, wait};
use tokio::net::TcpListener;
use tokio_rustls::LazyConfigAcceptor;

type Annotations<'a> = &'a [(&'a str, &'a str)];

const HTTPS: (&str, &str) = ("backend-protocol", "HTTPS");
const VERIFY: (&str, &str) = ("proxy-ssl-verify", "on");
const NAME: (&str, &str) = ("proxy-ssl-name", "web.internal");

const fn trust(secret: &'static str) -> (&'static str, &'static str) {
    ("proxy-ssl-secret", secret)
}

async fn gateway(hosts: &[(&str, Annotations<'_>)], upstream: &Upstream, more: &str) -> (Gateway, Manifests) {
    let mut text = [service("web", &[upstream.address()]), more.to_owned()].concat();
    for (host, annotations) in hosts {
        text += &ingress(host, host, annotations, &[("/", "web")]);
    }
    let manifests = Manifests::of(&text);
    (Gateway::start(&manifests, &[]).await, manifests)
}

fn authority(name: &str, authority: &Authority) -> String {
    secret(name, &[("ca.crt", authority.certificate.as_bytes())])
}

/// "proxy-ssl-verify: verify upstream cert; off"; "ca.crt = trust; same ns only by default".
#[tokio::test]
async fn an_upstream_is_verified_where_that_is_asked_for() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let upstream = Upstream::echo_tls("web", &ca.issue(&["web.internal"])).await;
    let hosts: [(&str, Annotations<'_>); 9] = [
        ("off.test", &[HTTPS]),
        ("good.test", &[HTTPS, trust("default/ca"), VERIFY, NAME]),
        ("unused.test", &[HTTPS, trust("other"), NAME]),
        ("other.test", &[HTTPS, trust("other"), VERIFY, NAME]),
        ("name.test", &[HTTPS, trust("ca"), VERIFY, ("proxy-ssl-name", "else.internal")]),
        // What cannot be verified is not talked to.
        ("missing.test", &[HTTPS, trust("nothing"), VERIFY, NAME]),
        ("keyless.test", &[HTTPS, trust("keyless"), VERIFY, NAME]),
        ("nameless.test", &[HTTPS, trust("ca"), VERIFY]),
        ("foreign.test", &[HTTPS, trust("other/ca"), VERIFY, NAME]),
    ];
    let secrets = [authority("ca", &ca), authority("other", &other), secret("keyless", &[("other", b"x")])];
    let (gateway, _manifests) = gateway(&hosts, &upstream, &secrets.concat()).await;
    // Twice, so that every request finds the connections of all others: Pingora's own key of a connection leaves the
    // authority out (`pingora.md` section 6).
    for _ in 0..2 {
        for (host, status) in [
            ("off.test", 200),
            ("good.test", 200),
            ("unused.test", 200),
            ("other.test", 502),
            ("name.test", 502),
            ("missing.test", 503),
            ("keyless.test", 503),
            ("nameless.test", 503),
            ("foreign.test", 503),
        ] {
            let n_before = upstream.n_requests();
            assert_eq!(gateway.get(&format!("http://{host}/")).await.status, status, "{host}");
            assert_eq!(upstream.n_requests() - n_before, usize::from(status == 200), "{host}");
        }
    }
}

#[tokio::test]
async fn another_authority_counts_for_connections_that_are_kept() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let upstream = Upstream::echo_tls("web", &ca.issue(&["web.internal"])).await;
    let hosts: [(&str, Annotations<'_>); 1] = [("a.test", &[HTTPS, trust("ca"), VERIFY, NAME])];
    let (gateway, manifests) = gateway(&hosts, &upstream, "").await;
    assert_eq!(gateway.get("http://a.test/").await.status, 503);
    for (authority_of_now, status) in [(&ca, 200), (&other, 502), (&ca, 200)] {
        manifests.write("ca.yaml", &authority("ca", authority_of_now));
        gateway.wait_for("http://a.test/", |answer| answer.status == status).await;
    }
    manifests.remove("ca.yaml");
    gateway.wait_for("http://a.test/", |answer| answer.status == 503).await;
}

/// "tls.crt/tls.key = client cert to upstream".
#[tokio::test]
async fn the_gateway_shows_its_certificate_to_those_who_ask() {
    let (ca, clients) = (Authority::new("ca"), Authority::new("clients"));
    let server = ca.issue(&["web.internal"]);
    let upstream = Upstream::echo_mutual_tls("web", &server, &clients.certificate).await;
    let own = clients.issue(&["gateway"]);
    let both = secret(
        "both",
        &[
            ("tls.crt", own.certificate.as_bytes()),
            ("tls.key", own.key.as_bytes()),
            ("ca.crt", ca.certificate.as_bytes()),
        ],
    );
    let stranger = Certificate::self_signed(&["gateway"]).secret("stranger");
    let hosts: [(&str, Annotations<'_>); 5] = [
        ("none.test", &[HTTPS]),
        ("own.test", &[HTTPS, trust("own")]),
        ("both.test", &[HTTPS, trust("both"), VERIFY, NAME]),
        ("stranger.test", &[HTTPS, trust("stranger")]),
        ("ca-only.test", &[HTTPS, trust("ca"), VERIFY, NAME]),
    ];
    let secrets = [own.secret("own"), both, stranger, authority("ca", &ca)];
    let (gateway, _manifests) = gateway(&hosts, &upstream, &secrets.concat()).await;
    for _ in 0..2 {
        for (host, status) in
            [("own.test", 200), ("both.test", 200), ("none.test", 502), ("stranger.test", 502), ("ca-only.test", 502)]
        {
            assert_eq!(gateway.get(&format!("http://{host}/")).await.status, status, "{host}");
        }
    }
    let snapshot = gateway.admin("/snapshot").await.text();
    assert!(!snapshot.contains("PRIVATE KEY") && snapshot.contains("default/both"), "{snapshot}");
}

/// "proxy-ssl-server-name: send SNI to upstream (default OFF!)"; a name that is verified is sent, too.
#[tokio::test]
async fn a_name_is_sent_where_that_is_asked_for() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let names = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&names);
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(start) = LazyConfigAcceptor::new(Acceptor::default(), stream).await {
                seen.lock().unwrap().push(start.client_hello().server_name().map(str::to_owned));
            }
        }
    });
    let ca = Authority::new("ca");
    let mut text = [service("web", &[address]), authority("ca", &ca)].concat();
    let send = ("proxy-ssl-server-name", "on");
    let hosts: [(&str, Annotations<'_>, Option<&str>); 4] = [
        ("silent.test", &[HTTPS, NAME], None),
        ("named.test", &[HTTPS, NAME, send], Some("web.internal")),
        ("nameless.test", &[HTTPS, send], None),
        ("verified.test", &[HTTPS, NAME, VERIFY, trust("ca")], Some("web.internal")),
    ];
    for (host, annotations, _) in hosts {
        text += &ingress(host, host, annotations, &[("/", "web")]);
    }
    let manifests = Manifests::of(&text);
    let gateway = Gateway::start(&manifests, &[]).await;
    for (host, _, name) in hosts {
        // The upstream hangs up when it has heard the name.
        assert_eq!(gateway.get(&format!("http://{host}/")).await.status, 502, "{host}");
        let heard = wait::until("a name", async || names.lock().unwrap().pop()).await;
        names.lock().unwrap().clear();
        assert_eq!(heard.as_deref(), name, "{host}");
    }
    task.abort();
}

/// What robustness.md S-11 asks of clients' certificates, for those of upstreams.
#[tokio::test]
async fn an_upstream_that_deceives_is_not_talked_to_and_one_that_is_costly_costs_little() {
    let ca = Authority::new("ca");
    let above = ca.descendants(20);
    let chain_of = |n: usize| Certificate::issued_below(&above[above.len() - n..], &["web.internal"]);
    // Each of them may have issued every other one: there are more orders of them than anybody can try.
    let same: Vec<_> = (0..150).map(|_| Authority::new("same")).collect();
    let names: Vec<_> = short_names().take(9_999).chain(["web.internal".to_owned()]).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    for (certificate, status, what) in [
        (chain_of(6), 200, "as deep as can be"),
        (chain_of(20), 502, "20 deep"),
        (ca.issue(&["web.internal\0.evil"]), 502, "a zero after the name"),
        (ca.issue(&names), 200, "10,000 names, of which the last one counts"),
        (Certificate::issued_below(&same, &["web.internal"]), 502, "a chain of many ways"),
    ] {
        let upstream = Upstream::echo_tls("web", &certificate).await;
        let hosts: [(&str, Annotations<'_>); 1] = [("a.test", &[HTTPS, trust("ca"), VERIFY, NAME])];
        let (gateway, _manifests) = gateway(&hosts, &upstream, &authority("ca", &ca)).await;
        let name = "nginx_ingress_controller_nginx_process_cpu_seconds_total";
        let before = gateway.metric(name, &[]).await;
        for _ in 0..5 {
            assert_eq!(gateway.get("http://a.test/").await.status, status, "{what}");
        }
        let spent = gateway.metric(name, &[]).await - before;
        // A chain of many ways takes webpki 80 ms, until it has tried enough of them.
        assert!(spent < 2.0, "{what}: {spent} s of five connections");
    }
}
