//! Stock nginx, on which ingress-nginx stands, with the directives that ingress-nginx.md names for annotations, and the
//! gateway with the annotations: status, headers and the upstream's request have to be the same.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::Arc;

use http::Response;
use http_body_util::BodyExt;
use tests::certificate::secret;
use tests::manifests::{SETTINGS, ingress, service, settings};
use tests::nginx::Nginx;
use tests::upstream::{full, refusing_address, tell};
use tests::{Answer, Client, Gateway, Manifests, Upstream, raw, wait};
use tokio::sync::Semaphore;

/// What a request is, beside its host.
#[derive(Clone, Copy)]
struct Ask {
    method: &'static str,
    target: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
}

/// A host that both have.
struct Case {
    host: &'static str,
    annotations: &'static [(&'static str, &'static str)],
    /// The path of the Ingress.
    path: &'static str,
    /// The locations of nginx's `server`, where `UPSTREAM` stands for the address of the upstream.
    locations: &'static str,
    requests: &'static [Ask],
}

const fn get(target: &'static str) -> Ask {
    Ask { method: "GET", target, headers: &[], body: "" }
}

const fn with(target: &'static str, headers: &'static [(&'static str, &'static str)]) -> Ask {
    Ask { method: "GET", target, headers, body: "" }
}

const fn post(target: &'static str, body: &'static str) -> Ask {
    Ask { method: "POST", target, headers: &[], body }
}

/// The password `myPassword`: Apache's documentation, "Password Formats".
const USERS: &str = "apr1:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/
sha:{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=
bcrypt:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC
";
const GZIP: &[(&str, &str)] = &[("Accept-Encoding", "gzip")];
const FROM_ALLOWED: &[(&str, &str)] = &[("X-Forwarded-For", "192.0.2.7")];
const FROM_DENIED: &[(&str, &str)] = &[("X-Forwarded-For", "192.0.2.130")];
const FROM_ELSEWHERE: &[(&str, &str)] = &[("X-Forwarded-For", "198.51.100.1")];

const CASES: &[Case] = &[
    Case {
        host: "moved.test",
        annotations: &[("permanent-redirect", "/moved?from=$arg_q")],
        path: "/",
        locations: "location / { return 301 /moved?from=$arg_q; }",
        requests: &[get("/"), get("/x?q=1&r=2"), post("/x", "body"), Ask { method: "HEAD", ..get("/x") }],
    },
    Case {
        host: "codes.test",
        annotations: &[
            ("permanent-redirect", "https://elsewhere.test$request_uri"),
            ("permanent-redirect-code", "308"),
        ],
        path: "/",
        locations: "location / { return 308 https://elsewhere.test$request_uri; }",
        requests: &[get("/"), get("/a/b/?c=d"), get("/a%2Fb")],
    },
    Case {
        host: "temporal.test",
        annotations: &[("temporal-redirect", "$scheme://$host/there")],
        path: "/",
        locations: "location / { return 302 $scheme://$host/there; }",
        requests: &[get("/"), get("/x")],
    },
    Case {
        host: "relative.test",
        annotations: &[("permanent-redirect", "/moved"), ("relative-redirects", "true")],
        path: "/",
        locations: "absolute_redirect off; location / { return 301 /moved; }",
        requests: &[get("/x")],
    },
    Case {
        host: "port.test",
        annotations: &[("permanent-redirect", "/moved"), ("use-port-in-redirects", "true")],
        path: "/",
        locations: "port_in_redirect on; location / { return 301 /moved; }",
        requests: &[get("/x"), Ask { method: "POST", ..get("/x") }],
    },
    Case {
        host: "slash.test",
        annotations: &[],
        path: "/dir/",
        locations: "location /dir/ { proxy_pass http://UPSTREAM; }",
        requests: &[get("/dir"), get("/dir?a=b"), get("/dir/"), get("/dir/x")],
    },
    Case {
        host: "rewrite.test",
        annotations: &[("rewrite-target", "/$2"), ("use-regex", "true")],
        path: "/foo(/|$)(.*)",
        locations: "location ~* \"^/foo(/|$)(.*)\" {
            rewrite \"(?i)/foo(/|$)(.*)\" /$2 break; proxy_pass http://UPSTREAM; }",
        requests: &[
            get("/foo"),
            get("/foo/"),
            get("/foo/bar/baz?a=b&c"),
            get("/FOO/Bar"),
            get("/foo/a%20b"),
            get("/foo/x?"),
            post("/foo/x", "body"),
        ],
    },
    Case {
        host: "vhost.test",
        annotations: &[("upstream-vhost", "inner.$host")],
        path: "/",
        locations: "location / { proxy_set_header Host inner.$host; proxy_pass http://UPSTREAM; }",
        requests: &[get("/x")],
    },
    Case {
        host: "basic.test",
        annotations: &[("auth-type", "basic"), ("auth-secret", "users"), ("auth-realm", "Members only")],
        path: "/",
        locations: "location / { auth_basic \"Members only\"; auth_basic_user_file DIRECTORY/users;
            proxy_set_header Authorization \"\"; proxy_set_header Host $http_host; proxy_pass http://UPSTREAM; }",
        requests: &[
            get("/"),
            with("/apr1", &[("Authorization", "Basic YXByMTpteVBhc3N3b3Jk")]),
            with("/sha", &[("Authorization", "Basic c2hhOm15UGFzc3dvcmQ=")]),
            with("/bcrypt", &[("Authorization", "Basic YmNyeXB0Om15UGFzc3dvcmQ=")]),
            with("/scheme", &[("Authorization", "basic YXByMTpteVBhc3N3b3Jk")]),
            with("/wrong", &[("Authorization", "Basic YXByMTpteXBhc3N3b3Jk")]),
            with("/nobody", &[("Authorization", "Basic bm9ib2R5Om15UGFzc3dvcmQ=")]),
            with("/no-colon", &[("Authorization", "Basic YXByMQ==")]),
            with("/no-base64", &[("Authorization", "Basic %%%")]),
            with("/bearer", &[("Authorization", "Bearer YXByMTpteVBhc3N3b3Jk")]),
        ],
    },
    Case {
        host: "allow.test",
        annotations: &[("allowlist-source-range", "192.0.2.0/24"), ("denylist-source-range", "192.0.2.128/25")],
        path: "/",
        locations: "location / { deny 192.0.2.128/25; allow 192.0.2.0/24; deny all; proxy_pass http://UPSTREAM; }",
        requests: &[with("/", FROM_ALLOWED), with("/", FROM_DENIED), with("/", FROM_ELSEWHERE)],
    },
    Case {
        host: "size.test",
        annotations: &[("proxy-body-size", "8")],
        path: "/",
        locations: "location / { client_max_body_size 8; proxy_pass http://UPSTREAM; }",
        requests: &[get("/"), post("/", "12345678"), post("/", "123456789")],
    },
    Case {
        host: "rate.test",
        annotations: &[("limit-rpm", "1"), ("limit-burst-multiplier", "3")],
        path: "/",
        locations: "location / { limit_req zone=minute burst=3 nodelay; proxy_pass http://UPSTREAM; }",
        // One, and the burst; a token comes back after a minute.
        requests: &[get("/1"), get("/2"), get("/3"), get("/4"), get("/5"), get("/6")],
    },
    Case {
        host: "errors.test",
        annotations: &[("custom-http-errors", "404"), ("default-backend", "pages")],
        path: "/",
        locations: "proxy_set_header Host $http_host;
            location / { proxy_intercept_errors on; error_page 404 = @custom; proxy_pass http://UPSTREAM; }
            location @custom { internal; proxy_intercept_errors off; proxy_set_header X-Code 404;
                proxy_set_header X-Format $http_accept; proxy_set_header X-Original-URI $request_uri;
                proxy_set_header X-Namespace default; proxy_set_header X-Ingress-Name errors;
                proxy_set_header X-Service-Name web; proxy_set_header X-Service-Port 80;
                proxy_set_header Host $http_host; rewrite (.*) / break; proxy_pass http://PAGES; }",
        requests: &[
            get("/x?status=200"),
            get("/x?status=404"),
            with("/x?status=404", &[("Accept", "text/html"), ("X-Code", "200"), ("X-Format", "forged")]),
            get("/x?status=500"),
        ],
    },
];

/// Headers of an answer that clients act upon.
const ANSWER_HEADERS: &[&str] =
    &["location", "www-authenticate", "content-encoding", "vary", "content-type", "retry-after"];
/// Headers of a request that the directives set or take away.
const REQUEST_HEADERS: &[&str] = &[
    "authorization",
    "content-length",
    "x-code",
    "x-format",
    "x-original-uri",
    "x-namespace",
    "x-ingress-name",
    "x-service-name",
    "x-service-port",
];

/// What of an answer has to be the same: the status, headers, and what the upstream got.
#[derive(Debug, PartialEq)]
struct Seen {
    status: u16,
    headers: Vec<Option<String>>,
    upstream: Option<[String; 5]>,
    request_headers: Vec<Option<String>>,
}

impl Seen {
    fn of(answer: &Answer, address: SocketAddr) -> Self {
        let headers = ANSWER_HEADERS.iter().map(|name| {
            let value = answer.header(name)?;
            // What stands in the body of an error is nobody's promise, and so is its type.
            let is_told = *name != "content-type" || answer.status == 200;
            is_told.then(|| value.replace(&address.port().to_string(), "PORT"))
        });
        let headers = headers.collect();
        let text = match answer.header("content-encoding") {
            Some("gzip") if !answer.body.is_empty() => {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*answer.body), &mut text).unwrap();
                text
            }
            _ => answer.text(),
        };
        let seen = serde_json::from_str::<tests::Seen>(&text).ok();
        let request_headers = seen.iter().flat_map(|seen| {
            REQUEST_HEADERS.iter().map(|name| seen.header(name).map(str::to_owned)).collect::<Vec<_>>()
        });
        let request_headers = request_headers.collect();
        let upstream = seen.map(|seen| [seen.upstream, seen.method, seen.target, seen.host, seen.body]);
        Self { status: answer.status.as_u16(), headers, upstream, request_headers }
    }
}

/// Asks on a connection of its own: what a server does with the connection after an error is its own business.
async fn ask(address: SocketAddr, host: &str, ask: &Ask) -> Seen {
    let mut client = Client::http1(address).await;
    let request = client.request(ask.method, host, ask.target, ask.headers, ask.body);
    Seen::of(&client.send(request).await, address)
}

#[tokio::test]
async fn an_annotation_does_what_its_directive_does_in_nginx() {
    let (web, pages) = (Upstream::echo("web").await, Upstream::echo("pages").await);
    let name = |host: &str| host.trim_end_matches(".test").to_owned();
    let mut manifests = vec![
        service("web", &[web.address()]),
        service("pages", &[pages.address()]),
        secret("users", &[("auth", USERS.as_bytes())]),
        settings(&[("use-forwarded-headers", "true")]),
    ];
    let mut servers = String::from(
        "limit_req_zone $binary_remote_addr zone=minute:1m rate=1r/m; limit_req_status 503;
         set_real_ip_from 0.0.0.0/0; real_ip_header X-Forwarded-For; real_ip_recursive on;
         port_in_redirect off; proxy_http_version 1.1;\n",
    );
    for Case { host, annotations, path, locations, requests: _ } in CASES {
        let text = ingress(&name(host), host, annotations, &[(path, "web")]);
        manifests.push(text.replace("pathType: Prefix", "pathType: ImplementationSpecific"));
        let locations = locations.replace("UPSTREAM", &web.address().to_string());
        let locations = locations.replace("PAGES", &pages.address().to_string());
        // What a location sets replaces what its server sets.
        let host_header = if locations.contains("Host") { "" } else { "proxy_set_header Host $http_host;" };
        servers.push_str(&format!("server {{ listen LISTEN; server_name {host}; {host_header} {locations} }}\n"));
    }
    let nginx = Nginx::start(&servers, &[("users", USERS)]).await;
    let manifests = Manifests::of(&manifests.concat());
    let gateway = Gateway::start(&manifests, &[SETTINGS]).await;
    let mut differences = Vec::new();
    for Case { host, requests, .. } in CASES {
        for request in *requests {
            let theirs = ask(nginx.address(), host, request).await;
            let ours = ask(gateway.addresses().http, host, request).await;
            if ours != theirs {
                let Ask { method, target, headers, .. } = request;
                differences.push(format!("{method} {host}{target} {headers:?}\n  nginx {theirs:?}\n  ours  {ours:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// nginx `$request_uri` and `$request` in a log line: what the client sent.
#[tokio::test]
async fn a_log_line_has_the_target_that_nginx_has() {
    let variables = "$request_uri|$request";
    let servers = format!("server {{ listen LISTEN; location / {{ return 200 \"<{variables}>\"; }} }}");
    let nginx = Nginx::start(&servers, &[]).await;
    let web = Upstream::echo("web").await;
    let format = format!("<{variables}>");
    let objects = [
        service("web", &[web.address()]),
        ingress("web", "a.test", &[], &[("/", "web")]),
        settings(&[("log-format-upstream", &format)]),
    ];
    let manifests = Manifests::of(&objects.concat());
    let gateway = Gateway::start(&manifests, &[SETTINGS]).await;
    for target in [
        "/plain?x=1",
        "/a/../b",
        "/a/./b?x=/../y",
        "/%41bc",
        "/a%2Fb",
        "/?to=http://other.test/",
        "http://a.test/absolute?x",
        "http://a.test/a/../%41",
        "http://a.test",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        let theirs = raw::exchange(nginx.address(), request.as_bytes(), wait::LIMIT).await.text();
        let (_, line) = theirs.split_once("\r\n\r\n").unwrap();
        raw::exchange(gateway.addresses().http, request.as_bytes(), wait::LIMIT).await;
        let is_logged = async || gateway.access_log().into_iter().find(|ours| ours == line);
        wait::until(&format!("{line} in:\n{}", gateway.access_log().join("\n")), is_logged).await;
    }
}

/// nginx `gzip`: which answers are compressed, for whom, and what caches are told of it.
#[tokio::test]
async fn answers_are_compressed_where_nginx_compresses_them() {
    let web = Upstream::with(|request| {
        Box::pin(async move {
            let (kind, text) = match request.uri().path() {
                "/short" => ("text/css", "a".repeat(255)),
                "/image" => ("image/png", "a".repeat(1000)),
                _ => ("text/css; charset=utf-8", "a".repeat(1000)),
            };
            let status = request.uri().query().unwrap_or("200");
            Response::builder().status(status).header("content-type", kind).body(full(text)).unwrap()
        })
    })
    .await;
    let server = format!(
        "gzip on; gzip_comp_level 1; gzip_http_version 1.1; gzip_min_length 256; gzip_types text/css; gzip_proxied any;
         gzip_vary on; server {{ listen LISTEN; location / {{ proxy_pass http://{}; }} }}",
        web.address()
    );
    let nginx = Nginx::start(&server, &[]).await;
    let manifests = [
        service("web", &[web.address()]),
        settings(&[("use-gzip", "true"), ("gzip-types", "text/css")]),
        ingress("a", "a.test", &[], &[("/", "web")]),
    ];
    let manifests = Manifests::of(&manifests.concat());
    let gateway = Gateway::start(&manifests, &[SETTINGS]).await;
    let requests = [
        get("/"),
        with("/", GZIP),
        with("/", &[("Accept-Encoding", "gzip;q=0.5, identity;q=0.1")]),
        with("/", &[("Accept-Encoding", "gzip;q=0")]),
        with("/", &[("Accept-Encoding", "compress")]),
        with("/short", GZIP),
        with("/image", GZIP),
        with("/?403", GZIP),
        with("/?404", GZIP),
        with("/?500", GZIP),
        Ask { method: "HEAD", ..with("/", GZIP) },
    ];
    for request in &requests {
        let theirs = ask(nginx.address(), "a.test", request).await;
        let ours = ask(gateway.addresses().http, "a.test", request).await;
        assert_eq!(ours, theirs, "{} {} {:?}", request.method, request.target, request.headers);
    }
}

/// nginx `mirror`: what the mirror gets, and that the client does not notice.
#[tokio::test]
async fn copies_are_what_nginx_makes_of_them() {
    let web = Upstream::echo("web").await;
    let (sender, mut copies) = tokio::sync::mpsc::unbounded_channel();
    let mirror = Upstream::with(move |request| {
        let sender = sender.clone();
        Box::pin(async move {
            let copy = tell("mirror".to_owned(), request).await.into_body().collect().await.unwrap().to_bytes();
            sender.send(serde_json::from_slice::<tests::Seen>(&copy).unwrap()).unwrap();
            Response::builder().status(500).body(full("")).unwrap()
        })
    })
    .await;
    let server = format!(
        "proxy_http_version 1.1; server {{ listen LISTEN;
         location / {{ mirror /mirror; mirror_request_body on; proxy_set_header Host $http_host; proxy_pass http://{}; }}
         location = /mirror {{ internal; proxy_set_header Host copies.test; proxy_pass http://{}/$request_uri; }} }}",
        web.address(),
        mirror.address()
    );
    let nginx = Nginx::start(&server, &[]).await;
    let annotations = [("mirror-target", "http://mirror.default.svc/$request_uri"), ("mirror-host", "copies.test")];
    let manifests = [
        service("web", &[web.address()]),
        service("mirror", &[mirror.address()]),
        ingress("a", "a.test", &annotations, &[("/", "web")]),
    ];
    let manifests = Manifests::of(&manifests.concat());
    let gateway = Gateway::start(&manifests, &[]).await;
    let requests = [
        get("/a/b?c=d"),
        post("/x", "a body"),
        with("/x", &[("Accept", "text/html"), ("Cookie", "a=b"), ("Authorization", "Bearer t")]),
        Ask { method: "HEAD", ..get("/x") },
        Ask { method: "PUT", ..post("/x?status=500", "a body") },
    ];
    for request in &requests {
        let mut seen = Vec::new();
        for address in [nginx.address(), gateway.addresses().http] {
            let answer = ask(address, "a.test", request).await;
            let copy = wait::until("a copy", async || copies.try_recv().ok()).await;
            let headers = ["content-length", "accept", "cookie", "authorization"];
            let headers = headers.map(|name| copy.header(name).map(str::to_owned));
            seen.push((answer, copy.method, copy.target, copy.host, copy.body, headers));
        }
        assert_eq!(seen[1], seen[0], "{} {}", request.method, request.target);
    }
}

/// nginx `limit_conn`: the request that is one too many is answered at once, and its place is free again afterwards.
#[tokio::test]
async fn one_connection_too_many_is_refused_as_nginx_refuses_it() {
    let gate = Arc::new(Semaphore::new(0));
    let opener = Arc::clone(&gate);
    let slow = Upstream::with(move |request| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            if request.uri().path() == "/slow" {
                gate.acquire().await.unwrap().forget();
            }
            Response::new(full("done"))
        })
    })
    .await;
    let server = format!(
        "limit_conn_zone $binary_remote_addr zone=clients:1m; server {{ listen LISTEN;
         location / {{ limit_conn clients 1; proxy_pass http://{}; }} }}",
        slow.address()
    );
    let nginx = Nginx::start(&server, &[]).await;
    let manifests =
        [service("slow", &[slow.address()]), ingress("a", "a.test", &[("limit-connections", "1")], &[("/", "slow")])];
    let manifests = Manifests::of(&manifests.concat());
    let gateway = Gateway::start(&manifests, &[]).await;
    for address in [nginx.address(), gateway.addresses().http] {
        let n_before = slow.n_requests();
        let first = tokio::spawn(async move { Client::http1(address).await.get("a.test", "/slow", &[]).await });
        wait::until("the first request is there", async || (slow.n_requests() > n_before).then_some(())).await;
        let mut second = Client::http1(address).await;
        assert_eq!(second.get("a.test", "/", &[]).await.status, 503, "{address}");
        opener.add_permits(1);
        assert_eq!(first.await.unwrap().status, 200, "{address}");
        // nginx counts a request until its connection is told.
        let is_free = async || (second.get("a.test", "/", &[]).await.status == 200).then_some(());
        wait::until("the place is free", is_free).await;
    }
}

/// nginx `proxy_next_upstream`: which failures another upstream makes good, and which reach the client.
#[tokio::test]
async fn the_next_upstream_is_tried_where_nginx_tries_it() {
    let (web, refusing) = (Upstream::echo("web").await, refusing_address().await);
    let rows: &[(&str, &str, &[SocketAddr], &[Ask])] = &[
        ("error.test", "error timeout", &[refusing, web.address()], &[get("/"), get("/"), post("/", "x")]),
        ("status.test", "error timeout", &[web.address()], &[get("/?status=503"), get("/?status=404")]),
        ("all.test", "http_503", &[web.address()], &[get("/?status=503")]),
        ("never.test", "off", &[web.address()], &[get("/?status=502"), get("/")]),
        ("none.test", "error timeout", &[refusing], &[get("/"), post("/", "x")]),
    ];
    let (mut manifests, mut servers) = (Vec::new(), String::from("proxy_http_version 1.1;\n"));
    for (host, conditions, upstreams, _) in rows {
        let name = host.trim_end_matches(".test");
        manifests.push(service(name, upstreams));
        manifests.push(ingress(name, host, &[("proxy-next-upstream", conditions)], &[("/", name)]));
        let list: String = upstreams.iter().map(|upstream| format!("server {upstream} max_fails=0; ")).collect();
        servers.push_str(&format!(
            "upstream {name} {{ {list} }} server {{ listen LISTEN; server_name {host};
             location / {{ proxy_next_upstream {conditions}; proxy_set_header Host $http_host;
             proxy_pass http://{name}; }} }}\n"
        ));
    }
    let nginx = Nginx::start(&servers, &[]).await;
    let manifests = Manifests::of(&manifests.concat());
    let gateway = Gateway::start(&manifests, &[]).await;
    for (host, conditions, _, requests) in rows {
        for request in *requests {
            let theirs = ask(nginx.address(), host, request).await;
            let ours = ask(gateway.addresses().http, host, request).await;
            assert_eq!(ours, theirs, "{} {host}{}, {conditions}", request.method, request.target);
        }
    }
}
