//! Copies of requests for a mirror, rows `mirror-*` of ingress-nginx.md, section 1.1: what a copy is, and that nobody but
//! the mirror notices.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use http::Response;
use http_body_util::BodyExt;
use tests::manifests::{ingress, service};
use tests::upstream::{Answering, fed, full, refusing_address, tell, zeros};
use tests::{Gateway, Manifests, Seen, Upstream, wait};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

type Annotations<'a> = &'a [(&'a str, &'a str)];

/// A server that hands what it got to the test.
struct Mirror {
    upstream: Upstream,
    copies: UnboundedReceiver<Seen>,
}

impl Mirror {
    async fn start() -> Self {
        let (sender, copies) = unbounded_channel();
        let upstream = Upstream::with(move |request| -> Answering {
            let sender = sender.clone();
            Box::pin(async move {
                let told = tell("mirror".to_owned(), request).await;
                let seen = told.into_body().collect().await.unwrap().to_bytes();
                // The test may have seen enough.
                let _ = sender.send(serde_json::from_slice(&seen).unwrap());
                Response::builder().status(500).body(full("nobody reads this")).unwrap()
            })
        })
        .await;
        Self { upstream, copies }
    }

    async fn copy(&mut self) -> Seen {
        wait::until("a copy", async || self.copies.try_recv().ok()).await
    }
}

const TO_MIRROR: (&str, &str) = ("mirror-target", "http://mirror.default.svc$request_uri");

/// A gateway with a host for each list of annotations, for the Service `web`. The Services are `web`, `mirror` and what
/// `more` has.
async fn start(
    hosts: &[(&str, Annotations<'_>)],
    web: &Upstream,
    mirror: &Upstream,
    more: &str,
) -> (Gateway, Manifests) {
    let mut text = [service("web", &[web.address()]), service("mirror", &[mirror.address()]), more.to_owned()].concat();
    for (host, annotations) in hosts {
        text += &ingress(host.trim_end_matches(".test"), host, annotations, &[("/", "web")]);
    }
    let manifests = Manifests::of(&text);
    (Gateway::start(&manifests, &[]).await, manifests)
}

#[tokio::test]
async fn a_copy_is_the_request_for_another_host() {
    let (web, mut mirror) = (Upstream::echo("web").await, Mirror::start().await);
    // Host, annotations, and the host, the target and the body of the copy.
    let rows: &[(&str, Annotations<'_>, [&str; 3])] = &[
        ("glued.test", &[TO_MIRROR], ["mirror.default.svc", "/a/b?c=d", "body"]),
        ("bare.test", &[("mirror-target", "http://mirror.default.svc")], ["mirror.default.svc", "/a/b?c=d", "body"]),
        (
            "slash.test",
            &[("mirror-target", "http://mirror.default.svc:80/$request_uri")],
            ["mirror.default.svc", "//a/b?c=d", "body"],
        ),
        (
            "fixed.test",
            &[("mirror-target", "http://mirror.default.svc/copies?of=$host$uri")],
            ["mirror.default.svc", "/copies?of=fixed.test/a/b", "body"],
        ),
        ("named.test", &[TO_MIRROR, ("mirror-host", "copies.test:81")], ["copies.test:81", "/a/b?c=d", "body"]),
        ("short.test", &[TO_MIRROR, ("mirror-request-body", "off")], ["mirror.default.svc", "/a/b?c=d", ""]),
        ("moved.test", &[TO_MIRROR, ("rewrite-target", "/new")], ["mirror.default.svc", "/a/b?c=d", "body"]),
    ];
    let hosts: Vec<_> = rows.iter().map(|(host, annotations, _)| (*host, *annotations)).collect();
    let (gateway, _manifests) = start(&hosts, &web, &mirror.upstream, "").await;
    for (host, _, [copy_host, target, body]) in rows {
        for mut client in gateway.clients(host).await {
            for method in ["POST", "GET", "HEAD"] {
                let body = if method == "POST" { *body } else { "" };
                let headers = [("X-Forwarded-For", "192.0.2.1"), ("X-Own", "kept"), ("Connection", "X-Hop")];
                let headers = if method == "POST" { &headers[..2] } else { &headers[..1] };
                let sent = if method == "POST" { "body" } else { "" };
                let request = client.request(method, host, "/a/b?c=d", headers, sent);
                let answer = client.send(request).await;
                assert_eq!(answer.status, 200, "{host}");
                let copy = mirror.copy().await;
                let seen = [&*copy.method, &copy.host, &copy.target, &copy.body];
                assert_eq!(seen, [method, copy_host, target, body], "{host}");
                // The gateway's own word, not the client's.
                assert_eq!(copy.header("x-forwarded-for"), Some("127.0.0.1"), "{host}");
                assert_eq!(copy.header("x-forwarded-host"), Some(*host));
                assert_eq!(copy.header("x-own"), (method == "POST").then_some("kept"), "{host}");
                if method != "HEAD" {
                    let expected = if *host == "moved.test" { "/new?c=d" } else { "/a/b?c=d" };
                    assert_eq!((answer.seen().target.as_str(), answer.seen().host.as_str()), (expected, *host));
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_refused_or_is_a_copy_already_is_not_copied() {
    let (web, mut mirror) = (Upstream::echo("web").await, Mirror::start().await);
    let hosts: [(&str, Annotations<'_>); 3] = [
        ("open.test", &[TO_MIRROR, ("proxy-body-size", "4")]),
        ("denied.test", &[TO_MIRROR, ("denylist-source-range", "127.0.0.0/8")]),
        ("moved.test", &[TO_MIRROR, ("permanent-redirect", "/moved")]),
    ];
    let (gateway, _manifests) = start(&hosts, &web, &mirror.upstream, "").await;
    for mut client in gateway.clients("open.test").await {
        assert_eq!(client.get("open.test", "/copied", &[("x-mirrored-by", "penstock")]).await.status, 200);
        let request = client.request("POST", "open.test", "/large", &[], "12345");
        assert_eq!(client.send(request).await.status, 413);
    }
    assert_eq!(gateway.get("http://denied.test/denied").await.status, 403);
    assert_eq!(gateway.get("http://moved.test/moved").await.status, 301);
    assert_eq!(gateway.get("http://open.test/open").await.status, 200);
    assert_eq!(mirror.copy().await.target, "/open");
}

#[tokio::test]
async fn a_request_that_is_tried_again_is_copied_once_and_with_its_body() {
    let (web, mut mirror) = (Upstream::echo("web").await, Mirror::start().await);
    // It answers before it has the body.
    let failing =
        Upstream::with(|_| Box::pin(async { Response::builder().status(503).body(full("not me")).unwrap() })).await;
    let more = [
        service("both", &[failing.address(), web.address()]),
        ingress(
            "both",
            "both.test",
            // Nor does what comes again count again.
            &[TO_MIRROR, ("proxy-next-upstream", "http_503 non_idempotent"), ("proxy-body-size", "12")],
            &[("/", "both")],
        ),
    ];
    let (gateway, _manifests) = start(&[], &web, &mirror.upstream, &more.concat()).await;
    // Two of them come to the failing one first: the budget for retries allows more.
    for (number, mut client) in gateway.clients("both.test").await.into_iter().enumerate() {
        let target = format!("/{number}");
        let (mut sender, body) = fed();
        let request = client.request("POST", "both.test", &target, &[], "").map(|_| body);
        let pieces = async {
            sender.send_data("a whole ".into()).await.unwrap();
            // The last attempt has begun.
            wait::until("the request is there", async || (web.n_requests() > number).then_some(())).await;
            sender.send_data("body".into()).await.unwrap();
            drop(sender);
        };
        let (answer, ()) = tokio::join!(client.send(request), pieces);
        assert_eq!((answer.upstream().as_str(), answer.seen().body.as_str()), ("web", "a whole body"));
        let copy = mirror.copy().await;
        assert_eq!((copy.target, copy.body.as_str()), (target, "a whole body"));
    }
    assert!(failing.n_requests() > 0);
}

#[tokio::test]
async fn a_mirror_that_does_not_answer_changes_nothing_and_its_copies_are_dropped() {
    let web = Upstream::echo("web").await;
    let silent = Upstream::with(|_| Box::pin(std::future::pending())).await;
    let more = service("gone", &[refusing_address().await]);
    let hosts: [(&str, Annotations<'_>); 2] =
        [("silent.test", &[TO_MIRROR]), ("gone.test", &[("mirror-target", "http://gone.default.svc/")])];
    let (gateway, _manifests) = start(&hosts, &web, &silent, &more).await;
    let outcome = async |outcome: &str| {
        gateway.metric("penstock_mirrored_requests_total", &[&format!("outcome=\"{outcome}\"")]).await
    };
    let mut client = tests::Client::http1(gateway.addresses().http).await;
    for _ in 0..300 {
        assert_eq!(client.get("silent.test", "/", &[]).await.upstream(), "web");
    }
    // A rule may have 256 copies under way.
    wait::until("the copies are there", async || (silent.n_requests() == 256).then_some(())).await;
    assert_eq!(outcome("dropped").await, 44.0);
    // Another rule has places of its own.
    assert_eq!(client.get("gone.test", "/", &[]).await.upstream(), "web");
    wait::until("the copy has failed", async || (outcome("failed").await == 1.0).then_some(())).await;
    assert_eq!(outcome("dropped").await, 44.0);
}

#[tokio::test]
async fn a_body_that_is_too_long_for_a_copy_reaches_its_upstream_only() {
    const LIMIT: usize = 1 << 20;
    let web = Upstream::with(|request| {
        Box::pin(async move {
            let length = request.collect().await.map(|body| body.to_bytes().len()).unwrap_or_default();
            Response::new(full(length.to_string()))
        })
    })
    .await;
    let mut mirror = Mirror::start().await;
    let annotations = [TO_MIRROR, ("proxy-body-size", "0")];
    let (gateway, _manifests) = start(&[("a.test", &annotations)], &web, &mirror.upstream, "").await;
    for mut client in gateway.clients("a.test").await {
        for (length, is_copied) in [(LIMIT + 1, false), (LIMIT, true), (2 * LIMIT, false)] {
            // With a length before it, and without.
            let text = "a".repeat(length);
            let request = client.request("POST", "a.test", &format!("/{length}"), &[], &text);
            assert_eq!(client.send(request).await.text(), length.to_string());
            let request = client.request("POST", "a.test", &format!("/{length}"), &[], "").map(|_| zeros(length));
            assert_eq!(client.send(request).await.text(), length.to_string());
            if is_copied {
                for _ in 0..2 {
                    let copy = mirror.copy().await;
                    assert_eq!((copy.target, copy.body.len()), (format!("/{length}"), length));
                }
            }
        }
    }
    let dropped = gateway.metric("penstock_mirrored_requests_total", &["outcome=\"dropped\""]).await;
    assert_eq!(dropped, 16.0);
}
