//! Canaries, in the exact order of ingress-nginx: session, header, cookie, weight.

use tests::manifests::{ingress, service};
use tests::{Answer, Client, Gateway, Manifests, Upstream};

struct Setup {
    gateway: Gateway,
    _upstreams: [Upstream; 2],
    _manifests: Manifests,
}

/// A gateway with an Ingress for `a.test` and a canary of it.
async fn setup(primary: &[(&str, &str)], canary: &[(&str, &str)]) -> Setup {
    let upstreams = [Upstream::echo("primary").await, Upstream::echo("canary").await];
    let canary = [&[("canary", "true")], canary].concat();
    let text = [
        service("primary", &[upstreams[0].address()]),
        service("next", &[upstreams[1].address()]),
        ingress("main", "a.test", primary, &[("/", "primary")]),
        ingress("canary", "a.test", &canary, &[("/", "next")]),
    ];
    let manifests = Manifests::of(&text.concat());
    Setup { gateway: Gateway::start(&manifests, &[]).await, _upstreams: upstreams, _manifests: manifests }
}

async fn ask(gateway: &Gateway, headers: &[(&str, &str)]) -> Answer {
    gateway.get_with("http://a.test/", headers).await
}

#[tokio::test]
async fn header_goes_before_cookie_and_cookie_before_weight() {
    let header = ("canary-by-header", "X-Canary");
    let value = ("canary-by-header-value", "yes");
    let pattern = ("canary-by-header-pattern", "^v[0-9]+$");
    let cookie = ("canary-by-cookie", "beta");
    let (all, none) = (("canary-weight", "100"), ("canary-weight", "0"));
    let (canary, primary) = ("canary", "primary");
    for (annotations, rows) in [
        (
            &[header, cookie, none][..],
            &[
                ("", "", primary),
                ("always", "", canary),
                ("never", "", primary),
                ("other", "", primary),
                // "For any other value, the header will be ignored and the request compared against the other canary
                // rules by precedence".
                ("other", "always", canary),
                ("never", "always", primary),
                ("always", "never", canary),
                ("", "always", canary),
                ("", "never", primary),
                ("", "other", primary),
            ][..],
        ),
        (
            &[header, cookie, all],
            &[("", "", canary), ("never", "", primary), ("", "never", primary), ("other", "other", canary)],
        ),
        (
            // A value that differs "falls through to cookie/weight (not never)".
            &[header, value, cookie, none],
            &[("yes", "", canary), ("no", "", primary), ("always", "", primary), ("no", "always", canary)],
        ),
        (&[header, value, all], &[("never", "", canary)]),
        (&[header, pattern, none], &[("v12", "", canary), ("v", "", primary), ("always", "", primary)]),
        // The pattern is "ignored if value set".
        (&[header, value, pattern, none], &[("v12", "", primary), ("yes", "", canary)]),
        (&[value, none], &[("yes", "", primary)]),
    ] {
        let setup = setup(&[], annotations).await;
        for (header, cookie, expected) in rows {
            let cookie = format!("beta={cookie}");
            let mut headers = vec![("cookie", cookie.as_str())];
            headers.extend((!header.is_empty()).then_some(("x-canary", *header)));
            let answer = ask(&setup.gateway, &headers).await;
            assert_eq!(answer.upstream(), *expected, "{annotations:?} {header:?} {cookie:?}");
        }
    }
}

#[tokio::test]
async fn a_weight_is_the_share_of_the_total() {
    for (annotations, range) in [
        (&[("canary-weight", "30")][..], 200..400),
        (&[("canary-weight", "30"), ("canary-weight-total", "300")], 50..160),
        // A total "is only honoured if >100".
        (&[("canary-weight", "5"), ("canary-weight-total", "10")], 10..110),
    ] {
        let setup = setup(&[], annotations).await;
        let mut client = Client::http1(setup.gateway.addresses().http).await;
        let mut n_canary = 0;
        for _ in 0..1000 {
            n_canary += usize::from(client.get("a.test", "/", &[]).await.upstream() == "canary");
        }
        assert!(range.contains(&n_canary), "{annotations:?}: {n_canary} of 1000");
    }
}

#[tokio::test]
async fn a_session_stays_on_its_side_of_the_canary() {
    let affinity = [("affinity", "cookie"), ("session-cookie-name", "route")];
    let cookie = |answer: &Answer| answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let header = ("canary-by-header", "X-Canary");
    let setup = setup(&affinity, &[header, ("canary-weight", "0")]).await;
    let on_primary = cookie(&ask(&setup.gateway, &[]).await);
    let on_canary = cookie(&ask(&setup.gateway, &[("x-canary", "always")]).await);
    for (cookie, header, expected) in [
        (&on_primary, "always", "primary"),
        (&on_canary, "never", "canary"),
        (&on_canary, "", "canary"),
        (&on_primary, "", "primary"),
    ] {
        let answer = ask(&setup.gateway, &[("cookie", cookie), ("x-canary", header)]).await;
        assert_eq!(answer.upstream(), expected, "{cookie} {header:?}");
    }
}

#[tokio::test]
async fn legacy_behavior_ignores_the_sessions_of_the_primary() {
    let affinity = [("affinity", "cookie"), ("session-cookie-name", "route")];
    let canary = [("canary-weight", "100"), ("affinity-canary-behavior", "legacy")];
    let setup = setup(&affinity, &canary).await;
    let answer = ask(&setup.gateway, &[]).await;
    assert_eq!((answer.upstream().as_str(), answer.header("set-cookie")), ("canary", None));
}

#[tokio::test]
async fn a_canary_is_told_apart_in_metrics_and_log() {
    let setup = setup(&[], &[("canary-weight", "100")]).await;
    assert_eq!(ask(&setup.gateway, &[]).await.upstream(), "canary");
    setup.gateway.wait_for_access_log(&["[default-primary-80] [default-next-80]"]).await;
    let labels = ["ingress=\"main\"", "service=\"primary\"", "canary=\"default-next-80\""];
    assert_eq!(setup.gateway.metric("nginx_ingress_controller_requests", &labels).await, 1.0);
}

#[tokio::test]
async fn a_canary_without_endpoints_takes_nothing() {
    let primary = Upstream::echo("primary").await;
    let text = [
        service("primary", &[primary.address()]),
        service("next", &[]),
        ingress("main", "a.test", &[], &[("/", "primary")]),
        ingress("canary", "a.test", &[("canary", "true"), ("canary-weight", "100")], &[("/", "next")]),
    ];
    let manifests = Manifests::of(&text.concat());
    let gateway = Gateway::start(&manifests, &[]).await;
    assert_eq!(ask(&gateway, &[]).await.upstream(), "primary");
}
