//! Who gets through: access lists and basic authentication, rows of `ingress-nginx.md` section 1.1, table 5.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tests::certificate::secret;
use tests::manifests::{SETTINGS, ingress, service, settings};
use tests::{Answer, Gateway, Manifests, Upstream};

/// So that a test can be any client.
const KEYS: &[(&str, &str)] = &[("use-forwarded-headers", "true")];
/// The password `myPassword`: Apache's documentation, "Password Formats".
const USERS: &[u8] = b"apr1:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/
sha:{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=
bcrypt:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC
";

struct Row {
    host: &'static str,
    annotations: &'static [(&'static str, &'static str)],
    /// Client, user and password, and the status.
    requests: &'static [(&'static str, &'static str, u16)],
}

const BASIC: (&str, &str) = ("auth-type", "basic");
const SECRET: (&str, &str) = ("auth-secret", "users");

const ROWS: &[Row] = &[
    Row {
        host: "allow.test",
        annotations: &[("allowlist-source-range", "192.0.2.0/24, 2001:db8::/32")],
        requests: &[("192.0.2.7", "", 200), ("2001:db8::1", "", 200), ("198.51.100.1", "", 403)],
    },
    Row {
        host: "whitelist.test",
        annotations: &[("whitelist-source-range", "192.0.2.0/24")],
        requests: &[("192.0.2.7", "", 200), ("198.51.100.1", "", 403)],
    },
    Row {
        host: "deny.test",
        annotations: &[("denylist-source-range", "192.0.2.0/24")],
        requests: &[("192.0.2.7", "", 403), ("198.51.100.1", "", 200)],
    },
    Row {
        host: "basic.test",
        annotations: &[BASIC, SECRET, ("auth-realm", "Members only")],
        requests: &[
            ("192.0.2.7", "", 401),
            ("192.0.2.7", "apr1:myPassword", 200),
            ("192.0.2.7", "sha:myPassword", 200),
            ("192.0.2.7", "bcrypt:myPassword", 200),
            ("192.0.2.7", "bcrypt:mypassword", 401),
            ("192.0.2.7", "nobody:myPassword", 401),
            ("192.0.2.7", "apr1:", 401),
        ],
    },
    Row {
        host: "map.test",
        annotations: &[BASIC, ("auth-secret", "map"), ("auth-secret-type", "auth-map")],
        requests: &[("192.0.2.7", "bob:myPassword", 200), ("192.0.2.7", "apr1:myPassword", 401)],
    },
    Row {
        host: "all.test",
        annotations: &[BASIC, SECRET, ("allowlist-source-range", "192.0.2.0/24"), ("satisfy", "all")],
        requests: &[
            ("192.0.2.7", "sha:myPassword", 200),
            ("192.0.2.7", "", 401),
            ("198.51.100.1", "sha:myPassword", 403),
            ("198.51.100.1", "", 403),
        ],
    },
    Row {
        host: "any.test",
        annotations: &[BASIC, SECRET, ("allowlist-source-range", "192.0.2.0/24"), ("satisfy", "any")],
        requests: &[
            ("192.0.2.7", "", 200),
            ("192.0.2.7", "sha:wrong", 200),
            ("198.51.100.1", "sha:myPassword", 200),
            ("198.51.100.1", "sha:wrong", 401),
        ],
    },
    // "missing secret => location 503", whatever else would let the client in.
    Row {
        host: "missing.test",
        annotations: &[BASIC, ("auth-secret", "nothing")],
        requests: &[("192.0.2.7", "sha:myPassword", 503), ("192.0.2.7", "", 503)],
    },
    Row {
        host: "missing-key.test",
        annotations: &[BASIC, ("auth-secret", "map")],
        requests: &[("192.0.2.7", "bob:myPassword", 503)],
    },
    // "same ns only by default".
    Row {
        host: "foreign.test",
        annotations: &[BASIC, ("auth-secret", "other/users")],
        requests: &[("192.0.2.7", "sha:myPassword", 503)],
    },
    Row {
        host: "digest.test",
        annotations: &[("auth-type", "digest"), SECRET],
        requests: &[("192.0.2.7", "sha:myPassword", 503)],
    },
];

async fn ask(gateway: &Gateway, host: &str, client: &str, login: &str) -> Answer {
    let authorization = format!("Basic {}", STANDARD.encode(login));
    let mut headers = vec![("x-forwarded-for", client)];
    if !login.is_empty() {
        headers.push(("authorization", &authorization));
    }
    gateway.get_with(&format!("http://{host}/x"), &headers).await
}

#[tokio::test]
async fn a_request_gets_through_when_its_rule_is_fulfilled() {
    let upstream = Upstream::echo("web").await;
    let sha = b"{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=";
    let mut text = [service("web", &[upstream.address()]), settings(KEYS)].concat();
    text += &secret("users", &[("auth", USERS)]);
    text += &secret("map", &[("bob", sha)]);
    for Row { host, annotations, requests: _ } in ROWS {
        text += &ingress(host, host, annotations, &[("/", "web")]);
    }
    let manifests = Manifests::of(&text);
    let gateway = Gateway::start(&manifests, &[SETTINGS]).await;
    for Row { host, annotations: _, requests } in ROWS {
        for (client, login, status) in *requests {
            let before = upstream.n_requests();
            let answer = ask(&gateway, host, client, login).await;
            assert_eq!(answer.status, *status, "{host} {client} {login}");
            assert_eq!(upstream.n_requests() - before, usize::from(*status == 200), "{host} {client} {login}");
            // "Upstream gets `Authorization: \"\"` (stripped)".
            if *status == 200 {
                assert!(answer.seen().header("authorization").is_none(), "{host} {client} {login}");
            }
        }
    }
    let challenge = ask(&gateway, "basic.test", "192.0.2.7", "").await;
    assert_eq!(challenge.header("www-authenticate"), Some("Basic realm=\"Members only\""));
}

#[tokio::test]
async fn a_changed_password_counts_at_once_and_the_old_one_no_longer_does() {
    let upstream = Upstream::echo("web").await;
    let manifests = Manifests::of(&[service("web", &[upstream.address()]), settings(KEYS)].concat());
    manifests.write("ingress.yaml", &ingress("a", "a.test", &[BASIC, SECRET], &[("/", "web")]));
    manifests.write("users.yaml", &secret("users", &[("auth", USERS)]));
    let gateway = Gateway::start(&manifests, &[SETTINGS]).await;
    for _ in 0..2 {
        assert_eq!(ask(&gateway, "a.test", "192.0.2.7", "bcrypt:myPassword").await.status, 200);
    }
    // The password `bar` in place of `myPassword`.
    manifests.write("users.yaml", &secret("users", &[("auth", b"bcrypt:{SHA}Ys23Ag/5IOWqZCw9QGaVDdHwH00=")]));
    tests::wait::until("the new password counts", async || {
        (ask(&gateway, "a.test", "192.0.2.7", "bcrypt:bar").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(ask(&gateway, "a.test", "192.0.2.7", "bcrypt:myPassword").await.status, 401);
    manifests.remove("users.yaml");
    tests::wait::until("the users are gone", async || {
        (ask(&gateway, "a.test", "192.0.2.7", "bcrypt:bar").await.status == 503).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_snapshot_shows_no_hash() {
    let upstream = Upstream::echo("web").await;
    let mut text = [service("web", &[upstream.address()]), secret("users", &[("auth", USERS)])].concat();
    text += &ingress("a", "a.test", &[BASIC, SECRET], &[("/", "web")]);
    let manifests = Manifests::of(&text);
    let gateway = Gateway::start(&manifests, &[]).await;
    let snapshot = gateway.admin("/snapshot").await.text();
    assert!(snapshot.contains("default/users as file"), "{snapshot}");
    for secret in ["apr1$", "HqJZimcKQFAMYayBlzkrA", "VBPuJHI7uixaa6LQGWx4s", "c4WoMPo3SXsafkva", "bcrypt"] {
        assert!(!snapshot.contains(secret), "{secret}");
    }
}
