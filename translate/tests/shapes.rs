//! Objects of any shape: nothing panics, and nobody else notices.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use routing::Model;
use routing::model::{ListenerKey, Protocol};
use serde_json::{Map, Value, json};
use translate::{Change, Config, Decoded, ListenerConfig, Translator, decode, encode};

/// How many heaps of objects are thrown at the translator.
const N_HEAPS: u32 = 1000;

fn config() -> Config {
    let listener = |port, protocol| ListenerConfig { key: ListenerKey::tcp(([0; 4], port).into()), protocol };
    Config {
        listeners: vec![listener(80, Protocol::Http), listener(443, Protocol::Tls)],
        configmap: Some(("default".to_owned(), "settings".to_owned())),
        default_certificate: Some(("default".to_owned(), "secret".to_owned())),
        ..Config::default()
    }
}

/// One good object of each kind.
fn templates() -> Vec<Value> {
    let meta = |name: &str| {
        json!({
            "name": name, "namespace": "default", "uid": "u", "creationTimestamp": "2020-01-01T00:00:00Z",
            "labels": {"kubernetes.io/service-name": "web"},
            "annotations": {
                "nginx.ingress.kubernetes.io/rewrite-target": "/$1", "nginx.ingress.kubernetes.io/use-regex": "true",
                "nginx.ingress.kubernetes.io/server-alias": "x.example", "kubernetes.io/ingress.class": "nginx",
            },
        })
    };
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let old_backend = json!({"serviceName": "web", "servicePort": "http"});
    let paths = json!([{"path": "/a", "pathType": "Prefix", "backend": backend}]);
    let old_paths = json!([{"path": "/a", "backend": old_backend}]);
    let tls = json!([{"hosts": ["a.example"], "secretName": "secret"}]);
    vec![
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta("web"),
            "spec": {
                "ingressClassName": "nginx", "defaultBackend": backend, "tls": tls,
                "rules": [{"host": "a.example", "http": {"paths": paths}}, {"http": {"paths": paths}}],
            },
        }),
        json!({
            "apiVersion": "extensions/v1beta1", "kind": "Ingress", "metadata": meta("old"),
            "spec": {"backend": old_backend, "rules": [{"host": "a.example", "http": {"paths": old_paths}}]},
        }),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": meta("nginx"),
            "spec": {"controller": "penstock.dev/ingress"},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": meta("web"),
            "spec": {
                "type": "ExternalName", "externalName": "api.example.com", "externalIPs": ["192.0.2.1"],
                "ports": [{"port": 80, "name": "http", "targetPort": "http", "appProtocol": "h2c", "protocol": "TCP"}],
            },
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": meta("web-1"),
            "addressType": "IPv4", "ports": [{"port": 8080, "name": "http"}],
            "endpoints": [{
                "addresses": ["10.0.0.1"], "targetRef": {"uid": "p"},
                "conditions": {"ready": false, "serving": true, "terminating": true},
            }],
        }),
        json!({
            "apiVersion": "v1", "kind": "Endpoints", "metadata": meta("web"),
            "subsets": [{
                "addresses": [{"ip": "10.0.0.1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 8080}],
            }],
        }),
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": meta("secret"), "data": {"tls.crt": "eDp5"},
            "stringData": {"tls.key": "x"},
        }),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("settings"),
            "data": {"keep-alive": "5", "proxy-real-ip-cidr": "10.0.0.0/8"},
        }),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": meta("team")}),
        json!({"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Service"}]}),
    ]
}

/// A leaf that somebody might write.
fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(vec![0, 1, 80, 65535, 65536, -1]).prop_map(Value::from),
        select(vec![
            "",
            " ",
            "/",
            "//",
            "..",
            "*",
            "*.",
            ".",
            "a.example",
            "*.example",
            "$",
            "${",
            "/$1",
            "/(",
            "[",
            "\0",
            "\n",
            "\u{fc}",
            "true",
            "80",
            "127.0.0.1",
            "::1",
            "0x7f.1",
            "IPv4",
            "IPv6",
            "FQDN",
            "Exact",
            "Prefix",
            "web",
            "default",
            "2020-01-01T00:00:00Z",
            "Ingress",
            "v1",
        ])
        .prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        // Longer than any name, and deeper than any object.
        Just(Value::from("a".repeat(10_000))),
        (1..400_usize).prop_map(|depth| (0..depth).fold(Value::Null, |inner, _| json!([inner]))),
        (1..400_usize).prop_map(|depth| (0..depth).fold(Value::Null, |inner, _| json!({"spec": inner}))),
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    let key = select(vec![
        "apiVersion",
        "kind",
        "metadata",
        "spec",
        "rules",
        "host",
        "http",
        "paths",
        "path",
        "backend",
        "service",
        "port",
        "name",
        "number",
        "tls",
        "hosts",
        "secretName",
        "ports",
        "endpoints",
        "addresses",
        "data",
        "items",
        "",
    ]);
    leaf().prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..4)
                .prop_map(|entries| entries
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect::<Map<_, _>>())
                .prop_map(Value::from),
        ]
    })
}

/// A good object in which some places hold something else, or nothing.
fn bent() -> impl Strategy<Value = Value> {
    let bends = prop::collection::vec((any::<Index>(), prop::option::weighted(0.8, tree())), 0..4);
    (select(templates()), bends).prop_map(|(mut object, bends)| {
        for (place, with) in bends {
            let at = place.index(count(&object));
            bend(&mut object, &mut { at }, &with);
        }
        object
    })
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Object(entries) => entries.values().map(count).sum(),
        Value::Array(items) => items.iter().map(count).sum(),
        _ => 0,
    }
}

/// Replaces the place with this number, or removes it from its map. Returns whether it is this one that is to go.
fn bend(value: &mut Value, at: &mut usize, with: &Option<Value>) -> bool {
    if *at == 0 {
        *at = usize::MAX;
        let Some(with) = with else { return true };
        *value = with.clone();
        return false;
    }
    *at -= 1;
    match value {
        Value::Object(entries) => {
            let mut gone = None;
            for (key, value) in entries.iter_mut() {
                if *at != usize::MAX && bend(value, at, with) {
                    gone = Some(key.clone());
                }
            }
            gone.and_then(|key| entries.remove(&key));
        }
        Value::Array(items) => {
            let mut gone = None;
            for (index, value) in items.iter_mut().enumerate() {
                if *at != usize::MAX && bend(value, at, with) {
                    gone = Some(index);
                }
            }
            gone.map(|index| items.remove(index));
        }
        _ => {}
    }
    false
}

fn changes(value: Value, config: &Config) -> Vec<Change> {
    match decode(value, config) {
        Decoded::Resource(resource, warnings) => vec![Change::Apply(resource, warnings)],
        Decoded::Refused(Some(key), problems) => vec![Change::Refuse(key, problems)],
        Decoded::List(items) => items.into_iter().flat_map(|item| changes(item, config)).collect(),
        Decoded::Refused(None, _) | Decoded::Ignored | Decoded::Unknown { .. } | Decoded::Empty => Vec::new(),
    }
}

/// Objects that nobody else speaks of.
fn bystanders() -> Vec<Value> {
    let meta = |name: &str| json!({"namespace": "bystander", "name": name});
    let backend = json!({"service": {"name": "calm", "port": {"number": 80}}});
    vec![
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta("calm"),
            "spec": {"rules": [{"host": "calm.test", "http": {"paths": [
                {"path": "/x", "pathType": "Exact", "backend": backend},
            ]}}]},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": meta("calm"),
            "spec": {"ports": [{"port": 80, "targetPort": 8080}]},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "namespace": "bystander", "name": "calm", "labels": {"kubernetes.io/service-name": "calm"},
            },
            "ports": [{"port": 8080}], "endpoints": [{"addresses": ["10.9.9.9"]}],
        }),
    ]
}

/// The part of the model that the bystanders are in.
fn calm(model: &Model) -> (Vec<Arc<routing::model::Host>>, Vec<Arc<routing::model::BackendModel>>) {
    let hosts = model.hosts.iter().filter(|(key, _)| key.host.to_string() == "calm.test");
    let backends = model.backends.iter().filter(|(key, _)| *key.namespace == *"bystander");
    (hosts.map(|(_, host)| Arc::clone(host)).collect(), backends.map(|(_, backend)| Arc::clone(backend)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: N_HEAPS, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn objects_of_any_shape_are_written_as_they_were_read(object in bent()) {
        let config = config();
        for change in changes(object, &config) {
            let Change::Apply(resource, _) = change else { continue };
            let written = encode(&resource);
            match decode(written.clone(), &config) {
                Decoded::Resource(again, _) => prop_assert_eq!(again, resource, "{}", written),
                other => prop_assert!(false, "{}: {:?}", written, other),
            }
        }
    }

    #[test]
    fn objects_of_any_shape_harm_nobody(heap in prop::collection::vec(prop_oneof![4 => bent(), 1 => tree()], 1..8)) {
        let config = config();
        let mut translator = Translator::new(config.clone());
        let mut model = Model::default();
        let own: Vec<Change> = bystanders().into_iter().flat_map(|value| changes(value, &config)).collect();
        let keys: Vec<_> = own
            .iter()
            .map(|change| if let Change::Apply(resource, _) = change { resource.key() } else { panic!("{change:?}") })
            .collect();
        model.apply(&translator.apply(own).delta);
        let before = calm(&model);
        prop_assert_eq!((before.0.len(), before.1.len()), (2, 1));
        let thrown: Vec<Change> = heap.into_iter().flat_map(|value| changes(value, &config)).collect();
        let removals: Vec<Change> = thrown
            .iter()
            .map(|change| match change {
                Change::Apply(resource, _) | Change::Recall(resource) => Change::Remove(resource.key()),
                Change::Refuse(key, _) | Change::Remove(key) => Change::Remove(key.clone()),
            })
            .collect();
        for batch in [thrown, removals] {
            model.apply(&translator.apply(batch).delta);
            prop_assert_eq!(&calm(&model), &before);
            for key in &keys {
                prop_assert_eq!(translator.problems(key), []);
            }
        }
        prop_assert_eq!(translator.n_refused(), (0, 0));
    }
}
