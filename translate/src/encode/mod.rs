//! From a typed resource back to an untyped object that is read as the same resource: the reverse of
//! [`decode`](crate::decode).
//!
//! An object says less here than what its author wrote, and means the same. It is how the last good version of an object
//! outlives the process, without anybody keeping what was written of all objects.

mod endpoints;
mod ingress;

use std::collections::BTreeMap;

use base64::Engine;
use k8s_openapi::jiff::Timestamp;
use routing::model::{PortRef, Transport};
use serde_json::{Map, Value, json};

pub(crate) use self::endpoints::{endpoint_slice, endpoints};
pub(crate) use self::ingress::ingress;
use crate::decode::DEFAULT_CLASS_ANNOTATION;
use crate::health;
use crate::resources::{
    ConfigMap, IngressClass, Meta, Namespace, Resource, Secret, Service, ServicePort, SliceAddress,
};

/// Writes an object. It holds what is secret in a Secret: it must not be printed.
#[must_use]
pub fn encode(resource: &Resource) -> Value {
    match resource {
        Resource::ConfigMap(object) => config_map(object),
        Resource::EndpointSlice(object) => endpoint_slice(object),
        Resource::Endpoints(object) => endpoints(object),
        Resource::Ingress(object) => ingress(object),
        Resource::IngressClass(object) => ingress_class(object),
        Resource::Namespace(object) => namespace(object),
        Resource::Secret(object) => secret(object),
        Resource::Service(object) => service(object),
    }
}

pub(crate) fn config_map(object: &ConfigMap) -> Value {
    let ConfigMap { meta, data } = object;
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata::<&str>(meta, []), "data": data})
}

pub(crate) fn ingress_class(object: &IngressClass) -> Value {
    let IngressClass { meta, controller, is_default } = object;
    let metadata = metadata(meta, is_default.then_some((DEFAULT_CLASS_ANNOTATION, "true".to_owned())));
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": metadata,
        "spec": {"controller": controller},
    })
}

fn namespace(object: &Namespace) -> Value {
    let Namespace { meta, labels } = object;
    let mut metadata = metadata::<&str>(meta, []);
    metadata["labels"] = json!(labels);
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
}

/// Every key of a Secret might be a user, which is why all of them are known; everything else is made of them.
pub(crate) fn secret(object: &Secret) -> Value {
    let Secret { meta, certificate: _, authority: _, users_file: _, users_map } = object;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let data: BTreeMap<_, _> =
        users_map.iter().map(|(key, value)| (String::from_utf8_lossy(key), encode(value))).collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata::<&str>(meta, []), "data": data})
}

pub(crate) fn service(object: &Service) -> Value {
    let Service { meta, ports, cluster_ip, health_check, external_name, external_ips } = object;
    let annotation = health_check.as_ref().map(|check| (health::ANNOTATION, health::write(check)));
    let ports: Vec<Value> = ports.iter().map(service_port).collect();
    let mut spec = json!({"ports": ports, "clusterIP": cluster_ip, "externalIPs": external_ips});
    if let Some(name) = external_name {
        spec["type"] = "ExternalName".into();
        spec["externalName"] = match name {
            SliceAddress::Ip(address) => address.to_string().into(),
            SliceAddress::Name(name) => (**name).into(),
        };
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(meta, annotation), "spec": spec})
}

fn service_port(object: &ServicePort) -> Value {
    let ServicePort { name, port, target, app_protocol, transport, node_port } = object;
    let target = target.as_ref().map(|target| match target {
        PortRef::Number(number) => json!(number),
        PortRef::Name(name) => json!(name),
        // No target port is one of these.
        PortRef::First | PortRef::Udp(_) => Value::Null,
    });
    let protocol = protocol(*transport);
    json!({
        "name": name,
        "port": port,
        "targetPort": target,
        "appProtocol": app_protocol,
        "protocol": protocol,
        "nodePort": node_port,
    })
}

fn protocol(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
    }
}

/// Metadata with these annotations.
fn metadata<K: Into<String>>(meta: &Meta, annotations: impl IntoIterator<Item = (K, String)>) -> Value {
    let Meta { namespace, name, uid, created } = meta;
    let annotations: Map<String, Value> =
        annotations.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    let created = created.and_then(|second| Timestamp::from_second(second).ok()).map(|time| time.to_string());
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "namespace": some(namespace), "name": name, "uid": some(uid), "creationTimestamp": created,
        "annotations": annotations,
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::{Config, Decoded, decode};

    #[track_caller]
    fn check(object: Value) {
        let config = Config { annotation_prefixes: vec!["penstock.dev".to_owned()], ..Config::default() };
        let read = |object: Value| match decode(object, &config) {
            Decoded::Resource(resource, _) => *resource,
            other => panic!("{other:?}"),
        };
        let resource = read(object);
        assert_eq!(read(encode(&resource)), resource);
    }

    fn object(api_version: &str, kind: &str, rest: Value) -> Value {
        let metadata = json!({
            "namespace": "shop", "name": "a", "uid": "u-1", "creationTimestamp": "2026-02-03T04:05:06Z",
            "labels": {"kubernetes.io/service-name": "web"},
        });
        let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata});
        for (key, value) in rest.as_object().unwrap() {
            match (key.as_str(), value.as_object()) {
                ("annotations", _) => object["metadata"]["annotations"] = value.clone(),
                _ => object[key] = value.clone(),
            }
        }
        object
    }

    #[test]
    fn a_service_is_read_as_it_was() {
        check(object(
            "v1",
            "Service",
            json!({
                "annotations": {"penstock.dev/health-check": "https:/well?x host=a.test interval=90s timeout=250ms rise=9"},
                "spec": {
                    "clusterIP": "10.0.0.1", "externalIPs": ["192.0.2.1", "2001:db8::1"],
                    "ports": [
                        {"name": "a", "port": 80, "targetPort": "http", "appProtocol": "kubernetes.io/h2c"},
                        {"name": "b", "port": 81, "targetPort": 8081}, {"name": "c", "port": 82},
                    ],
                },
            }),
        ));
        let by_name = json!({"spec": {"type": "ExternalName", "externalName": "Web.Example.", "clusterIP": "None"}});
        check(object("v1", "Service", by_name));
        for check_text in ["tcp", "grpc", "grpc:a.B fall=1", "http:/"] {
            check(object("v1", "Service", json!({"annotations": {"penstock.dev/health-check": check_text}})));
        }
    }

    #[test]
    fn endpoints_are_read_as_they_were() {
        let slice = |address_type: &str, addresses: [&str; 2]| {
            json!({
                "addressType": address_type,
                "ports": [{"name": "http", "port": 8080}, {"port": 9090}],
                "endpoints": [
                    {"addresses": [addresses[0]], "targetRef": {"uid": "pod"}},
                    {"addresses": [addresses[1]], "conditions": {"ready": false, "terminating": true}},
                    {"addresses": [addresses[0], addresses[1]], "conditions": {"ready": false}},
                ],
            })
        };
        let [v4, v6] = [["10.0.0.1", "10.0.0.2"], ["2001:db8::1", "2001:db8::2"]];
        for (address_type, addresses) in [("IPv4", v4), ("IPv6", v6), ("FQDN", ["a.test", "b.test"])] {
            check(object("discovery.k8s.io/v1", "EndpointSlice", slice(address_type, addresses)));
        }
        check(object("discovery.k8s.io/v1", "EndpointSlice", json!({"addressType": "IPv4", "endpoints": []})));
        let address = |ip: &str| json!({"ip": ip, "targetRef": {"uid": ip}});
        check(object(
            "v1",
            "Endpoints",
            json!({"subsets": [
                {"addresses": [address("10.0.0.1")], "notReadyAddresses": [address("10.0.0.2")], "ports": [{"port": 80}]},
                {"addresses": [address("2001:db8::1")], "ports": [{"name": "b", "port": 81}]},
            ]}),
        ));
    }

    #[test]
    fn what_has_no_meaning_of_its_own_is_read_as_it_was() {
        check(object("v1", "ConfigMap", json!({"data": {"a": "1", "b": "two\nlines"}})));
        check(object("v1", "Namespace", json!({})));
        check(object("networking.k8s.io/v1", "IngressClass", json!({"spec": {"controller": "penstock.dev/ingress"}})));
        let default = json!({"annotations": {DEFAULT_CLASS_ANNOTATION: "true"}, "spec": {"controller": "x"}});
        check(object("networking.k8s.io/v1", "IngressClass", default));
    }

    #[test]
    fn an_object_of_a_file_has_no_age_and_no_uid() {
        check(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}));
    }

    #[test]
    fn a_secret_is_read_as_it_was() {
        let names = vec!["a.test".to_owned(), "*.a.test".to_owned()];
        let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
        let (chain, key) = (cert.pem(), signing_key.serialize_pem());
        check(object("v1", "Secret", json!({"stringData": {"tls.crt": chain, "tls.key": key, "ca.crt": chain}})));
        let users = "# staff\nann:$apr1$x$y\r\n bob:{SHA}x:comment\n";
        check(object("v1", "Secret", json!({"stringData": {"auth": users, "carl": " {SHA}x \n", "empty": ""}})));
        let address: IpAddr = [192, 0, 2, 1].into();
        check(object("v1", "Secret", json!({"stringData": {"ca.crt": "none", "note": address.to_string()}})));
    }
}
