//! What the annotations of ingress-nginx make of a request: redirects, rewrites, other protocols, other backends, and the
//! refusal of what cannot be kept. The expectations are those of ingress-nginx.md, sections 1.1, 1.9 and 1.10.

use tests::certificate::Certificate;
use tests::manifests::{ingress, service, tls};
use tests::{Answer, Client, Gateway, Manifests, Upstream};

/// A running gateway with the Services `a` and `b`, each with an upstream of its name, and `none` without endpoints.
struct Scene {
    gateway: Gateway,
    manifests: Manifests,
    _upstreams: [Upstream; 2],
}

impl Scene {
    async fn new(manifests: &[String]) -> Self {
        let upstreams = [Upstream::echo("a").await, Upstream::echo("b").await];
        let [a, b] = upstreams.each_ref().map(Upstream::address);
        let services = [service("a", &[a]), service("b", &[b]), service("none", &[])];
        let manifests = Manifests::of(&[services.concat(), manifests.concat()].concat());
        Self { gateway: Gateway::start(&manifests, &[]).await, manifests, _upstreams: upstreams }
    }

    async fn get(&self, url: &str) -> Answer {
        self.gateway.get(url).await
    }

    /// Asks for URLs, each of which must be answered with this status and `Location`.
    async fn check_redirects(&self, expected: &[(&str, u16, &str)]) {
        for (url, status, location) in expected {
            let answer = self.get(url).await;
            assert_eq!((answer.status.as_u16(), answer.header("location")), (*status, Some(*location)), "{url}");
        }
    }

    /// Asks for URLs, each of which must reach this upstream with this path.
    async fn check_forwards(&self, expected: &[(&str, &str, &str)]) {
        for (url, upstream, target) in expected {
            let answer = self.get(url).await;
            assert_eq!(answer.status, 200, "{url}: {answer:?}");
            let seen = answer.seen();
            assert_eq!((seen.upstream.as_str(), seen.target.as_str()), (*upstream, *target), "{url}");
        }
    }
}

/// An Ingress whose paths are read as ingress-nginx reads them: prefixes, or regular expressions.
fn loose(name: &str, host: &str, annotations: &[(&str, &str)], paths: &[(&str, &str)]) -> String {
    let text = ingress(name, host, annotations, paths).replace("pathType: Prefix", "pathType: ImplementationSpecific");
    // A path with brackets or braces is YAML's text only in quotes.
    let quoted = |line: &str| match line.split_once("- path: ") {
        Some((indent, path)) => format!("{indent}- path: '{path}'\n"),
        None => format!("{line}\n"),
    };
    text.lines().map(quoted).collect()
}

/// An Ingress with TLS and its Secret.
fn secure(name: &str, host: &str, annotations: &[(&str, &str)]) -> String {
    let secret = Certificate::self_signed(&[host]).secret(name);
    [secret, ingress(name, host, annotations, &[("/", "a")]), tls(&[host], name)].concat()
}

#[tokio::test]
async fn a_host_with_a_certificate_is_redirected_to_https() {
    let scene = Scene::new(&[
        secure("secure", "secure.test", &[]),
        secure("both", "both.test", &[("ssl-redirect", "false")]),
        secure("slash", "slash.test", &[("preserve-trailing-slash", "true")]),
        ingress("plain", "plain.test", &[], &[("/", "a")]),
    ])
    .await;
    scene
        .check_redirects(&[
            ("http://secure.test/x?y=1", 308, "https://secure.test/x?y=1"),
            ("http://secure.test:8080/x", 308, "https://secure.test/x"),
            ("http://secure.test/x/", 308, "https://secure.test/x"),
            ("http://slash.test/x/", 308, "https://slash.test/x/"),
        ])
        .await;
    scene
        .check_forwards(&[
            ("https://secure.test/x?y=1", "a", "/x?y=1"),
            ("http://both.test/x", "a", "/x"),
            ("https://both.test/x", "a", "/x"),
            ("http://plain.test/x", "a", "/x"),
        ])
        .await;
}

#[tokio::test]
async fn a_challenge_of_acme_is_never_redirected() {
    let forced = ingress("forced", "forced.test", &[("force-ssl-redirect", "true")], &[("/", "a")]);
    let scene = Scene::new(&[secure("secure", "secure.test", &[]), forced]).await;
    for host in ["secure.test", "forced.test"] {
        let path = "/.well-known/acme-challenge/token";
        scene.check_forwards(&[(&format!("http://{host}{path}"), "a", path)]).await;
        let url = format!("http://{host}/.well-known/other");
        assert_eq!(scene.get(&url).await.status, 308, "{url}");
    }
}

#[tokio::test]
async fn force_ssl_redirect_needs_no_certificate() {
    let scene = Scene::new(&[ingress("forced", "forced.test", &[("force-ssl-redirect", "true")], &[("/", "a")])]).await;
    scene.check_redirects(&[("http://forced.test/x?y", 308, "https://forced.test/x?y")]).await;
    scene.check_forwards(&[("https://forced.test/x?y", "a", "/x?y")]).await;
}

#[tokio::test]
async fn a_redirect_is_the_same_over_http2() {
    let scene = Scene::new(&[secure("secure", "secure.test", &[])]).await;
    let mut client = Client::h2c(scene.gateway.addresses().http).await;
    let answer = client.get("secure.test", "/x", &[]).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (308, Some("https://secure.test/x")));
}

#[tokio::test]
async fn rewrite_target_fills_in_what_the_path_has_captured() {
    let scene = Scene::new(&[
        loose("one", "one.test", &[("use-regex", "true"), ("rewrite-target", "/$2")], &[("/some(/|$)(.*)", "a")]),
        // A rewrite makes regular expressions of the paths by itself.
        loose("two", "two.test", &[("rewrite-target", "/new/$1")], &[("/old/(.*)", "b")]),
        loose("plain", "plain.test", &[("rewrite-target", "/")], &[("/deep/path", "a")]),
    ])
    .await;
    scene
        .check_forwards(&[
            ("http://one.test/some", "a", "/"),
            ("http://one.test/some/", "a", "/"),
            ("http://one.test/some/new/page?q=1", "a", "/new/page?q=1"),
            ("http://one.test/SOME/new", "a", "/new"),
            ("http://two.test/old/x/y?q=1", "b", "/new/x/y?q=1"),
            ("http://plain.test/deep/path", "a", "/"),
        ])
        .await;
    assert_eq!(scene.get("http://one.test/something").await.status, 404);
}

#[tokio::test]
async fn use_regex_changes_every_path_of_its_host_and_of_no_other() {
    let exact = |name: &str, host: &str| {
        ingress(name, host, &[], &[("/foo", "a")]).replace("pathType: Prefix", "pathType: Exact")
    };
    let scene = Scene::new(&[exact("victim", "shared.test"), exact("other", "other.test")]).await;
    let is_found = async |url: &str| scene.get(url).await.status == 200;
    assert!(is_found("http://shared.test/foo").await && !is_found("http://shared.test/foo/bar").await);
    scene
        .manifests
        .write("regex.yaml", &loose("regex", "shared.test", &[("use-regex", "true")], &[("/[a-c]+/x", "b")]));
    // "Every location of the host, from any Ingress, any pathType (also Exact), becomes a regex location": prefix,
    // without case.
    scene.gateway.wait_for("http://shared.test/abc/x", |answer| answer.upstream() == "b").await;
    scene
        .check_forwards(&[
            ("http://shared.test/foo/bar", "a", "/foo/bar"),
            ("http://shared.test/FOObar", "a", "/FOObar"),
            ("http://shared.test/ABC/x/y", "b", "/ABC/x/y"),
            ("http://other.test/foo", "a", "/foo"),
        ])
        .await;
    assert!(!is_found("http://other.test/foo/bar").await && !is_found("http://other.test/FOO").await);
    // The victim's author is told.
    scene.gateway.wait_for_log(&["Ingress default/victim", "RegexHost", "default/regex"]).await;
    scene.manifests.remove("regex.yaml");
    scene.gateway.wait_for("http://shared.test/foo/bar", |answer| answer.status == 404).await;
    scene.check_forwards(&[("http://shared.test/foo", "a", "/foo")]).await;
}

#[tokio::test]
async fn the_longest_regular_expression_goes_first() {
    let annotations = [("use-regex", "true")];
    let scene = Scene::new(&[loose("a", "a.test", &annotations, &[("/foo/.*", "a"), ("/foo/bar/.+", "b")])]).await;
    scene
        .check_forwards(&[("http://a.test/foo/bar/x", "b", "/foo/bar/x"), ("http://a.test/foo/x", "a", "/foo/x")])
        .await;
}

#[tokio::test]
async fn app_root_redirects_the_root_and_nothing_else() {
    let scene = Scene::new(&[
        ingress("a", "a.test", &[("app-root", "/app1")], &[("/", "a")]),
        secure("b", "b.test", &[("app-root", "/app2")]),
    ])
    .await;
    scene
        .check_redirects(&[
            ("http://a.test/", 302, "http://a.test/app1"),
            ("http://a.test:8080/", 302, "http://a.test:8080/app1"),
            ("https://b.test/", 302, "https://b.test/app2"),
        ])
        .await;
    scene.check_forwards(&[("http://a.test/app1", "a", "/app1"), ("http://a.test/x", "a", "/x")]).await;
}

#[tokio::test]
async fn permanent_and_temporal_redirects_have_their_codes() {
    let to = "https://elsewhere.test/x";
    let of =
        |name: &str, annotations: &[(&str, &str)]| ingress(name, &format!("{name}.test"), annotations, &[("/", "a")]);
    let scene = Scene::new(&[
        of("permanent", &[("permanent-redirect", to)]),
        of("permanent308", &[("permanent-redirect", to), ("permanent-redirect-code", "308")]),
        of("temporal", &[("temporal-redirect", to)]),
        of("temporal307", &[("temporal-redirect", to), ("temporal-redirect-code", "307")]),
        of("both", &[("permanent-redirect", "https://other.test/"), ("temporal-redirect", to)]),
        of("variable", &[("permanent-redirect", "https://elsewhere.test$request_uri")]),
    ])
    .await;
    scene
        .check_redirects(&[
            ("http://permanent.test/any?thing", 301, to),
            ("http://permanent308.test/", 308, to),
            ("http://temporal.test/", 302, to),
            ("http://temporal307.test/", 307, to),
            ("http://both.test/", 302, to),
            ("http://variable.test/path?q=1", 301, "https://elsewhere.test/path?q=1"),
        ])
        .await;
}

#[tokio::test]
async fn backend_protocol_names_the_protocol_of_the_upstream() {
    let certificate = Certificate::self_signed(&["upstream.test"]);
    let encrypted = Upstream::echo_tls("encrypted", &certificate).await;
    let plain = Upstream::echo("plain").await;
    let of = |name: &str, protocol: &str, service: &str| {
        ingress(name, &format!("{name}.test"), &[("backend-protocol", protocol)], &[("/", service)])
    };
    let scene = Scene::new(&[
        service("encrypted", &[encrypted.address()]),
        service("plain", &[plain.address()]),
        of("http", "HTTP", "plain"),
        of("https", "HTTPS", "encrypted"),
        of("grpc", "GRPC", "plain"),
        of("grpcs", "GRPCS", "encrypted"),
        of("auto", "AUTO_HTTP", "plain"),
    ])
    .await;
    for (url, upstream, version) in [
        ("http://http.test/", "plain", "HTTP/1.1"),
        ("http://https.test/", "encrypted", "HTTP/1.1"),
        ("http://grpc.test/", "plain", "HTTP/2.0"),
        ("http://grpcs.test/", "encrypted", "HTTP/2.0"),
        ("http://auto.test/", "plain", "HTTP/1.1"),
    ] {
        let answer = scene.get(url).await;
        assert_eq!(answer.status, 200, "{url}: {answer:?}; log:\n{}", scene.gateway.log());
        let seen = answer.seen();
        assert_eq!((seen.upstream.as_str(), seen.version.as_str()), (upstream, version), "{url}");
    }
}

#[tokio::test]
async fn default_backend_answers_for_a_service_without_endpoints() {
    let scene = Scene::new(&[
        ingress("fallback", "fallback.test", &[("default-backend", "b")], &[("/none", "none"), ("/", "a")]),
        ingress("none", "none.test", &[], &[("/", "none")]),
    ])
    .await;
    scene.check_forwards(&[("http://fallback.test/x", "a", "/x")]).await;
    assert_eq!(scene.get("http://fallback.test/none/x").await.upstream(), "b");
    assert_eq!(scene.get("http://none.test/").await.status, 503);
}

#[tokio::test]
async fn server_alias_names_the_host_once_more_and_yields_to_a_real_one() {
    let scene = Scene::new(&[
        ingress("a", "a.test", &[("server-alias", "alias.test, b.test")], &[("/", "a")]),
        ingress("b", "b.test", &[], &[("/", "b")]),
    ])
    .await;
    scene
        .check_forwards(&[
            ("http://a.test/x", "a", "/x"),
            ("http://alias.test/x", "a", "/x"),
            ("http://b.test/x", "b", "/x"),
        ])
        .await;
    assert_eq!(scene.get("http://other.test/").await.status, 404);
}

/// What restricts access and cannot be kept closes its paths; what is beside it stays open.
#[tokio::test]
async fn a_restriction_that_cannot_be_kept_answers_503_with_its_reason() {
    let denied = [
        ("configuration-snippet", "deny all;"),
        ("auth-snippet", "deny all;"),
        ("enable-modsecurity", "true"),
        ("modsecurity-snippet", "SecRuleEngine On"),
        ("ssl-passthrough", "true"),
        ("server-snippet", "deny all;"),
    ];
    let host = |name: &str| format!("{name}.test");
    let mut manifests: Vec<String> =
        denied.iter().map(|(name, value)| ingress(name, &host(name), &[(name, value)], &[("/", "a")])).collect();
    // A snippet of locations closes those of its own Ingress.
    manifests.push(ingress("beside", "configuration-snippet.test", &[], &[("/open", "b")]));
    manifests.push(ingress("open", "open.test", &[("enable-modsecurity", "false")], &[("/", "a")]));
    let scene = Scene::new(&manifests).await;
    for (name, _) in denied {
        let answer = scene.get(&format!("http://{}/", host(name))).await;
        assert_eq!((answer.status.as_u16(), answer.upstream()), (503, String::new()), "{name}");
        scene.gateway.wait_for_log(&[&format!("Ingress default/{name}"), name, "Denied"]).await;
    }
    scene
        .check_forwards(&[("http://configuration-snippet.test/open", "b", "/open"), ("http://open.test/", "a", "/")])
        .await;
    assert_eq!(scene.gateway.metric("penstock_gateway_answers_total", &["reason=\"denied\""]).await, 6.0);
}

#[tokio::test]
async fn a_value_that_an_annotation_cannot_have_refuses_its_object_and_no_other() {
    let scene = Scene::new(&[
        ingress("bad", "bad.test", &[("ssl-redirect", "perhaps")], &[("/", "a")]),
        ingress("good", "good.test", &[], &[("/", "a")]),
    ])
    .await;
    assert_eq!(scene.get("http://bad.test/").await.text(), "default backend - 404");
    scene.check_forwards(&[("http://good.test/", "a", "/")]).await;
    scene.gateway.wait_for_log(&["Ingress default/bad", "ssl-redirect", "AnnotationParsingFailed"]).await;
}

#[tokio::test]
async fn redirects_to_a_path_are_written_as_the_annotations_say() {
    let of = |name: &str, annotations: &[(&str, &str)]| {
        let annotations = [annotations, &[("permanent-redirect", "/moved")]].concat();
        ingress(name, &format!("{name}.test"), &annotations, &[("/", "a")])
    };
    let slash = [("relative-redirects", "true")];
    let with_port = ("use-port-in-redirects", "true");
    let scene = Scene::new(&[
        of("plain", &[]),
        of("relative", &[("relative-redirects", "true")]),
        of("port", &[with_port]),
        loose("slash", "slash.test", &slash, &[("/x/", "a")]),
        ingress("forced", "forced.test", &[with_port, ("force-ssl-redirect", "true")], &[("/", "a")]),
    ])
    .await;
    let (http, https) = (scene.gateway.addresses().http.port(), scene.gateway.addresses().https.port());
    scene
        .check_redirects(&[
            ("http://plain.test/x", 301, "http://plain.test/moved"),
            ("http://plain.test:99/x", 301, "http://plain.test/moved"),
            ("https://plain.test/x", 301, "https://plain.test/moved"),
            ("http://relative.test/x", 301, "/moved"),
            ("http://slash.test/x?y=z", 301, "/x/?y=z"),
            ("http://port.test/x", 301, &format!("http://port.test:{http}/moved")),
            ("https://port.test/x", 301, &format!("https://port.test:{https}/moved")),
            ("http://forced.test/x", 308, &format!("https://forced.test:{https}/x")),
        ])
        .await;
}

#[tokio::test]
async fn from_to_www_redirect_sends_the_other_name_to_the_host() {
    let both = Certificate::self_signed(&["bare.test", "www.bare.test"]);
    let annotation = [("from-to-www-redirect", "true")];
    let bare =
        [both.secret("bare"), ingress("bare", "bare.test", &annotation, &[("/", "a")]), tls(&["bare.test"], "bare")];
    let scene = Scene::new(&[
        bare.concat(),
        ingress("dressed", "www.dressed.test", &annotation, &[("/", "a")]),
        ingress("own", "own.test", &annotation, &[("/", "a")]),
        ingress("other", "www.own.test", &[], &[("/", "b")]),
    ])
    .await;
    let (http, https) = (scene.gateway.addresses().http.port(), scene.gateway.addresses().https.port());
    scene
        .check_redirects(&[
            ("http://www.bare.test/x?y=z", 308, &format!("http://bare.test:{http}/x?y=z")),
            ("https://www.bare.test/x/", 308, &format!("https://bare.test:{https}/x")),
            ("http://dressed.test/", 308, &format!("http://www.dressed.test:{http}")),
        ])
        .await;
    scene
        .check_forwards(&[
            ("https://bare.test/x", "a", "/x"),
            ("http://www.dressed.test/x", "a", "/x"),
            ("http://www.own.test/x", "b", "/x"),
        ])
        .await;
    // The certificate of the host is shown where it is for the other name too.
    let mut client = Client::https1(scene.gateway.addresses().https, Some("www.bare.test")).await;
    assert_eq!(client.get("www.bare.test", "/", &[]).await.status, 308);
    assert_eq!(client.common_name(), "bare.test");
}

#[tokio::test]
async fn upstreams_see_the_host_and_the_prefix_that_annotations_name() {
    let vhost = ("upstream-vhost", "$service_name.$namespace.svc");
    let of =
        |name: &str, annotations: &[(&str, &str)]| ingress(name, &format!("{name}.test"), annotations, &[("/", "a")]);
    let prefix = ("x-forwarded-prefix", "/$1");
    let rewrite = [("rewrite-target", "/$2"), prefix, ("upstream-vhost", "inner.test")];
    let scene = Scene::new(&[
        of("vhost", &[vhost]),
        of("grpc", &[vhost, ("backend-protocol", "GRPC")]),
        of("alone", &[prefix]),
        loose("rewrite", "rewrite.test", &rewrite, &[("/(v1)/(.*)", "a")]),
    ])
    .await;
    for (url, target, host, prefix) in [
        ("http://vhost.test/x", "/x", "a.default.svc", None),
        ("http://grpc.test/x", "/x", "a.default.svc", None),
        ("http://alone.test/x", "/x", "alone.test", None),
        ("http://rewrite.test/v1/x?y", "/x?y", "inner.test", Some("/v1")),
    ] {
        let seen = scene.get(url).await.seen();
        assert_eq!((seen.target.as_str(), seen.host.as_str()), (target, host), "{url}");
        assert_eq!(seen.header("x-forwarded-prefix"), prefix, "{url}");
        // What the client asked for is told beside it.
        assert_eq!(seen.header("x-forwarded-host"), url.split('/').nth(2), "{url}");
    }
}
