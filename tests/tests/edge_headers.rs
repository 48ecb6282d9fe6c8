//! Block lists and the headers that settings put on requests and answers (`ingress-nginx.md` sections 1.3 and 1.11, row
//! `custom-headers`).

use tests::manifests::{SETTINGS, config_map, ingress, service, settings};
use tests::{Gateway, Manifests, Upstream};

struct Site {
    gateway: Gateway,
    manifests: Manifests,
    upstream: Upstream,
}

impl Site {
    /// A gateway with a host `a.test` with annotations; `objects` come on top.
    async fn with(keys: &[(&str, &str)], annotations: &[(&str, &str)], objects: &str) -> Self {
        Self::of(Upstream::echo("a").await, keys, annotations, objects).await
    }

    async fn of(upstream: Upstream, keys: &[(&str, &str)], annotations: &[(&str, &str)], objects: &str) -> Self {
        let own = [service("a", &[upstream.address()]), ingress("a", "a.test", annotations, &[("/", "a")])];
        let manifests = Manifests::of(&own.concat());
        manifests.write("objects.yaml", objects);
        manifests.write("settings.yaml", &settings(keys));
        Self { gateway: Gateway::start(&manifests, &[SETTINGS]).await, manifests, upstream }
    }

    async fn status(&self, headers: &[(&str, &str)]) -> u16 {
        self.gateway.get_with("http://a.test/", headers).await.status.as_u16()
    }
}

#[tokio::test]
async fn blocked_clients_agents_and_referers_are_forbidden_everywhere() {
    let site = Site::with(&[("block-user-agents", "curl/8.0,~*bad.?bot"), ("block-referers", "~spam")], &[], "").await;
    for (headers, status) in [
        (&[][..], 200),
        (&[("user-agent", "curl/8.0")], 403),
        (&[("user-agent", "CURL/8.0")], 403),
        (&[("user-agent", "curl/8.0.1")], 200),
        (&[("user-agent", "x BadBot/1")], 403),
        (&[("referer", "https://spam.test/")], 403),
        (&[("referer", "https://SPAM.test/")], 200),
    ] {
        assert_eq!(site.status(headers).await, status, "{headers:?}");
    }
    assert_eq!(site.gateway.get_with("http://nowhere.test/", &[("user-agent", "curl/8.0")]).await.status, 403);
    site.manifests.write("settings.yaml", &settings(&[("block-cidrs", "127.0.0.0/8,10.0.0.0/8")]));
    site.gateway.wait_for("http://a.test/", |answer| answer.status == 403).await;
    // A list that cannot be read keeps everybody out, rather than letting everybody in.
    site.manifests.write("settings.yaml", &settings(&[("block-cidrs", "127.0.0.0/33")]));
    site.gateway.wait_for("http://a.test/", |answer| answer.status == 503).await;
    site.manifests.write("settings.yaml", &settings(&[]));
    site.gateway.wait_for("http://a.test/", |answer| answer.status == 200).await;
}

#[tokio::test]
async fn proxy_set_headers_reach_the_upstream_with_their_variables() {
    let headers = [("X-Using", "true"), ("X-Uri", "$request_method $request_uri"), ("X-Empty", ""), ("Host", "evil")];
    let map = config_map("request-headers", &headers);
    let keys = [("proxy-set-headers", "default/request-headers"), ("proxy-add-original-uri-header", "true")];
    let site = Site::with(&keys, &[], &map).await;
    let answer = site.gateway.get_with("http://a.test/b/../x?y=1", &[("x-using", "client")]).await;
    let seen = answer.seen();
    assert_eq!(seen.header("x-using"), Some("true"));
    assert_eq!(seen.header("x-uri"), Some("GET /x?y=1"));
    assert_eq!(seen.header("x-empty"), None);
    assert_eq!(seen.host, "a.test");
    assert_eq!(seen.header("x-original-uri"), Some("/b/../x?y=1"));
    site.manifests.write("objects.yaml", &config_map("request-headers", &[("X-Using", "edited")]));
    let is_edited = |answer: &tests::Answer| answer.seen().header("x-using") == Some("edited");
    site.gateway.wait_for("http://a.test/", is_edited).await;
}

#[tokio::test]
async fn add_headers_are_on_every_answer() {
    let map = config_map("answer-headers", &[("X-Edge", "penstock"), ("X-Host", "$host")]);
    let site = Site::with(&[("add-headers", "default/answer-headers")], &[], &map).await;
    for (url, host) in [
        ("http://a.test/", "a.test"),
        ("http://a.test/?status=500", "a.test"),
        ("http://nowhere.test/", "nowhere.test"),
    ] {
        let answer = site.gateway.get(url).await;
        assert_eq!((answer.header("x-edge"), answer.header("x-host")), (Some("penstock"), Some(host)), "{url}");
    }
}

#[tokio::test]
async fn custom_headers_are_those_that_the_settings_allow() {
    let map = config_map("mine", &[("X-Custom", "one")]);
    let annotations = [("custom-headers", "default/mine")];
    let site = Site::with(&[("global-allowed-response-headers", "X-Custom,X-Other")], &annotations, &map).await;
    assert_eq!(site.gateway.get("http://a.test/").await.header("x-custom"), Some("one"));
    // ingress-nginx denies the location when a header is not allowed, and when there is no such ConfigMap.
    site.manifests.write("settings.yaml", &settings(&[("global-allowed-response-headers", "X-Other")]));
    site.gateway.wait_for("http://a.test/", |answer| answer.status == 503).await;
    site.manifests.write("settings.yaml", &settings(&[("global-allowed-response-headers", "X-Custom")]));
    site.gateway.wait_for("http://a.test/", |answer| answer.header("x-custom") == Some("one")).await;
    site.manifests.remove("objects.yaml");
    site.gateway.wait_for("http://a.test/", |answer| answer.status == 503).await;
    assert!(site.upstream.n_requests() >= 2);
}

#[tokio::test]
async fn headers_of_upstreams_are_hidden_and_the_server_is_nobodys_business() {
    let tell = |_: http::Request<_>| -> tests::upstream::Answering {
        Box::pin(async {
            let answer = http::Response::builder().header("server", "apache/1").header("x-powered-by", "php");
            answer.body(tests::upstream::full("x")).unwrap()
        })
    };
    for (keys, server, powered_by) in [
        (&[][..], None, Some("php")),
        (&[("hide-headers", "X-Powered-By,X-Other")], None, None),
        (&[("allow-backend-server-header", "true")], Some("apache/1"), Some("php")),
        (&[("server-tokens", "true")], Some("penstock"), Some("php")),
    ] {
        let site = Site::of(Upstream::with(tell).await, keys, &[], "").await;
        let answer = site.gateway.get("http://a.test/").await;
        assert_eq!((answer.header("server"), answer.header("x-powered-by")), (server, powered_by), "{keys:?}");
        assert_eq!(
            site.gateway.get("http://nowhere.test/").await.header("server"),
            server.filter(|_| keys[0..].first().is_some_and(|key| key.0 == "server-tokens"))
        );
    }
}
