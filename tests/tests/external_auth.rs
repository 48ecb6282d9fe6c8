//! External authentication, rows of `ingress-nginx.md`: section 1.1, table 5, and section 1.11.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::{Arc, Mutex};

use http::{Request, Response};
use hyper::body::Incoming;
use tests::certificate::Certificate;
use tests::manifests::{config_map, ingress, service, slice};
use tests::upstream::{Answering, full, refusing_address};
use tests::{Answer, Client, Gateway, Manifests, Upstream};

type Annotations<'a> = &'a [(&'a str, &'a str)];

/// The address of the server that [`AuthServer`] is.
const URL: (&str, &str) = ("auth-url", "http://auth.default.svc.cluster.local/check");
const ASK_QUICKLY: [(&str, &str); 2] = [("proxy-connect-timeout", "1"), ("proxy-read-timeout", "1")];

/// A server that answers as the token of its client wants it, and notes what it was asked.
struct AuthServer {
    upstream: Upstream,
    asked: Arc<Mutex<Vec<Request<()>>>>,
}

impl AuthServer {
    async fn start() -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        let upstream = Upstream::with(move |request: Request<Incoming>| -> Answering {
            let notes = Arc::clone(&notes);
            Box::pin(async move {
                let token = request.headers().get("authorization").map(|token| token.to_str().unwrap().to_owned());
                notes.lock().unwrap().push(request.map(drop));
                answer(token.as_deref()).await
            })
        })
        .await;
        Self { upstream, asked }
    }

    /// The questions since the last call.
    fn take(&self) -> Vec<Request<()>> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn service(&self) -> String {
        service("auth", &[self.upstream.address()])
    }
}

async fn answer(token: Option<&str>) -> Response<tests::upstream::Body> {
    let response = Response::builder();
    let response = match token {
        Some("Bearer alice") => response.status(200).header("x-user", "alice").header("x-role", "admin"),
        Some("Bearer nobody") => response.status(204),
        Some("Bearer cookie") => response.status(200).header("set-cookie", "s=1").header("set-cookie", "t=2"),
        Some("Bearer mallory") => response.status(403).header("set-cookie", "s=1").header("x-user", "mallory"),
        Some("Bearer moved") => response.status(302).header("location", "https://elsewhere.test/"),
        Some("Bearer broken") => response.status(500),
        Some("Bearer missing") => response.status(404),
        Some("Bearer stranger") => response.status(401),
        Some("Bearer slow") => std::future::pending().await,
        _ => response.status(401).header("www-authenticate", "Bearer realm=\"x\"").header("set-cookie", "s=1"),
    };
    response.body(full("what it says is for the gateway")).unwrap()
}

struct Setup {
    gateway: Gateway,
    auth: AuthServer,
    web: Upstream,
    manifests: Manifests,
}

/// A gateway with one host for each list of annotations, beside `more`.
async fn setup(hosts: &[(&str, Annotations<'_>)], more: &str, flags: &[&str]) -> Setup {
    let (auth, web) = (AuthServer::start().await, Upstream::echo("web").await);
    let mut text = [service("web", &[web.address()]), auth.service(), more.to_owned()].concat();
    for (host, annotations) in hosts {
        text += &ingress(host, host, annotations, &[("/", "web")]);
    }
    let manifests = Manifests::of(&text);
    let gateway = Gateway::start(&manifests, flags).await;
    Setup { gateway, auth, web, manifests }
}

impl Setup {
    async fn ask(&self, url: &str, token: &str) -> Answer {
        let token = format!("Bearer {token}");
        self.gateway.get_with(url, &[("authorization", &token)]).await
    }
}

fn header<'r>(request: &'r Request<()>, name: &str) -> Option<&'r str> {
    let mut values = request.headers().get_all(name).iter();
    let value = values.next().map(|value| value.to_str().unwrap());
    assert!(values.next().is_none(), "{name} is there twice");
    value
}

fn cookies(answer: &Answer) -> Vec<&str> {
    answer.headers.get_all("set-cookie").iter().map(|cookie| cookie.to_str().unwrap()).collect()
}

/// "Subrequest: 2xx allow; 401/403 returned; else 500."
#[tokio::test]
async fn a_request_passes_on_2xx_and_on_nothing_else() {
    let [connect, read] = ASK_QUICKLY;
    let setup = setup(&[("a.test", &[URL, connect, read])], "", &[]).await;
    for (token, status) in [
        ("alice", 200),
        ("nobody", 200),
        ("", 401),
        ("mallory", 403),
        ("moved", 500),
        ("broken", 500),
        ("missing", 500),
        ("slow", 500),
    ] {
        let n_before = setup.web.n_requests();
        let answer = setup.ask("http://a.test/x", token).await;
        assert_eq!(answer.status, status, "{token}");
        assert_eq!(setup.web.n_requests() - n_before, usize::from(status == 200), "{token}");
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, (status == 401).then_some("Bearer realm=\"x\""), "{token}");
        assert!(!answer.text().contains("for the gateway"), "{token}");
    }
}

/// Section 1.11: "Auth subrequest headers".
#[tokio::test]
async fn the_server_gets_the_headers_of_the_client_and_what_the_request_was() {
    let plain = [URL];
    let with_method = [URL, ("auth-method", "HEAD"), ("auth-request-redirect", "https://$host/back")];
    let setup = setup(&[("a.test", &plain), ("method.test", &with_method)], "", &[]).await;
    let lies = [
        ("authorization", "Bearer alice"),
        ("proxy-authorization", "Basic Ym9i"),
        ("x-custom", "kept"),
        ("cookie", "a=b"),
        ("x-request-id", "id-1"),
        ("x-original-url", "http://evil.test/public"),
        ("x-original-uri", "/public"),
        ("x-original-method", "GET"),
        ("x-sent-by-nobody", "kept"),
        ("x-forwarded-uri", "/public"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "192.0.2.9"),
        ("x-forwarded-host", "evil.test"),
        ("x-real-ip", "192.0.2.9"),
        ("x-scheme", "https"),
        ("x-auth-request-redirect", "https://evil.test/"),
        ("connection", "x-hop"),
        ("x-hop", "dropped"),
    ];
    for (host, method, uri, scheme, redirect) in [
        ("a.test", "GET", None, None, "/p%2Fq?c=d"),
        ("method.test", "HEAD", Some("/p%2Fq?c=d"), Some("http"), "https://method.test/back"),
    ] {
        let mut client = Client::http1(setup.gateway.addresses().http).await;
        let request = client.request("POST", host, "/x/../p%2Fq?c=d", &lies, "a body");
        let answer = client.send(request).await;
        assert_eq!(answer.status, 200, "{host}");
        assert_eq!((answer.seen().body.as_str(), answer.seen().target.as_str()), ("a body", "/p%2Fq?c=d"), "{host}");
        let questions = setup.auth.take();
        assert_eq!(questions.len(), 1, "{host}");
        let question = &questions[0];
        assert_eq!((question.method().as_str(), question.uri().path()), (method, "/check"), "{host}");
        let url = format!("http://{host}/p%2Fq?c=d");
        for (name, expected) in [
            ("host", Some("auth.default.svc.cluster.local")),
            ("proxy-authorization", Some("Basic Ym9i")),
            ("x-original-url", Some(url.as_str())),
            ("x-original-method", Some("POST")),
            ("x-original-uri", uri),
            ("x-scheme", scheme),
            ("x-sent-from", Some("nginx-ingress-controller")),
            ("x-real-ip", Some("127.0.0.1")),
            ("x-forwarded-for", Some("127.0.0.1")),
            ("x-forwarded-host", Some(host)),
            ("x-forwarded-proto", None),
            ("x-forwarded-uri", None),
            ("x-auth-request-redirect", Some(redirect)),
            ("x-request-id", Some("id-1")),
            ("authorization", Some("Bearer alice")),
            ("x-custom", Some("kept")),
            ("cookie", Some("a=b")),
            ("content-length", None),
            ("transfer-encoding", None),
            ("x-hop", None),
        ] {
            assert_eq!(header(question, name), expected, "{host} {name}");
        }
    }
}

/// "Copied from auth response to upstream request (must strip client-supplied copies!)"
#[tokio::test]
async fn upstreams_get_the_servers_word_and_never_the_clients() {
    let copies = ("auth-response-headers", "X-User, x-role,X-Absent");
    let any = [URL, copies, ("satisfy", "any"), ("allowlist-source-range", "127.0.0.0/8")];
    let setup = setup(&[("a.test", &[URL, copies]), ("any.test", &any)], "", &[]).await;
    let lies = [("x-user", "root"), ("X-Role", "root"), ("x-absent", "root"), ("x-other", "kept")];
    for (host, token, user, role) in [
        ("a.test", "Bearer alice", Some("alice"), Some("admin")),
        ("a.test", "Bearer nobody", None, None),
        // Let through by its address, without a question.
        ("any.test", "Bearer mallory", None, None),
    ] {
        let mut headers = vec![("authorization", token)];
        headers.extend(lies);
        let seen = setup.gateway.get_with(&format!("http://{host}/"), &headers).await.seen();
        assert_eq!((seen.header("x-user"), seen.header("x-role")), (user, role), "{host} {token}");
        assert_eq!((seen.header("x-absent"), seen.header("x-other")), (None, Some("kept")), "{host} {token}");
    }
}

/// "401 => 302 to URL + `?rd=$pass_access_scheme://$http_host$escaped_request_uri`"
#[tokio::test]
async fn who_is_not_known_is_sent_to_the_sign_in_page() {
    let page = "https://login.test/start";
    let rows: [(&str, Annotations<'_>, &str); 4] = [
        ("a.test", &[URL, ("auth-signin", page)], "https://login.test/start?rd=http://a.test%2Fx%3Fy%3Dz"),
        (
            "query.test",
            &[URL, ("auth-signin", "https://login.test/start?a=b"), ("auth-signin-redirect-param", "back")],
            "https://login.test/start?a=b&back=http://query.test%2Fx%3Fy%3Dz",
        ),
        (
            "own.test",
            &[URL, ("auth-signin", "https://$host/oauth2/start?rd=$escaped_request_uri")],
            "https://own.test/oauth2/start?rd=%2Fx%3Fy%3Dz",
        ),
        (
            "any.test",
            &[URL, ("auth-signin", page), ("satisfy", "any"), ("denylist-source-range", "127.0.0.1")],
            "https://login.test/start?rd=http://any.test%2Fx%3Fy%3Dz",
        ),
    ];
    let hosts: Vec<_> = rows.iter().map(|(host, annotations, _)| (*host, *annotations)).collect();
    let setup = setup(&hosts, "", &[]).await;
    for (host, _, location) in rows {
        let answer = setup.ask(&format!("http://{host}/x?y=z"), "").await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (302, Some(location)), "{host}");
        assert_eq!((cookies(&answer), answer.header("www-authenticate")), (vec!["s=1"], None), "{host}");
        for (token, status) in [("mallory", 403), ("broken", 500), ("alice", 200)] {
            let answer = setup.ask(&format!("http://{host}/x?y=z"), token).await;
            assert_eq!((answer.status.as_u16(), answer.header("location")), (status, None), "{host} {token}");
        }
    }
}

/// nginx `add_header` without `always`: 200, 201, 204, 206, 301, 302, 303, 304, 307, 308.
#[tokio::test]
async fn cookies_of_the_server_reach_the_client() {
    let always = [URL, ("auth-always-set-cookie", "true")];
    let setup = setup(&[("a.test", &[URL]), ("always.test", &always)], "", &[]).await;
    for (host, token, status, expected) in [
        ("a.test", "cookie", 200, &["s=1", "t=2"][..]),
        ("a.test", "cookie", 404, &[]),
        ("a.test", "cookie", 302, &["s=1", "t=2"]),
        ("a.test", "mallory", 403, &[]),
        ("always.test", "cookie", 404, &["s=1", "t=2"]),
        ("always.test", "mallory", 403, &["s=1"]),
    ] {
        let answer = setup.ask(&format!("http://{host}/?status={status}"), token).await;
        assert_eq!(answer.status, status, "{host} {token}");
        assert_eq!(cookies(&answer), expected, "{host} {token} {status}");
    }
}

/// "auth-cache-key: enables auth response cache (per server+location)"; "200 202 401 5m".
#[tokio::test]
async fn an_answer_holds_for_requests_with_the_same_key() {
    let key = ("auth-cache-key", "$http_authorization");
    let copies = ("auth-response-headers", "x-user");
    let never = ("auth-cache-duration", "204 5m, 403 1h");
    let rows: [(&str, Annotations<'_>); 3] =
        [("a.test", &[URL, key, copies]), ("b.test", &[URL, key, copies]), ("never.test", &[URL, key, never])];
    let setup = setup(&rows, "", &[]).await;
    for (host, token, status, n_questions) in [
        ("a.test", "alice", 200, 1),
        ("a.test", "alice", 200, 0),
        // Another server, another answer.
        ("b.test", "alice", 200, 1),
        ("a.test", "stranger", 401, 1),
        ("a.test", "stranger", 401, 0),
        ("a.test", "mallory", 403, 1),
        ("a.test", "mallory", 403, 1),
        ("a.test", "broken", 500, 1),
        ("a.test", "broken", 500, 1),
        // nginx keeps no answer with a cookie.
        ("a.test", "cookie", 200, 1),
        ("a.test", "cookie", 200, 1),
        ("never.test", "alice", 200, 1),
        ("never.test", "alice", 200, 1),
        ("never.test", "nobody", 200, 1),
        ("never.test", "nobody", 200, 0),
    ] {
        let answer = setup.ask(&format!("http://{host}/"), token).await;
        assert_eq!((answer.status.as_u16(), setup.auth.take().len()), (status, n_questions), "{host} {token}");
        if token == "alice" && host != "never.test" {
            assert_eq!(answer.seen().header("x-user"), Some("alice"), "{host}");
        }
    }
}

/// "Extra headers to auth service", from a ConfigMap of the same namespace.
#[tokio::test]
async fn a_config_map_adds_headers_to_the_question() {
    let extra = [URL, ("auth-proxy-set-headers", "default/extra")];
    let missing = [URL, ("auth-proxy-set-headers", "nothing")];
    let foreign = [URL, ("auth-proxy-set-headers", "other/extra")];
    let framing = [URL, ("auth-proxy-set-headers", "framing")];
    let maps = [
        config_map("extra", &[("X-Team", "blue"), ("X-Asked-For", "$host$uri"), ("X-Custom", "")]),
        config_map("framing", &[("Content-Length", "7")]),
    ];
    let hosts: [(&str, Annotations<'_>); 4] =
        [("a.test", &extra), ("missing.test", &missing), ("foreign.test", &foreign), ("framing.test", &framing)];
    let setup = setup(&hosts, &maps.concat(), &[]).await;
    let answer =
        setup.gateway.get_with("http://a.test/x", &[("authorization", "Bearer alice"), ("x-team", "red")]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.seen().header("x-team"), Some("red"));
    let questions = setup.auth.take();
    assert_eq!(
        (header(&questions[0], "x-team"), header(&questions[0], "x-asked-for")),
        (Some("blue"), Some("a.test/x"))
    );
    for host in ["missing.test", "foreign.test", "framing.test"] {
        assert_eq!(setup.ask(&format!("http://{host}/x"), "alice").await.status, 503, "{host}");
    }
    assert_eq!(setup.auth.take().len(), 0);
}

#[tokio::test]
async fn a_server_that_cannot_be_asked_denies() {
    let [connect, read] = ASK_QUICKLY;
    let refusing = service("refusing", &[refusing_address().await]);
    let (gone, none) = ("http://refusing.default.svc/", "http://none.default.svc.cluster.local/");
    let hosts: [(&str, Annotations<'_>); 4] = [
        ("gone.test", &[("auth-url", gone), connect, read]),
        ("none.test", &[("auth-url", none), connect, read]),
        ("unknown.test", &[("auth-url", "http://auth.invalid/"), connect, read]),
        ("bad.test", &[("auth-url", "http://auth.default.svc/?x=$http_x"), connect, read]),
    ];
    let setup = setup(&hosts, &refusing, &[]).await;
    for (host, _) in hosts {
        let answer = setup.gateway.get_with(&format!("http://{host}/"), &[("x", "a b")]).await;
        assert_eq!(answer.status, 500, "{host}");
    }
    assert_eq!((setup.web.n_requests(), setup.auth.take().len()), (0, 0));
    tests::wait::until("all are counted", async || {
        let n_counted = setup.gateway.metric("penstock_gateway_answers_total", &["auth_unavailable"]).await;
        (n_counted == 4.0).then_some(())
    })
    .await;
}

/// What an ExternalName may not lead to, a server may not be either: the object is refused, and its host stays closed.
#[tokio::test]
async fn a_server_is_never_the_gateway_or_its_node() {
    let urls = [
        "http://127.0.0.1:80/",
        "http://127.9.9.9/",
        "http://0.0.0.0/",
        "http://169.254.169.254/latest",
        "http://localhost/",
        "http://auth.localhost/",
        "https://$http_x_server/",
    ];
    let hosts: Vec<String> = (0..urls.len()).map(|number| format!("host-{number}.test")).collect();
    let annotations = urls.map(|url| [("auth-url", url)]);
    let rows: Vec<(&str, Annotations<'_>)> =
        hosts.iter().zip(&annotations).map(|(host, annotation)| (host.as_str(), &annotation[..])).collect();
    let setup = setup(&rows, "", &[]).await;
    for (host, url) in hosts.iter().zip(urls) {
        assert_eq!(setup.ask(&format!("http://{host}/"), "alice").await.status, 404, "{url}");
    }
    // A rule for every host, asked for a name that leads to the gateway's node.
    let looped = ingress("any", "localhost", &[("auth-url", "http://$host/")], &[("/", "web")]);
    setup.manifests.write("any.yaml", &looped);
    setup.gateway.wait_for("http://localhost/", |answer| answer.status == 500).await;
    assert_eq!(setup.web.n_requests(), 0);
}

/// A client must not name the server that vouches for it.
#[tokio::test]
async fn a_rule_without_host_asks_no_server_of_the_clients_choice() {
    let web = Upstream::echo("web").await;
    let mut text = service("web", &[web.address()]);
    text += &ingress("any", "any.test", &[("auth-url", "http://$host/")], &[("/", "web")])
        .replace("- host: any.test\n      http:", "- http:");
    let manifests = Manifests::of(&text);
    let gateway = Gateway::start(&manifests, &[]).await;
    assert_eq!(gateway.get("http://whoever.test/").await.status, 503);
    assert_eq!(web.n_requests(), 0);
}

#[tokio::test]
async fn a_rule_that_asks_itself_is_closed() {
    let name = "self.default.svc.cluster.local";
    let url = format!("http://{name}/");
    let setup = setup(&[(name, &[("auth-url", &url)])], &service("self", &[]), &[]).await;
    let answer = setup.gateway.get(&url).await;
    assert_eq!(answer.status, 500, "nobody there");
    setup.manifests.write("self.yaml", &slice("self-1", "self", "http", setup.gateway.addresses().http));
    // The question has the id of its request, and both are logged.
    let mut n_sent = 0;
    let n_lines = tests::wait::until("the gateway asks itself", async || {
        n_sent += 1;
        let id = format!("loop-{n_sent}.");
        assert_eq!(setup.gateway.get_with(&url, &[("x-request-id", &id)]).await.status, 500);
        let lines = setup.gateway.access_log();
        let n_lines = |id: &str| lines.iter().filter(|line| line.contains(id)).count();
        (1..=n_sent).map(|number| n_lines(&format!("loop-{number}."))).max().filter(|most| *most > 1)
    })
    .await;
    assert_eq!(n_lines, 2, "the question is not asked about in its turn");
    assert_eq!(setup.web.n_requests(), 0);
}

/// "satisfy: any-of IP-allowlist / basic / auth-url"
#[tokio::test]
async fn satisfy_counts_the_server_as_one_of_the_conditions() {
    let list = ("allowlist-source-range", "192.0.2.0/24");
    let hosts: [(&str, Annotations<'_>); 2] =
        [("any.test", &[URL, list, ("satisfy", "any")]), ("all.test", &[URL, list])];
    let forwarded = config_map("settings", &[("use-forwarded-headers", "true")]);
    let setup = setup(&hosts, &forwarded, &["--configmap=default/settings"]).await;
    for (host, client, token, status, n_questions) in [
        ("any.test", "192.0.2.1", "mallory", 200, 0),
        ("any.test", "198.51.100.1", "alice", 200, 1),
        ("any.test", "198.51.100.1", "mallory", 403, 1),
        ("any.test", "198.51.100.1", "", 401, 1),
        ("any.test", "198.51.100.1", "broken", 500, 1),
        ("all.test", "192.0.2.1", "alice", 200, 1),
        ("all.test", "192.0.2.1", "mallory", 403, 1),
        ("all.test", "198.51.100.1", "alice", 403, 0),
    ] {
        let token = format!("Bearer {token}");
        let headers = [("x-forwarded-for", client), ("authorization", &*token)];
        let answer = setup.gateway.get_with(&format!("http://{host}/"), &headers).await;
        assert_eq!(answer.status, status, "{host} {client} {token}");
        assert_eq!(setup.auth.take().len(), n_questions, "{host} {client} {token}");
    }
}

/// Section 1.3, group "Global auth", and `enable-global-auth`.
#[tokio::test]
async fn the_global_server_is_asked_for_every_ingress_that_names_no_other() {
    let settings = config_map(
        "settings",
        &[
            ("global-auth-url", "http://auth.default.svc.cluster.local/global"),
            ("global-auth-response-headers", "x-user"),
            ("global-auth-signin", "https://login.test/"),
            ("global-auth-signin-redirect-param", "back"),
            ("no-auth-locations", "/.well-known/acme-challenge,/open"),
        ],
    );
    let open = ingress("open", "a.test", &[], &[("/open/x", "web")]);
    let hosts: [(&str, Annotations<'_>); 3] =
        [("a.test", &[]), ("own.test", &[URL]), ("out.test", &[("enable-global-auth", "false")])];
    let setup = setup(&hosts, &[settings, open].concat(), &["--configmap=default/settings"]).await;
    for (url, token, status, asked) in [
        ("http://a.test/", "alice", 200, Some("/global")),
        ("http://a.test/", "mallory", 403, Some("/global")),
        ("http://a.test/", "", 302, Some("/global")),
        ("http://a.test/open/x", "", 200, None),
        ("http://a.test/open/../secret", "", 302, Some("/global")),
        ("http://own.test/", "", 401, Some("/check")),
        ("http://out.test/", "", 200, None),
    ] {
        let answer = setup.ask(url, token).await;
        assert_eq!(answer.status, status, "{url} {token}");
        let questions = setup.auth.take();
        assert_eq!(questions.first().map(|question| question.uri().path()), asked, "{url} {token}");
        if status == 302 {
            let location = answer.header("location").unwrap();
            assert!(location.starts_with("https://login.test/?back=http://a.test%2F"), "{location}");
        }
        if token == "alice" {
            assert_eq!(answer.seen().header("x-user"), Some("alice"));
        }
    }
}

#[tokio::test]
async fn a_server_is_asked_over_tls_and_its_connections_are_used_again() {
    let certificate = Certificate::self_signed(&["secure.default.svc"]);
    let secure = Upstream::echo_tls("secure", &certificate).await;
    let tls = service("secure", &[secure.address()]).replacen("port: 80\n", "port: 443\n", 1);
    let hosts: [(&str, Annotations<'_>); 1] = [("a.test", &[("auth-url", "https://secure.default.svc/x")])];
    let setup = setup(&hosts, &tls, &[]).await;
    for _ in 0..5 {
        assert_eq!(setup.gateway.get("http://a.test/").await.status, 200);
    }
    assert_eq!((secure.n_requests(), secure.n_connections()), (5, 1));
    drop(secure);
    tests::wait::until("the server is gone", async || {
        (setup.gateway.get("http://a.test/").await.status == 500).then_some(())
    })
    .await;
}
