//! What can be seen of the gateway from outside: status and admin endpoints, metrics, the access log. And what must never
//! be seen there, or grow with what clients send.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::certificate::Certificate;
use tests::exposition::{Exposition, Sample};
use tests::gateway::Addresses;
use tests::manifests::{ingress, service, slice, tls};
use tests::upstream::refusing_address;
use tests::{Client, Gateway, Manifests, Upstream, raw, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Labels that every series has (ingress-nginx.md 1.5).
const CONTROLLER: [&str; 3] = ["controller_class", "controller_namespace", "controller_pod"];
/// Labels that the series of a request have besides.
const REQUEST: [&str; 8] = ["status", "method", "path", "namespace", "ingress", "service", "canary", "host"];

/// An upstream, and a gateway that leads `a.test/app` there.
async fn one_route() -> (Upstream, Manifests, Gateway) {
    let upstream = Upstream::echo("a").await;
    let manifests =
        Manifests::of(&[service("a", &[upstream.address()]), ingress("web", "a.test", &[], &[("/app", "a")])].concat());
    let gateway = Gateway::start(&manifests, &[]).await;
    (upstream, manifests, gateway)
}

async fn scrape(gateway: &Gateway) -> Exposition {
    let answer = gateway.status("/metrics").await;
    let content_type = answer.header("content-type").unwrap().to_owned();
    assert!(content_type.starts_with("text/plain; version=0.0.4"), "{content_type}");
    Exposition::parse(&answer.text())
}

fn label_names(sample: &Sample) -> BTreeSet<&str> {
    sample.labels.keys().map(String::as_str).collect()
}

fn expected_names<'a>(names: &[&'a str]) -> BTreeSet<&'a str> {
    CONTROLLER.iter().chain(names).copied().collect()
}

#[tokio::test]
async fn each_endpoint_answers_on_its_own_socket() {
    let (_upstream, _manifests, gateway) = one_route().await;
    gateway.get("http://a.test/app").await;
    for target in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(gateway.status(target).await.status, 200, "{target}");
        assert_eq!(gateway.admin(target).await.status, 200, "{target}");
    }
    let explain = "/explain?method=GET&url=http%3A%2F%2Fa.test%2Fapp%2Fx";
    for target in ["/nginx_status", "/snapshot", explain] {
        assert_eq!(gateway.status(target).await.status, 404, "the status endpoint is open to the network: {target}");
        assert_eq!(gateway.admin(target).await.status, 200, "{target}");
    }
    // The page of ngx_http_stub_status_module, which exporters parse.
    let page = gateway.admin("/nginx_status").await.text();
    let lines: Vec<&str> = page.lines().collect();
    assert!(lines[0].starts_with("Active connections: "), "{page}");
    assert_eq!(lines[1], "server accepts handled requests");
    let counts: Vec<u64> = lines[2].split_whitespace().map(|count| count.parse().unwrap()).collect();
    assert!(counts.len() == 3 && counts[0] >= 1 && counts[0] == counts[1] && counts[2] >= 1, "{page}");
    let words: Vec<&str> = lines[3].split_whitespace().step_by(2).collect();
    assert_eq!(words, ["Reading:", "Writing:", "Waiting:"]);
    let explained: serde_json::Value = serde_json::from_slice(&gateway.admin(explain).await.body).unwrap();
    assert!(explained.to_string().contains("web"), "the Ingress that takes it: {explained}");
    assert_eq!(gateway.admin("/explain?url=nonsense").await.status, 400);
}

#[tokio::test]
async fn the_snapshot_is_json_without_private_keys() {
    let certificate = Certificate::self_signed(&["a.test"]);
    let manifests = Manifests::of(&[ingress("web", "a.test", &[], &[("/", "a")]), tls(&["a.test"], "mine")].concat());
    manifests.write("secret.yaml", &certificate.secret("mine"));
    let gateway = Gateway::start(&manifests, &[]).await;
    let answer = gateway.admin("/snapshot").await;
    let model: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let text = model.to_string();
    assert!(text.contains("a.test") && text.contains("mine"), "{text}");
    assert!(!text.contains("PRIVATE KEY"), "{text}");
    for line in certificate.key.lines().filter(|line| !line.starts_with('-')) {
        assert!(!text.contains(line), "a line of the private key is in the snapshot");
    }
}

#[tokio::test]
async fn the_gateways_own_endpoints_are_never_a_backend() {
    let addresses = Addresses::reserve();
    let manifests = Manifests::new();
    for (name, own) in [("status", addresses.status), ("admin", addresses.admin)] {
        let service_text = service(name, &[]);
        let slice_text = slice(name, name, "http", own);
        let host = format!("{name}.test");
        manifests.write(
            &format!("{name}.yaml"),
            &[service_text, slice_text, ingress(name, &host, &[], &[("/", name)])].concat(),
        );
    }
    let gateway = Gateway::spawn(addresses, manifests.path(), &[]);
    let ready = async || (gateway.try_status("/readyz").await?.status == 200).then_some(());
    wait::until("it is ready", ready).await;
    for name in ["status", "admin"] {
        let answer = gateway.get(&format!("http://{name}.test/healthz")).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        gateway.wait_for_log(&["AddressRefused", &format!("{name}.yaml:")]).await;
    }
}

/// Cloud load balancers ask for `/healthz` by the address of the node.
#[tokio::test]
async fn healthz_is_answered_on_the_catch_all_host_unless_a_route_claims_it() {
    let (upstream, manifests, gateway) = one_route().await;
    for url in ["http://192.0.2.1/healthz", "https://unknown.test/healthz"] {
        let answer = gateway.get(url).await;
        assert_eq!((answer.status.as_u16(), answer.upstream().as_str()), (200, ""), "{url}");
    }
    assert_eq!(gateway.get("http://a.test/healthz").await.status, 404, "a host of a tenant is its own");
    assert_eq!(gateway.get("http://192.0.2.1/healthz/x").await.status, 404);
    let without_host = ingress("any", "", &[], &[("/healthz", "a")]).replace("- host: \n      http:", "- http:");
    manifests.write("any.yaml", &without_host);
    gateway.wait_for("http://192.0.2.1/healthz", |answer| answer.upstream() == "a").await;
    manifests.remove("any.yaml");
    gateway.wait_for("http://192.0.2.1/healthz", |answer| answer.upstream().is_empty() && answer.status == 200).await;
    drop(upstream);
}

#[tokio::test]
async fn requests_are_counted_under_the_names_and_labels_of_ingress_nginx() {
    let (_upstream, _manifests, gateway) = one_route().await;
    let mut client = Client::http1(gateway.addresses().http).await;
    for (method, target, times) in [("GET", "/app/x?y=1", 3), ("POST", "/app", 2), ("GET", "/app?status=404", 1)] {
        for _ in 0..times {
            let request = client.request(method, "a.test", target, &[], "");
            client.send(request).await;
        }
    }
    let of_request = expected_names(&REQUEST);
    // The last request is counted when its answer has been sent.
    let last = [("status", "404")];
    let counted = async || {
        let scrape = scrape(&gateway).await;
        (!scrape.find("nginx_ingress_controller_requests", &last).is_empty()).then_some(scrape)
    };
    let scrape = wait::until("all requests are counted", counted).await;
    let route = [("path", "/app"), ("host", "a.test"), ("namespace", "default"), ("ingress", "web"), ("service", "a")];
    for (method, status, count) in [("GET", "200", 3.0), ("POST", "200", 2.0), ("GET", "404", 1.0)] {
        let labels = [&route[..], &[("method", method), ("status", status), ("canary", "")]].concat();
        let requests = scrape.find("nginx_ingress_controller_requests", &labels);
        assert_eq!(requests.iter().map(|sample| sample.value).sum::<f64>(), count, "{method} {status}");
        assert_eq!(label_names(requests[0]), of_request);
        let times = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, f64::INFINITY];
        let lengths = &[10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0, f64::INFINITY];
        let sizes = &[10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7, f64::INFINITY];
        for (name, bounds) in [
            ("request_duration_seconds", &times[..]),
            ("response_duration_seconds", times),
            ("header_duration_seconds", times),
            ("connect_duration_seconds", times),
            ("request_size", lengths),
            ("response_size", lengths),
            ("bytes_sent", sizes),
        ] {
            let name = format!("nginx_ingress_controller_{name}");
            let buckets = scrape.buckets(&name, &labels);
            assert_eq!(buckets.iter().map(|(bound, _)| *bound).collect::<Vec<_>>(), bounds, "{name}");
            assert_eq!(scrape.find(&format!("{name}_count"), &labels)[0].value, count);
            // Connecting takes no time on a kept connection.
            let sum = scrape.find(&format!("{name}_sum"), &labels)[0];
            assert!(sum.value > 0.0 || name.contains("connect"), "{name}");
            assert_eq!(label_names(sum), of_request);
        }
    }
}

#[tokio::test]
async fn connections_and_the_process_are_seen() {
    let (_upstream, _manifests, gateway) = one_route().await;
    let mut kept = Client::http1(gateway.addresses().http).await;
    kept.get("a.test", "/app", &[]).await;
    let process = "nginx_ingress_controller_nginx_process_";
    let value = async |name: &str, labels: &[(&str, &str)]| {
        let scrape = scrape(&gateway).await;
        let samples = scrape.find(&format!("{process}{name}"), labels);
        assert_eq!(samples.len(), 1, "{name} {labels:?}");
        let names: Vec<&str> = labels.iter().map(|(name, _)| *name).collect();
        assert_eq!(label_names(samples[0]), expected_names(&names));
        samples[0].value
    };
    let waiting = async || (value("connections", &[("state", "waiting")]).await == 1.0).then_some(());
    wait::until("the kept connection waits", waiting).await;
    assert_eq!(value("connections", &[("state", "active")]).await, 1.0);
    for state in ["reading", "writing"] {
        assert_eq!(value("connections", &[("state", state)]).await, 0.0, "{state}");
    }
    for state in ["accepted", "handled"] {
        assert_eq!(value("connections_total", &[("state", state)]).await, 1.0, "{state}");
    }
    assert_eq!(value("requests_total", &[]).await, 1.0);
    assert_eq!(value("num_procs", &[]).await, 1.0);
    for name in ["cpu_seconds_total", "resident_memory_bytes", "virtual_memory_bytes", "oldest_start_time_seconds"] {
        assert!(value(name, &[]).await > 0.0, "{name}");
    }
    for name in ["read_bytes_total", "write_bytes_total"] {
        assert!(value(name, &[]).await >= 0.0, "{name}");
    }
    drop(kept);
    let none = async || (value("connections", &[("state", "active")]).await == 0.0).then_some(());
    wait::until("no connection is open", none).await;
}

#[tokio::test]
async fn certificates_and_configuration_are_seen() {
    let certificate = Certificate::self_signed(&["a.test"]);
    let manifests = Manifests::of(&[ingress("web", "a.test", &[], &[("/", "a")]), tls(&["a.test"], "mine")].concat());
    manifests.write("secret.yaml", &certificate.secret("mine"));
    let gateway = Gateway::start(&manifests, &[]).await;
    let scrape = scrape(&gateway).await;
    let of_certificate = ["namespace", "class", "host", "secret_name", "identifier"];
    let labels =
        [("host", "a.test"), ("namespace", "default"), ("secret_name", "mine"), ("class", "penstock.dev/ingress")];
    let expires = scrape.find("nginx_ingress_controller_ssl_expire_time_seconds", &labels);
    assert_eq!(expires.len(), 1);
    assert_eq!(label_names(expires[0]), expected_names(&of_certificate));
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.certificate.as_bytes()).unwrap();
    let parsed = pem.parse_x509().unwrap();
    assert_eq!(expires[0].value, parsed.validity().not_after.timestamp() as f64);
    let info = scrape.find("nginx_ingress_controller_ssl_certificate_info", &labels);
    let of_info = ["issuer_organization", "issuer_common_name", "serial_number", "public_key_algorithm"];
    assert_eq!(label_names(info[0]), expected_names(&[&of_certificate[..], &of_info].concat()));
    assert_eq!(info[0].labels["issuer_common_name"], "a.test");
    assert_eq!(info[0].value, 1.0);
    for name in [
        "nginx_ingress_controller_config_hash",
        "nginx_ingress_controller_config_last_reload_successful",
        "nginx_ingress_controller_config_last_reload_successful_timestamp_seconds",
        "nginx_ingress_controller_success",
        "nginx_ingress_controller_errors",
        "penstock_snapshot_generation",
        "penstock_recompiled_hosts_total",
        "penstock_stale_objects",
        "penstock_rejected_objects",
        "penstock_access_log_dropped_total",
    ] {
        let samples = scrape.find(name, &[]);
        assert_eq!(samples.len(), 1, "{name}");
        assert_eq!(label_names(samples[0]), expected_names(&[]), "{name}");
    }
    assert_eq!(scrape.find("penstock_propagation_seconds_count", &[]).len(), 1);
}

/// ingress-nginx: "1 indicates orphaned ingress", `type` is `no-service` or `no-endpoint`.
#[tokio::test]
async fn an_ingress_that_leads_nowhere_is_seen_for_as_long_as_it_does() {
    let upstream = Upstream::echo("a").await;
    let objects = [
        service("a", &[upstream.address()]),
        service("empty", &[]),
        ingress("good", "good.test", &[], &[("/", "a")]),
        ingress("empty", "empty.test", &[], &[("/", "empty")]),
        ingress("half", "half.test", &[], &[("/", "a"), ("/lost", "lost"), ("/empty", "empty")]),
    ];
    let manifests = Manifests::of(&objects.concat());
    let gateway = Gateway::start(&manifests, &[]).await;
    let orphans = async || {
        let scrape = scrape(&gateway).await;
        let samples = scrape.find("nginx_ingress_controller_orphan_ingress", &[]);
        let mut orphans = Vec::new();
        for sample in samples {
            assert_eq!(label_names(sample), expected_names(&["namespace", "ingress", "type"]));
            assert_eq!((sample.value, &*sample.labels["namespace"]), (1.0, "default"));
            orphans.push(format!("{} {}", sample.labels["ingress"], sample.labels["type"]));
        }
        orphans.sort();
        orphans
    };
    assert_eq!(orphans().await, ["empty no-endpoint", "half no-endpoint", "half no-service"]);
    manifests.write("lost.yaml", &service("lost", &[upstream.address()]));
    let is_found = async || (orphans().await == ["empty no-endpoint", "half no-endpoint"]).then_some(());
    wait::until("the Service is there", is_found).await;
    manifests.remove("lost.yaml");
    wait::until("the Service is gone", async || (orphans().await.len() == 3).then_some(())).await;
}

/// Requests on one connection, and the statuses of their answers, of which none has a body longer than its head says.
async fn pipeline(address: SocketAddr, requests: &[String]) -> usize {
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let text = requests.concat();
    let sending = tokio::spawn(async move { writer.write_all(text.as_bytes()).await.map(|()| writer) });
    let (mut n_answers, mut tail) = (0, Vec::new());
    let mut buffer = vec![0; 64 << 10];
    while n_answers < requests.len() {
        let n = tokio::time::timeout(wait::LIMIT, reader.read(&mut buffer)).await.unwrap().unwrap();
        assert_ne!(n, 0, "closed after {n_answers} answers");
        tail.extend_from_slice(&buffer[..n]);
        n_answers += tail.windows(9).filter(|window| window == b"HTTP/1.1 ").count();
        tail.drain(..tail.len().saturating_sub(8));
    }
    sending.await.unwrap().unwrap();
    n_answers
}

#[tokio::test]
async fn what_clients_send_makes_no_new_series() {
    let (_upstream, _manifests, gateway) = one_route().await;
    let http = gateway.addresses().http;
    let request = |number: usize| match number % 3 {
        0 => format!("GET /app/{number}?{number} HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        1 => format!("GET /x{number} HTTP/1.1\r\nHost: host-{number}.test\r\n\r\n"),
        _ => format!("M{number} /app HTTP/1.1\r\nHost: a.test\r\nUser-Agent: agent-{number}\r\n\r\n"),
    };
    let send = async |numbers: std::ops::Range<usize>| {
        let n_requests = numbers.len();
        let before = gateway.metric("nginx_ingress_controller_nginx_process_requests_total", &[]).await;
        for part in numbers.collect::<Vec<_>>().chunks(500) {
            pipeline(http, &part.iter().map(|number| request(*number)).collect::<Vec<_>>()).await;
        }
        let counted = async || {
            let now = gateway.metric("nginx_ingress_controller_nginx_process_requests_total", &[]).await;
            (now >= before + n_requests as f64).then_some(())
        };
        wait::until("all of them are counted", counted).await;
    };
    let series = async || scrape(&gateway).await.n_series();
    send(0..30).await;
    let before = series().await;
    send(30..6000).await;
    assert_eq!(series().await, before);
    let text = gateway.status("/metrics").await.text();
    assert!(text.contains("method=\"OTHER\"") && !text.contains("method=\"M2"), "{text}");
    assert!(!text.contains("host-"), "an unknown host became a label");
}

/// A text line of the access log, taken apart.
struct Line(Vec<String>);

impl Line {
    /// Fields are separated by spaces; those in quotes and brackets hold spaces.
    fn parse(line: &str) -> Self {
        let mut fields = Vec::new();
        let mut rest = line;
        while !rest.is_empty() {
            let end = match rest.as_bytes()[0] {
                b'"' => rest[1..].find('"').unwrap() + 2,
                b'[' => rest.find(']').unwrap() + 1,
                _ => rest.find(' ').unwrap_or(rest.len()),
            };
            fields.push(rest[..end].to_owned());
            rest = rest[end..].strip_prefix(' ').unwrap_or_default();
        }
        Self(fields)
    }
}

/// A request whose length is known to the byte.
const KNOWN: &str = "POST /app/x?y=1 HTTP/1.1\r\nHost: a.test\r\nReferer: http://from.test/\r\nUser-Agent: agent/1 (x)\r\n\
                     X-Request-ID: 0123456789abcdef0123456789abcdef\r\nContent-Length: 4\r\n\r\nbody";

#[tokio::test]
async fn a_text_line_is_ingress_nginxs_field_by_field() {
    let (upstream, _manifests, gateway) = one_route().await;
    let answer = raw::exchange(gateway.addresses().http, KNOWN.as_bytes(), Duration::from_millis(200)).await.text();
    let body_length = answer.split_once("\r\n\r\n").unwrap().1.len().to_string();
    let line = gateway.wait_for_access_log(&["/app/x?y=1"]).await;
    let Line(fields) = Line::parse(&line);
    // ingress-nginx.md 1.3: $remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent
    // "$http_referer" "$http_user_agent" $request_length $request_time [$proxy_upstream_name]
    // [$proxy_alternative_upstream_name] $upstream_addr $upstream_response_length $upstream_response_time
    // $upstream_status $req_id
    let (length, address) = (KNOWN.len().to_string(), upstream.address().to_string());
    let expected = [
        "127.0.0.1",
        "-",
        "-",
        "[time]",
        "\"POST /app/x?y=1 HTTP/1.1\"",
        "200",
        &body_length,
        "\"http://from.test/\"",
        "\"agent/1 (x)\"",
        &length,
        "seconds",
        "[default-a-80]",
        "[]",
        &address,
        &body_length,
        "seconds",
        "200",
        "0123456789abcdef0123456789abcdef",
    ];
    assert_eq!(fields.len(), expected.len(), "{line}");
    for (number, (field, expected)) in fields.iter().zip(expected).enumerate() {
        match expected {
            "seconds" => {
                let (whole, decimals) = field.split_once('.').unwrap();
                assert!(whole.parse::<u32>().is_ok() && decimals.len() == 3, "field {number} of {line}");
            }
            // $time_local: 21/Nov/2026:08:10:14 +0000
            "[time]" => {
                assert!(field.len() == 28 && field.as_bytes()[3] == b'/' && field.ends_with(" +0000]"), "{line}")
            }
            expected => assert_eq!(field, expected, "field {number} of {line}"),
        }
    }
    gateway.get("http://unknown.test/nowhere").await;
    let line = gateway.wait_for_access_log(&["/nowhere"]).await;
    let Line(fields) = Line::parse(&line);
    assert_eq!(fields[11..17], ["[-]", "[]", "-", "-", "-", "-"], "{line}");
    assert!(line.ends_with(" reason=host_not_found"), "{line}");
}

#[tokio::test]
async fn a_json_line_has_the_same_fields() {
    let upstream = Upstream::echo("a").await;
    let manifests =
        Manifests::of(&[service("a", &[upstream.address()]), ingress("web", "a.test", &[], &[("/app", "a")])].concat());
    let gateway = Gateway::start(&manifests, &["--access-log=json"]).await;
    let answer = raw::exchange(gateway.addresses().http, KNOWN.as_bytes(), Duration::from_millis(200)).await.text();
    let body_length = answer.split_once("\r\n\r\n").unwrap().1.len();
    let line = gateway.wait_for_access_log(&["/app/x?y=1"]).await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let expected = serde_json::json!({
        "remote_addr": "127.0.0.1", "remote_user": "", "method": "POST", "host": "a.test", "target": "/app/x?y=1",
        "protocol": "HTTP/1.1", "status": 200, "body_bytes_sent": body_length, "http_referer": "http://from.test/",
        "http_user_agent": "agent/1 (x)", "request_length": KNOWN.len(), "namespace": "default", "ingress": "web",
        "request_id": "0123456789abcdef0123456789abcdef", "reason": "",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(line.get(name), Some(value), "{name} of {line}");
    }
    assert!(line["time"].is_u64() && line["request_time"].is_f64(), "{line}");
    let of_upstream = &line["upstream"];
    assert_eq!(of_upstream["service"], "a");
    assert_eq!(of_upstream["address"], upstream.address().to_string());
    assert_eq!((&of_upstream["status"], &of_upstream["response_length"]), (&200.into(), &body_length.into()));
    assert!(of_upstream["response_time"].is_f64(), "{line}");
}

#[tokio::test]
async fn a_client_writes_nothing_into_the_log_but_its_own_field() {
    let (_upstream, _manifests, gateway) = one_route().await;
    let long = "a".repeat(8000);
    let agents: [&[u8]; 4] = [b"\"quoted\" \\ back", b"caf\xc3\xa9 \xff", b"tab\there", long.as_bytes()];
    for (number, agent) in agents.iter().enumerate() {
        let mut request = format!(
            "GET /app/{number} HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer hunter2\r\n\
                                   Cookie: session=hunter2\r\nConnection: close\r\nUser-Agent: "
        )
        .into_bytes();
        request.extend_from_slice(agent);
        request.extend_from_slice(b"\r\n\r\n");
        let answer = raw::exchange(gateway.addresses().http, &request, Duration::from_secs(1)).await;
        assert_eq!(answer.status(), 200, "{number}");
        let line = gateway.wait_for_access_log(&[&format!("GET /app/{number} ")]).await;
        let Line(fields) = Line::parse(&line);
        assert_eq!(fields.len(), 18, "{line}");
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line}");
        assert!(line.len() < 8500, "a line stays a line");
    }
    let quoted = gateway.wait_for_access_log(&["GET /app/0 "]).await;
    assert!(quoted.contains(r#""\x22quoted\x22 \x5C back""#), "{quoted}");
    let bytes = gateway.wait_for_access_log(&["GET /app/1 "]).await;
    assert!(bytes.contains(r#""caf\xC3\xA9 \x"#), "{bytes}");
    assert!(!gateway.access_log().concat().contains("hunter2"), "a secret is in the access log");
    assert!(!gateway.log().contains("hunter2"), "a secret is in the log");
}

#[tokio::test]
async fn a_standard_output_that_is_closed_stops_nothing() {
    let upstream = Upstream::echo("a").await;
    let manifests =
        Manifests::of(&[service("a", &[upstream.address()]), ingress("web", "a.test", &[], &[("/app", "a")])].concat());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let gateway = Gateway::spawn_with_output(Stdio::from(writer), Addresses::reserve(), manifests.path(), &[]);
    let works = async || {
        gateway.try_status("/readyz").await.filter(|answer| answer.status == 200)?;
        (gateway.get("http://a.test/app").await.status == 200).then_some(())
    };
    wait::until("it serves", works).await;
    let dropped = async || (gateway.metric("penstock_access_log_dropped_total", &[]).await >= 1.0).then_some(());
    wait::until("the lost line is counted", dropped).await;
    works().await.unwrap();
}

/// As many requests as the queue of the log has room for, and some more: the log must be full before it can lose a line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standard_output_that_nobody_reads_costs_lines_and_no_traffic() {
    let manifests = Manifests::new();
    let (_unread, writer) = std::io::pipe().unwrap();
    let gateway = Gateway::spawn_with_output(Stdio::from(writer), Addresses::reserve(), manifests.path(), &[]);
    let ready = async || (gateway.try_status("/readyz").await?.status == 200).then_some(());
    wait::until("it is ready", ready).await;
    // Long lines fill it sooner.
    let request = format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", "a".repeat(3000));
    let requests = vec![request; 1000];
    let dropped = async || gateway.metric("penstock_access_log_dropped_total", &[]).await;
    let mut n_sent = 0;
    while dropped().await == 0.0 {
        assert!(n_sent < 80_000, "the queue has no bound");
        n_sent += pipeline(gateway.addresses().http, &requests).await;
    }
    assert_eq!(gateway.get("http://192.0.2.1/healthz").await.status, 200);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait_for_exit().await.code(), Some(0), "a log that nobody reads keeps nobody from leaving");
}

/// X-08: every bad request is counted, and the log holds a few lines a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_bad_requests_does_not_flood_the_log() {
    const N_REQUESTS: usize = 1500;
    let (_upstream, _manifests, gateway) = one_route().await;
    let bad: [&[u8]; 3] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a.test\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ];
    let n_before = gateway.log().lines().count();
    let began = Instant::now();
    for number in 0..N_REQUESTS {
        let answer = raw::exchange(gateway.addresses().http, bad[number % 3], Duration::from_secs(5)).await;
        assert!(answer.is_closed && matches!(answer.status(), 0 | 400), "{answer:?}");
    }
    let reason = ["reason=\"request_malformed\""];
    let counted = async || {
        let n_counted = gateway.metric("penstock_gateway_answers_total", &reason).await;
        (n_counted >= N_REQUESTS as f64).then_some(())
    };
    wait::until("all of them are counted", counted).await;
    let n_lines = gateway.log().lines().count() - n_before;
    let n_seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
    assert!(n_lines <= 60 * n_seconds && n_lines < N_REQUESTS / 2, "{n_lines} lines in {n_seconds} s");
    assert_eq!(gateway.get("http://a.test/app").await.status, 200);
}

#[tokio::test]
async fn every_answer_of_the_gateway_itself_has_its_reason() {
    let breaking = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = breaking.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = breaking.accept().await.unwrap();
            let mut head = [0; 1024];
            // It hangs up in place of an answer.
            let _ = stream.read(&mut head).await;
        }
    });
    let mut text = String::new();
    for (name, endpoints) in
        [("refusing", vec![refusing_address().await]), ("breaking", vec![address]), ("empty", Vec::new())]
    {
        text.write_str(&service(name, &endpoints)).unwrap();
        text.write_str(&ingress(name, &format!("{name}.test"), &[], &[("/app", name)])).unwrap();
    }
    text.write_str(&ingress("missing", "missing.test", &[], &[("/app", "missing")])).unwrap();
    text.write_str(&ingress("denied", "denied.test", &[("enable-modsecurity", "true")], &[("/app", "empty")])).unwrap();
    let manifests = Manifests::of(&text);
    let gateway = Gateway::start(&manifests, &[]).await;
    for (method, host, path, status, reason) in [
        ("GET", "unknown.test", "/0", 404, "host_not_found"),
        ("GET", "empty.test", "/1", 404, "route_not_found"),
        ("GET", "empty.test", "/app/2", 503, "no_endpoints"),
        ("GET", "missing.test", "/app/3", 503, "no_endpoints"),
        ("GET", "denied.test", "/app/4", 503, "denied"),
        ("GET", "refusing.test", "/app/5", 502, "connect_failed"),
        ("GET", "breaking.test", "/app/6", 502, "upstream_broken"),
        ("GET", "a/b", "/app/7", 400, "request_malformed"),
        ("TRACE", "empty.test", "/app/8", 405, "method_not_allowed"),
    ] {
        let label = format!("reason=\"{reason}\"");
        let count = async || gateway.metric("penstock_gateway_answers_total", &[&label]).await;
        let before = count().await;
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = raw::exchange(gateway.addresses().http, request.as_bytes(), Duration::from_secs(5)).await;
        assert_eq!(answer.status(), status, "{path}");
        let line = gateway.wait_for_access_log(&[&format!("\"{method} {path} HTTP/1.1\" {status} ")]).await;
        assert!(line.ends_with(&format!(" reason={reason}")), "{line}");
        wait::until("it is counted", async || (count().await == before + 1.0).then_some(())).await;
    }
}
