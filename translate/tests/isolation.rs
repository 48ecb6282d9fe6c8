//! One bad object never changes another's answer: objects of one tenant are broken at random, and the routes of all the
//! others stay what they were.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use fastrand::Rng;
use http::{HeaderMap, Method};
use routing::model::{Host, HostKey, ListenerKey, Protocol};
use routing::{ConnectionView, LiveRouting, Publisher, RequestView, Scheme, decide};
use serde_json::{Value, json};
use translate::ingress::annotations::ANNOTATIONS;
use translate::{Change, Config, Decoded, ListenerConfig, Source, Translator, decode};

const N_MUTATIONS: usize = 100_000;
const N_TENANTS: usize = 6;
/// Texts that mean something somewhere, but not to another tenant's host.
const WORDS: &[&str] = &[
    "",
    " ",
    "/",
    "//",
    "/..",
    "/%2e%2e/",
    "*",
    "*.test",
    "true",
    "on",
    "0",
    "-1",
    "65536",
    "1e9",
    "999999999999999999999",
    "^/(.*)$",
    "(",
    "((a+)+)$",
    "$1",
    "$host",
    "${",
    "$(",
    ";",
    "{",
    "}",
    "\"",
    "'",
    "#",
    "../",
    "/a;}server{return 200;}#",
    "\u{0}",
    "\n",
    "\r\nX: 1",
    "é",
    "10.0.0.0/8",
    "::/0",
    "::1",
    "127.0.0.1",
    "169.254.169.254",
    "localhost",
    "http://[::1]:10254/",
    "HTTPS",
    "GRPC",
    "always",
    "any",
    "basic",
    "auth-file",
    "Exact",
    "Prefix",
    "ImplementationSpecific",
    "IPv6",
    "FQDN",
    "v1",
    "nginx",
    "2001-01-01T00:00:00Z",
    "kube-system/x",
];

/// A cluster of tenants, each with a namespace, a host and a few objects.
struct Cluster {
    translator: Translator,
    publisher: Publisher,
    live: Arc<LiveRouting>,
    objects: Vec<Vec<Value>>,
}

impl Cluster {
    fn new() -> Self {
        let listener = |port, protocol| ListenerConfig { key: ListenerKey::tcp(([0; 4], port).into()), protocol };
        let config = Config {
            listeners: vec![listener(80, Protocol::Http), listener(443, Protocol::Tls)],
            source: Source::Cluster,
            class: translate::ClassConfig { without_class: true, ..translate::ClassConfig::default() },
            ..Config::default()
        };
        let live = Arc::new(LiveRouting::new());
        let publisher = Publisher::new(Arc::clone(&live));
        let objects: Vec<Vec<Value>> = (0..N_TENANTS).map(tenant).collect();
        let mut cluster = Self { translator: Translator::new(config), publisher, live, objects: objects.clone() };
        for object in objects.into_iter().flatten() {
            assert!(cluster.write(object.clone()), "{object} is good to begin with");
        }
        cluster
    }

    /// Whether the object was taken.
    fn write(&mut self, object: Value) -> bool {
        let change = match decode(object, self.translator.config()) {
            Decoded::Resource(resource, warnings) => Change::Apply(resource, warnings),
            Decoded::Refused(Some(key), problems) => Change::Refuse(key, problems),
            // It is nobody's, or nothing that anyone asked for.
            _ => return false,
        };
        let is_taken = matches!(change, Change::Apply(..));
        let update = self.translator.apply([change]);
        self.publisher.publish(&update.delta);
        is_taken
    }

    /// All that is known about a tenant's host, as one comes to it.
    fn host(&self, tenant: usize) -> Vec<(HostKey, Arc<Host>)> {
        let name = format!("t{tenant}.test");
        let hosts = self.publisher.model().hosts.iter();
        hosts
            .filter(|(key, _)| key.host.to_string() == name)
            .map(|(key, host)| (key.clone(), Arc::clone(host)))
            .collect()
    }

    /// What is decided about a few requests for a tenant's host.
    fn answers(&self, tenant: usize) -> String {
        let snapshot = self.live.pin();
        let (host, headers) = (format!("t{tenant}.test"), HeaderMap::new());
        let mut answers = String::new();
        for (port, scheme) in [(80, Scheme::Http), (443, Scheme::Https)] {
            let listener = ListenerKey::tcp(([0; 4], port).into());
            for path in ["/", "/api/x", "/exact", "/nowhere/at/all"] {
                let request = RequestView {
                    method: &Method::GET,
                    authority: &host,
                    path,
                    query: "q=1",
                    received: None,
                    headers: &headers,
                    entropy: 0,
                };
                let connection = ConnectionView {
                    listener: &listener,
                    scheme,
                    client: [192, 0, 2, 1].into(),
                    server_name: (port == 443).then_some(host.as_str()),
                };
                answers += &format!("{:?}\n", decide(&snapshot, &request, &connection));
            }
        }
        answers
    }
}

fn tenant(number: usize) -> Vec<Value> {
    let namespace = format!("ns{number}");
    let meta = |name: &str| json!({"name": name, "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"});
    let annotations = [
        json!({"nginx.ingress.kubernetes.io/rewrite-target": "/$1", "nginx.ingress.kubernetes.io/use-regex": "true"}),
        json!({"nginx.ingress.kubernetes.io/whitelist-source-range": "192.0.2.0/24"}),
        json!({"nginx.ingress.kubernetes.io/affinity": "cookie"}),
        json!({"nginx.ingress.kubernetes.io/limit-rps": "5", "nginx.ingress.kubernetes.io/enable-cors": "true"}),
    ];
    let path = |path: &str, kind: &str| json!({"path": path, "pathType": kind, "backend": {"service": {"name": "web", "port": {"number": 80}}}});
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed([format!("t{number}.test")]).unwrap();
    let mut ingress_meta = meta("web");
    ingress_meta["annotations"] = annotations[number % annotations.len()].clone();
    vec![
        json!({"apiVersion": "v1", "kind": "Service", "metadata": meta("web"),
            "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "web-1", "namespace": namespace, "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": [format!("10.0.{number}.1")], "conditions": {"ready": true}}]}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta("tls"),
            "stringData": {"tls.crt": cert.pem(), "tls.key": signing_key.serialize_pem()}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": ingress_meta, "spec": {
            "tls": [{"hosts": [format!("t{number}.test")], "secretName": "tls"}],
            "rules": [{"host": format!("t{number}.test"), "http": {"paths": [
                path("/", "Prefix"), path("/api", "Prefix"), path("/exact", "Exact"), path("/x/y", "ImplementationSpecific"),
            ]}}],
        }}),
    ]
}

/// Breaks an object, a little or a lot. Who it is stays: an object under another name is another object.
fn mutate(object: &mut Value, random: &mut Rng) {
    for _ in 0..=random.u8(..2) {
        let pointers = places(object, String::new());
        let pointers: Vec<&String> = pointers.iter().filter(|place| !is_identity(place)).collect();
        if pointers.is_empty() {
            return;
        }
        let place = pick(&pointers, random).to_string();
        let annotation = pick(ANNOTATIONS, random).name;
        let word = pick(WORDS, random).to_string();
        match random.u8(..6) {
            0 => {
                let (parent, name) = place.rsplit_once('/').unwrap_or(("", ""));
                match object.pointer_mut(parent) {
                    Some(Value::Object(fields)) => drop(fields.remove(name)),
                    Some(Value::Array(items)) => drop(name.parse().ok().map(|index: usize| items.remove(index))),
                    _ => {}
                }
            }
            1 => {
                if let Some(Value::Array(items)) = object.pointer_mut(&place) {
                    items.extend(items.clone());
                }
            }
            2 => {
                if let Some(Value::Object(meta)) = object.get_mut("metadata") {
                    let annotations = meta.entry("annotations").or_insert_with(|| json!({}));
                    if let Some(annotations) = annotations.as_object_mut() {
                        annotations.insert(format!("nginx.ingress.kubernetes.io/{annotation}"), word.into());
                    }
                }
            }
            3 => replace(object, &place, json!(random.i32(..))),
            4 => replace(
                object,
                &place,
                pick(&[json!(null), json!([]), json!({}), json!([[[]]]), json!(true)], random).clone(),
            ),
            _ => replace(object, &place, word.into()),
        }
    }
}

fn replace(object: &mut Value, place: &str, value: Value) {
    if let Some(target) = object.pointer_mut(place) {
        *target = value;
    }
}

fn is_identity(place: &str) -> bool {
    ["", "/apiVersion", "/kind", "/metadata", "/metadata/name", "/metadata/namespace"].contains(&place)
}

/// JSON pointers (RFC 6901) to everything in a value; keys with a slash are left out.
fn places(value: &Value, at: String) -> Vec<String> {
    let children: Vec<String> = match value {
        Value::Object(fields) => {
            let plain = fields.iter().filter(|(name, _)| !name.contains(['/', '~']));
            plain.flat_map(|(name, child)| places(child, format!("{at}/{name}"))).collect()
        }
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(index, child)| places(child, format!("{at}/{index}"))).collect()
        }
        _ => Vec::new(),
    };
    std::iter::once(at).chain(children).collect()
}

fn pick<'a, T>(all: &'a [T], random: &mut Rng) -> &'a T {
    &all[random.usize(..all.len())]
}

#[test]
fn a_broken_object_changes_nobody_elses_answer() {
    let mut cluster = Cluster::new();
    let hosts: Vec<_> = (0..N_TENANTS).map(|tenant| cluster.host(tenant)).collect();
    let answers: Vec<_> = (0..N_TENANTS).map(|tenant| cluster.answers(tenant)).collect();
    assert!(hosts.iter().all(|keys| keys.len() == 2), "each host is on both listeners");
    let mut random = Rng::with_seed(20_261_121);
    let (mut n_refused, mut n_changed) = (0, 0);
    for number in 0..N_MUTATIONS {
        let victim = random.usize(..N_TENANTS);
        let good = pick(&cluster.objects[victim], &mut random).clone();
        let mut bad = good.clone();
        mutate(&mut bad, &mut random);
        n_refused += usize::from(!cluster.write(bad.clone()));
        n_changed += usize::from(cluster.host(victim) != hosts[victim]);
        for other in (0..N_TENANTS).filter(|other| *other != victim) {
            assert_eq!(cluster.host(other), hosts[other], "mutation {number}, host of tenant {other}: {bad}");
        }
        // One of the others is asked, which one changes from time to time: asking all of them takes all the time.
        let other = (victim + 1 + number % (N_TENANTS - 1)) % N_TENANTS;
        assert_eq!(cluster.answers(other), answers[other], "mutation {number}, tenant {other}: {bad}");
        assert!(cluster.write(good), "mutation {number}: {bad}");
        assert_eq!(cluster.host(victim), hosts[victim], "the good version is back after mutation {number}: {bad}");
    }
    // The mutations are worth something: many are refused, and many are taken and seen.
    assert!(n_refused > N_MUTATIONS / 20 && n_changed > N_MUTATIONS / 50, "{n_refused} refused, {n_changed} changed");
}
