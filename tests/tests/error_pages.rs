//! Pages in place of errors: which answers they replace, and what whoever serves them is told. The expectations are
//! those of ingress-nginx.md, sections 1.1 and 1.12.

use http::Response;
use tests::manifests::{SETTINGS, ingress, service, settings};
use tests::{Answer, Gateway, Manifests, Upstream};

/// A running gateway with the Services `web` (it answers with what `status=N` asks for), `pages` and `global`, which
/// tell what they got, and `none` without endpoints.
struct Scene {
    gateway: Gateway,
    web: Upstream,
    pages: Upstream,
    _global: Upstream,
    _manifests: Manifests,
}

impl Scene {
    async fn new(manifests: &[String], flags: &[&str]) -> Self {
        let (web, global) = (Upstream::echo("web").await, Upstream::echo("global").await);
        // It sets the status itself, as the backend of error pages has to.
        let pages = Upstream::with(|request| {
            Box::pin(async move {
                let mut response = tests::upstream::tell("pages".to_owned(), request).await;
                *response.status_mut() = http::StatusCode::IM_A_TEAPOT;
                response
            })
        })
        .await;
        let services = [
            service("web", &[web.address()]),
            service("pages", &[pages.address()]),
            service("global", &[global.address()]),
            service("none", &[]),
        ];
        let manifests = Manifests::of(&[services.concat(), manifests.concat()].concat());
        let gateway = Gateway::start(&manifests, flags).await;
        Self { gateway, web, pages, _global: global, _manifests: manifests }
    }

    async fn get(&self, url: &str) -> Answer {
        self.gateway.get(url).await
    }

    /// Asks for URLs, each of which must be answered with this status by this upstream; empty for the gateway itself.
    async fn check(&self, expected: &[(&str, u16, &str)]) {
        for (url, status, upstream) in expected {
            let answer = self.get(url).await;
            let from = if answer.text().starts_with('{') { answer.upstream() } else { String::new() };
            assert_eq!((answer.status.as_u16(), from.as_str()), (*status, *upstream), "{url}");
        }
    }
}

fn of(name: &str, service: &str, annotations: &[(&str, &str)]) -> String {
    ingress(name, &format!("{name}.test"), annotations, &[("/", service)])
}

const PAGES: [(&str, &str); 2] = [("custom-http-errors", "404,503"), ("default-backend", "pages")];

#[tokio::test]
async fn errors_of_upstreams_and_of_the_gateway_are_answered_by_the_default_backend() {
    let scene = Scene::new(
        &[
            of("web", "web", &PAGES),
            of("none", "none", &PAGES),
            of("own", "web", &[PAGES[0], PAGES[1], ("disable-proxy-intercept-errors", "true")]),
            of("denied", "web", &[("custom-http-errors", "403"), PAGES[1], ("denylist-source-range", "127.0.0.0/8")]),
            of("nobody", "web", &[("custom-http-errors", "404"), ("default-backend", "none")]),
        ],
        &[],
    )
    .await;
    scene
        .check(&[
            ("http://web.test/x?status=200", 200, "web"),
            ("http://web.test/x?status=404", 418, "pages"),
            ("http://web.test/x?status=500", 500, "web"),
            ("http://web.test/x?status=503", 418, "pages"),
            ("http://none.test/x", 418, "pages"),
            ("http://own.test/x?status=404", 404, "web"),
            ("http://denied.test/x", 418, "pages"),
            // A page that nobody serves leaves the answer as it is.
            ("http://nobody.test/x?status=404", 404, "web"),
        ])
        .await;
    // Who is kept out does not reach the upstream by way of a page.
    assert_eq!(scene.web.n_requests(), 6);
}

#[tokio::test]
async fn whoever_serves_the_pages_is_told_what_went_wrong() {
    let scene = Scene::new(&[of("web", "web", &PAGES), of("none", "none", &PAGES[1..])], &[]).await;
    let headers = [("Accept", "text/html"), ("X-Request-ID", "abc"), ("X-Code", "200"), ("X-Service-Name", "forged")];
    for (url, code, service, original) in [
        ("http://web.test/a/b?status=404", "404", "web", Some("/a/b?status=404")),
        // A Service without endpoints: the default backend takes the request as it is.
        ("http://none.test/a/b?c", "503", "none", None),
    ] {
        let answer = scene.gateway.get_with(url, &headers).await;
        let seen = answer.seen();
        for (name, expected) in [
            ("x-code", Some(code)),
            ("x-format", Some("text/html")),
            ("x-original-uri", original),
            ("x-namespace", Some("default")),
            ("x-ingress-name", Some(service)),
            ("x-service-name", Some(service)),
            ("x-service-port", Some("80")),
            ("x-request-id", Some("abc")),
        ] {
            assert_eq!(seen.header(name), expected, "{url}: {name}");
        }
        let (target, host) = if original.is_some() { ("/?status=404", "web.test") } else { ("/a/b?c", "none.test") };
        assert_eq!((seen.target.as_str(), seen.host.as_str()), (target, host), "{url}");
    }
    assert_eq!(scene.pages.n_requests(), 2);
}

#[tokio::test]
async fn a_page_is_asked_for_with_the_method_and_the_query_but_without_the_body() {
    let scene = Scene::new(&[of("web", "web", &PAGES)], &[]).await;
    for method in ["POST", "GET", "HEAD"] {
        for mut client in scene.gateway.clients("web.test").await {
            let body = if method == "POST" { "a=b" } else { "" };
            let request = client.request(method, "web.test", "/x?status=404", &[], body);
            let answer = client.send(request).await;
            assert_eq!(answer.status.as_u16(), 418, "{method}");
            if method != "HEAD" {
                let seen = answer.seen();
                assert_eq!((&*seen.method, &*seen.target, &*seen.body), (method, "/?status=404", ""));
            }
        }
    }
}

#[tokio::test]
async fn the_statuses_of_the_configmap_are_for_the_global_default_backend() {
    let flags = [SETTINGS, "--default-backend-service=default/global"];
    let scene = Scene::new(
        &[
            settings(&[("custom-http-errors", "404")]),
            of("plain", "web", &[]),
            of("fallback", "web", &[("default-backend", "pages")]),
            of("own", "web", &[("custom-http-errors", "500"), ("default-backend", "pages")]),
            of("kept", "web", &[("disable-proxy-intercept-errors", "true")]),
        ],
        &flags,
    )
    .await;
    scene
        .check(&[
            // The query goes along, by which this one sets the status.
            ("http://plain.test/?status=404", 404, "global"),
            ("http://plain.test/?status=500", 500, "web"),
            ("http://fallback.test/?status=404", 404, "global"),
            ("http://own.test/?status=404", 404, "web"),
            ("http://own.test/?status=500", 418, "pages"),
            ("http://kept.test/?status=404", 404, "web"),
        ])
        .await;
}

#[tokio::test]
async fn a_page_that_is_too_large_or_never_comes_leaves_a_plain_error() {
    let large = Upstream::with(|_| {
        Box::pin(async { Response::builder().status(200).body(tests::upstream::zeros((1 << 20) + 1)).unwrap() })
    })
    .await;
    let refusing = tests::upstream::refusing_address().await;
    let scene = Scene::new(
        &[
            service("large", &[large.address()]),
            service("gone", &[refusing]),
            of("a", "web", &[PAGES[0], ("default-backend", "large")]),
            of("b", "web", &[PAGES[0], ("default-backend", "gone")]),
        ],
        &[],
    )
    .await;
    for (method, host, text) in
        [("GET", "a.test", "404 Not Found\n"), ("GET", "b.test", "404 Not Found\n"), ("HEAD", "b.test", "")]
    {
        for mut client in scene.gateway.clients(host).await {
            let request = client.request(method, host, "/?status=404", &[], "");
            let answer = client.send(request).await;
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (404, text), "{method} {host}");
        }
    }
}
