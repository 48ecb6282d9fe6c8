//! What one client may do at a time, and who may read answers from elsewhere: rows of `ingress-nginx.md` section 1.1,
//! tables 6 and 7.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use http::{Method, Request, Response};
use http_body_util::Full;
use tests::manifests::{SETTINGS, ingress, service, settings};
use tests::upstream::full;
use tests::{Answer, Client, Gateway, Manifests, Upstream};
use tokio::sync::Notify;

/// So that a test can be any client.
const KEYS: &[(&str, &str)] = &[("use-forwarded-headers", "true"), ("limit-req-status-code", "429")];

async fn ask(gateway: &Gateway, url: &str, client: &str) -> u16 {
    gateway.get_with(url, &[("x-forwarded-for", client)]).await.status.as_u16()
}

#[tokio::test]
async fn a_client_has_its_burst_and_then_its_rate() {
    let upstream = Upstream::echo("web").await;
    let mut text = [service("web", &[upstream.address()]), settings(KEYS)].concat();
    // One request a minute leaks nothing while the test runs. "burst = limit x multiplier, nodelay", multiplier 5.
    text += &ingress("rpm", "rpm.test", &[("limit-rpm", "1")], &[("/", "web"), ("/other", "web")]);
    let exempt = [("limit-rpm", "1"), ("limit-burst-multiplier", "2"), ("limit-whitelist", "192.0.2.0/24")];
    text += &ingress("exempt", "exempt.test", &exempt, &[("/", "web")]);
    let manifests = Manifests::of(&text);
    let gateway = Gateway::start(&manifests, &[SETTINGS]).await;
    let mut statuses = Vec::new();
    for number in 0..8 {
        // The paths of an Ingress count together.
        let path = if number % 2 == 0 { "/" } else { "/other" };
        statuses.push(ask(&gateway, &format!("http://rpm.test{path}"), "198.51.100.1").await);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 429, 429]);
    assert_eq!(ask(&gateway, "http://rpm.test/", "198.51.100.2").await, 200);
    for (client, expected) in [("198.51.100.1", [200, 200, 200, 429]), ("192.0.2.1", [200; 4])] {
        for status in expected {
            assert_eq!(ask(&gateway, "http://exempt.test/", client).await, status, "{client}");
        }
    }
    assert!(gateway.metric("penstock_gateway_answers_total", &["reason=\"limited\""]).await >= 3.0);
}

#[tokio::test]
async fn a_client_has_only_so_many_requests_under_way() {
    let (held, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let upstream = {
        let (held, release) = (Arc::clone(&held), Arc::clone(&release));
        Upstream::with(move |_request| {
            let (held, release) = (Arc::clone(&held), Arc::clone(&release));
            Box::pin(async move {
                held.notify_one();
                release.notified().await;
                Response::new(full("done"))
            })
        })
        .await
    };
    let mut text = [service("web", &[upstream.address()]), settings(KEYS)].concat();
    text += &ingress("web", "a.test", &[("limit-connections", "1")], &[("/", "web")]);
    let manifests = Manifests::of(&text);
    let gateway = Arc::new(Gateway::start(&manifests, &[SETTINGS]).await);
    let first = tokio::spawn({
        let gateway = Arc::clone(&gateway);
        async move { ask(&gateway, "http://a.test/", "198.51.100.1").await }
    });
    held.notified().await;
    assert_eq!(ask(&gateway, "http://a.test/", "198.51.100.1").await, 503);
    release.notify_one();
    assert_eq!(first.await.unwrap(), 200);
    // The place is free when the request is over, which may be after its client has the answer.
    release.notify_one();
    tests::wait::until("the place is free again", async || {
        (ask(&gateway, "http://a.test/", "198.51.100.1").await == 200).then_some(())
    })
    .await;
}

async fn send(gateway: &Gateway, method: Method, host: &str, origin: &str) -> Answer {
    let mut client = Client::http1(gateway.addresses().http).await;
    let mut request = Request::builder().method(method).uri("/x").header("host", host);
    if !origin.is_empty() {
        request = request.header("origin", origin);
    }
    client.send(request.body(Full::default()).unwrap()).await
}

#[tokio::test]
async fn a_preflight_is_answered_and_answers_are_marked_for_origins_that_are_allowed() {
    let upstream = Upstream::echo("web").await;
    let mut text = service("web", &[upstream.address()]);
    text += &ingress("usual", "usual.test", &[("enable-cors", "true")], &[("/", "web")]);
    let some = [
        ("enable-cors", "true"),
        ("cors-allow-origin", "https://a.test, https://*.b.test"),
        ("cors-allow-methods", "GET, PUT"),
        ("cors-allow-headers", "X-A"),
        ("cors-expose-headers", "X-B, X-C"),
        ("cors-allow-credentials", "false"),
        ("cors-max-age", "60"),
        // "OPTIONS preflight answered by proxy": nobody is asked for a password before.
        ("auth-type", "basic"),
        ("auth-secret", "users"),
    ];
    text += &ingress("some", "some.test", &some, &[("/", "web")]);
    text += &tests::certificate::secret("users", &[("auth", b"nobody:x")]);
    let manifests = Manifests::of(&text);
    let gateway = Gateway::start(&manifests, &[]).await;

    let usual = send(&gateway, Method::OPTIONS, "usual.test", "https://any.test").await;
    assert_eq!((usual.status.as_u16(), upstream.n_requests()), (204, 0));
    for (name, expected) in [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET, PUT, POST, DELETE, PATCH, OPTIONS"),
        (
            "access-control-allow-headers",
            "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization",
        ),
        ("access-control-max-age", "1728000"),
    ] {
        assert_eq!(usual.header(name), Some(expected), "{name}");
    }
    let plain = send(&gateway, Method::GET, "usual.test", "").await;
    assert_eq!((plain.status.as_u16(), plain.header("access-control-allow-origin")), (200, Some("*")));

    for (method, origin, status, allowed) in [
        (Method::OPTIONS, "https://a.test", 204, Some("https://a.test")),
        (Method::OPTIONS, "https://x.b.test", 204, Some("https://x.b.test")),
        (Method::OPTIONS, "https://x.y.b.test", 401, None),
        (Method::OPTIONS, "https://a.test.evil", 401, None),
        (Method::GET, "https://a.test", 401, Some("https://a.test")),
        (Method::GET, "https://evil.test", 401, None),
        (Method::GET, "", 401, None),
    ] {
        let answer = send(&gateway, method.clone(), "some.test", origin).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {origin}");
        assert_eq!(answer.header("access-control-allow-origin"), allowed, "{method} {origin}");
        let (exposed, age) = allowed.map_or((None, None), |_| (Some("X-B, X-C"), Some("60")));
        assert_eq!(answer.header("access-control-expose-headers"), exposed, "{method} {origin}");
        assert_eq!(answer.header("access-control-max-age"), age, "{method} {origin}");
        assert_eq!(answer.header("access-control-allow-credentials"), None, "{method} {origin}");
    }
}
