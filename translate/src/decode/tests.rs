use base64::Engine;
use serde_json::json;

use super::*;
use crate::resources::Kind;

fn config() -> Config {
    Config { ..Config::default() }
}

#[track_caller]
fn resource(value: Value) -> Resource {
    match decode(value, &config()) {
        Decoded::Resource(resource, problems) if problems.is_empty() => *resource,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(value: Value) -> Vec<(Reason, String)> {
    match decode(value, &config()) {
        Decoded::Refused(_, problems) => problems.into_iter().map(|problem| (problem.reason, problem.field)).collect(),
        other => panic!("{other:?}"),
    }
}

fn secret(data: Value, string_data: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": data, "stringData": string_data,
    })
}

fn pair(name: &str) -> (String, String) {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[track_caller]
fn names(value: Value) -> Vec<String> {
    let Resource::Secret(secret) = resource(value) else { panic!("not a Secret") };
    secret.certificate.unwrap().names.dns().iter().map(ToString::to_string).collect()
}

#[test]
fn a_secret_holds_a_certificate_in_data_or_string_data() {
    let (chain, key) = pair("a.example");
    let encoded = json!({"tls.crt": base64(&chain), "tls.key": base64(&key)});
    assert_eq!(names(secret(encoded.clone(), Value::Null)), ["a.example"]);
    assert_eq!(names(secret(Value::Null, json!({"tls.crt": chain, "tls.key": key}))), ["a.example"]);
    let (other_chain, other_key) = pair("b.example");
    let plain = json!({"tls.crt": other_chain, "tls.key": other_key});
    assert_eq!(names(secret(encoded, plain)), ["b.example"], "the API server lets stringData win");
}

#[test]
fn base64_may_be_folded() {
    let (chain, key) = pair("a.example");
    let fold = |text: &str| {
        let encoded = base64(text);
        encoded.as_bytes().chunks(64).map(|line| format!("  {}\n", String::from_utf8_lossy(line))).collect::<String>()
    };
    assert_eq!(names(secret(json!({"tls.crt": fold(&chain), "tls.key": fold(&key)}), Value::Null)), ["a.example"]);
}

#[test]
fn the_type_of_a_secret_does_not_matter() {
    for secret_type in ["Opaque", "kubernetes.io/tls", "example.com/own", ""] {
        let (chain, key) = pair("a.example");
        let mut value = secret(Value::Null, json!({"tls.crt": chain, "tls.key": key, "ca.crt": "x"}));
        value["type"] = secret_type.into();
        assert_eq!(names(value), ["a.example"]);
    }
    let Resource::Secret(without) = resource(secret(json!({"auth": "eDp5"}), Value::Null)) else { panic!() };
    assert!(without.certificate.is_none());
}

#[test]
fn a_bad_secret_names_its_key() {
    for (data, string_data, expected) in [
        (json!({"tls.crt": "base64 encoded cert"}), json!({}), (Reason::Malformed, "data.tls.crt")),
        (json!({"a": "eDp5", "b": "eDp5="}), json!({}), (Reason::Malformed, "data.b")),
        (json!({"a": 5}), json!({}), (Reason::Malformed, "data.a")),
        (json!({"a": null}), json!({}), (Reason::Malformed, "data.a")),
        (json!([]), json!({}), (Reason::Malformed, "data")),
        (json!({}), json!({"a": ["x"]}), (Reason::Malformed, "stringData.a")),
        (json!({}), json!("x"), (Reason::Malformed, "stringData")),
        (json!({"tls.crt": "eDp5"}), json!({}), (Reason::CertificateUnavailable, "data")),
        (json!({}), json!({"tls.key": "x"}), (Reason::CertificateUnavailable, "data")),
    ] {
        let problems = refused(secret(data.clone(), string_data));
        assert_eq!(problems, [(expected.0, expected.1.to_owned())], "{data}");
    }
}

#[test]
fn a_secret_never_shows_what_is_in_it() {
    let (chain, key) = pair("a.example");
    let shown = format!("{:?}", resource(secret(Value::Null, json!({"tls.crt": chain, "tls.key": key}))));
    assert!(!shown.contains("BEGIN") && shown.contains("\"s\""), "{shown}");
}

#[test]
fn a_port_is_from_1_to_65535() {
    let service = |port: Value, target: Value| {
        let spec = json!({"ports": [{"port": 80}, {"port": port, "targetPort": target}]});
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec})
    };
    for port in [1, 80, 65535] {
        resource(service(port.into(), port.into()));
        resource(service(port.into(), port.to_string().into()));
    }
    for port in [0, 65536, -1, i64::from(i32::MAX)] {
        let invalid = |field: &str| vec![(Reason::InvalidValue, field.to_owned())];
        assert_eq!(refused(service(port.into(), Value::Null)), invalid("spec.ports[1].port"), "{port}");
        assert_eq!(refused(service(80.into(), port.into())), invalid("spec.ports[1].targetPort"), "{port}");
        assert_eq!(refused(service(80.into(), port.to_string().into())), invalid("spec.ports[1].targetPort"), "{port}");
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": [],
            "metadata": {"name": "s", "labels": {"kubernetes.io/service-name": "s"}}, "ports": [{"port": port}],
        });
        assert_eq!(refused(slice), invalid("ports[0].port"), "{port}");
        let endpoints = json!({
            "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "s"},
            "subsets": [{"ports": [{"port": 80}, {"port": port}]}],
        });
        assert_eq!(refused(endpoints), invalid("subsets[0].ports[1].port"), "{port}");
    }
    for port in [json!("http"), json!(80.5), json!(i64::MAX), json!(true), json!({})] {
        assert_eq!(refused(service(port, Value::Null)), [(Reason::Malformed, "spec.ports[1].port".to_owned())]);
    }
}

#[test]
fn a_kind_is_ours_or_ignored_or_unknown() {
    let of = |api_version: &str, kind: &str| {
        decode(json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}}), &config())
    };
    for (api_version, kind) in [
        ("v1", "Pod"),
        ("v1", "NoSuchThing"),
        ("apps/v1", "Deployment"),
        ("batch/v1", "CronJob"),
        ("networking.k8s.io/v1", "NetworkPolicy"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute"),
        ("kustomize.config.k8s.io/v1beta1", "Kustomization"),
        ("apps/v1", "Ingress"),
    ] {
        assert!(matches!(of(api_version, kind), Decoded::Ignored), "{api_version} {kind}");
    }
    for (api_version, kind) in
        [("cert-manager.io/v1", "Certificate"), ("example.com/v1", "Ingress"), ("fake-k8s.io/v1", "X")]
    {
        assert!(
            matches!(of(api_version, kind), Decoded::Unknown { api_version: a, kind: k } if a == api_version && k == kind)
        );
    }
    for (api_version, kind) in [
        ("v2", "Service"),
        ("networking.k8s.io/v2", "Ingress"),
        ("extensions/v1", "Ingress"),
        ("networking.k8s.io/v1alpha1", "IngressClass"),
        ("discovery.k8s.io/v2", "EndpointSlice"),
    ] {
        let Decoded::Refused(Some(key), problems) = of(api_version, kind) else { panic!("{api_version} {kind}") };
        assert_eq!((key.kind.as_str(), &*key.name), (kind, "x"));
        assert_eq!((problems[0].reason, problems[0].field.as_str()), (Reason::Malformed, "apiVersion"));
    }
    assert!(matches!(decode(Value::Null, &config()), Decoded::Empty));
}

#[test]
fn a_list_gives_its_items_what_it_says_of_them() {
    let items = |value: Value| match decode(value, &config()) {
        Decoded::List(items) => items,
        other => panic!("{other:?}"),
    };
    let open = json!({"apiVersion": "v1", "kind": "List", "items": [{"kind": "Service"}, 7, null]});
    assert_eq!(items(open), [json!({"kind": "Service"}), json!(7), json!(null)]);
    let typed = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressList",
        "items": [{"metadata": {"name": "a"}}, {"kind": "IngressClass"}, 7],
    });
    assert_eq!(
        items(typed),
        [
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "a"}}),
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass"}),
            json!(7),
        ]
    );
    for nothing in
        [json!({"apiVersion": "v1", "kind": "List"}), json!({"apiVersion": "v1", "kind": "List", "items": null})]
    {
        assert_eq!(items(nothing), Vec::<Value>::new());
    }
    let problems = refused(json!({"apiVersion": "v1", "kind": "List", "items": {"a": "b"}}));
    assert_eq!(problems, [(Reason::Malformed, "items".to_owned())]);
    // A kind whose name happens to end in List.
    let own = json!({"apiVersion": "example.com/v1", "kind": "AllowList", "spec": {}});
    assert!(matches!(decode(own, &config()), Decoded::Unknown { .. }));
}

#[test]
fn an_object_without_a_namespace_is_in_default_and_one_of_the_cluster_in_none() {
    let meta = json!({"name": "x", "namespace": ""});
    let key = resource(json!({"apiVersion": "v1", "kind": "Service", "metadata": meta})).key();
    assert_eq!((key.kind, &*key.namespace), (Kind::Service, "default"));
    let meta = json!({"name": "x", "namespace": "ignored"});
    let key = resource(json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": meta})).key();
    assert_eq!((key.kind, &*key.namespace), (Kind::IngressClass, ""));
}

#[test]
fn a_refused_object_is_known_by_its_name_where_it_has_one() {
    for (meta, expected) in [
        (json!({"name": "x", "namespace": "team"}), Some("Service team/x")),
        (json!({"name": "x"}), Some("Service default/x")),
        (json!({"name": "x", "namespace": 5}), Some("Service default/x")),
        (json!({"name": ""}), None),
        (json!({"name": 5}), None),
        (json!([]), None),
    ] {
        let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": 5});
        let Decoded::Refused(key, _) = decode(value, &config()) else { panic!("{meta}") };
        assert_eq!(key.map(|key| key.to_string()).as_deref(), expected, "{meta}");
    }
}
