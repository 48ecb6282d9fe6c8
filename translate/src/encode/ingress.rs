//! Ingresses.

use routing::model::PortRef;
use serde_json::{Value, json};

use super::metadata;
use crate::ingress::annotations::CLASS;
use crate::ingress::{Ingress, IngressBackend, IngressPath, IngressRule, IngressTls, PathKind};

pub(crate) fn ingress(object: &Ingress) -> Value {
    let Ingress { meta, class_annotation, class_name, default_backend, rules, tls, annotations } = object;
    let written = annotations.written.iter().map(|(key, value)| (&**key, value.to_string()));
    let class = class_annotation.iter().map(|class| (CLASS, class.to_string()));
    let rules: Vec<Value> = rules.iter().map(rule).collect();
    let tls: Vec<Value> = tls.iter().map(tls_entry).collect();
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata(meta, written.chain(class)),
        "spec": {
            "ingressClassName": class_name, "defaultBackend": default_backend.as_ref().map(backend),
            "rules": rules, "tls": tls,
        },
    })
}

fn rule(rule: &IngressRule) -> Value {
    let IngressRule { host, paths } = rule;
    let paths: Vec<Value> = paths.iter().map(path).collect();
    json!({"host": host.to_string(), "http": {"paths": paths}})
}

fn path(object: &IngressPath) -> Value {
    let IngressPath { path, form: _, kind, backend: target } = object;
    let kind = match kind {
        PathKind::Exact => "Exact",
        PathKind::Prefix => "Prefix",
        PathKind::ImplementationSpecific => "ImplementationSpecific",
    };
    json!({"path": path, "pathType": kind, "backend": target.as_ref().map_or_else(|| json!({}), backend)})
}

fn backend(backend: &IngressBackend) -> Value {
    let IngressBackend { service, port } = backend;
    let port = match port {
        PortRef::Number(number) => json!({"number": number}),
        PortRef::Name(name) => json!({"name": name}),
        // No Ingress can name one of these.
        PortRef::First | PortRef::Udp(_) => json!({}),
    };
    json!({"service": {"name": service, "port": port}})
}

fn tls_entry(tls: &IngressTls) -> Value {
    let IngressTls { hosts, secret } = tls;
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    json!({"hosts": hosts, "secretName": secret})
}
