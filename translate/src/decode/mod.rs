//! From an untyped object, as a file holds it, to a typed resource.

mod endpoints;
mod secret;
mod service;

use std::fmt;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1 as networking;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use self::endpoints::SERVICE_NAME_LABEL;
use crate::config::Config;
use crate::ingress::{Ingress, version};
use crate::problem::{Problem, Reason};
use crate::resources::{ConfigMap, IngressClass, Kind, Meta, Namespace, ObjectKey, Resource};
use routing::model::Transport;

/// The annotation that makes an IngressClass the default.
pub(crate) const DEFAULT_CLASS_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

/// What an object turned out to be.
#[derive(Debug)]
pub enum Decoded {
    /// One of ours. The problems are warnings.
    Resource(Box<Resource>, Vec<Problem>),
    /// One of ours that cannot be used. Its last good version stays.
    Refused(Option<ObjectKey>, Vec<Problem>),
    /// A list of objects.
    List(Vec<Value>),
    /// A kind of Kubernetes that is none of our business.
    Ignored,
    /// A kind that nobody knows here.
    Unknown {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
    },
    /// An empty document.
    Empty,
}

/// A typed resource with warnings, or the reasons why there is none.
type Parsed = Result<(Resource, Vec<Problem>), Vec<Problem>>;

/// Reads one object.
#[must_use]
pub fn decode(mut value: Value, config: &Config) -> Decoded {
    if value.is_null() {
        return Decoded::Empty;
    }
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if kind.is_empty() || api_version.is_empty() {
        let field = if kind.is_empty() { "kind" } else { "apiVersion" };
        let problem = Problem::error(Reason::Malformed, field, format_args!("{field} is missing"));
        return Decoded::Refused(None, vec![problem]);
    }
    if kind == "List" || (kind.ends_with("List") && value.get("items").is_some()) {
        return list(value, &api_version, &kind);
    }
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let Some(kind) = known_kind(group, &kind) else {
        return if is_kubernetes_group(group) { Decoded::Ignored } else { Decoded::Unknown { api_version, kind } };
    };
    let key = key_of(&value, kind);
    let mut warnings = Vec::new();
    if let Some(problem) = misplaced_version(kind, &api_version) {
        return Decoded::Refused(key, vec![problem]);
    }
    match kind {
        Kind::Ingress => version::upgrade(&mut value, &mut warnings),
        // The fields that are read are the same in both versions.
        Kind::IngressClass => version::rename(&mut value, "networking.k8s.io/v1", &mut warnings),
        Kind::EndpointSlice => version::rename(&mut value, "discovery.k8s.io/v1", &mut warnings),
        _ => {}
    }
    let parsed = match kind {
        Kind::ConfigMap => typed(value).map(config_map),
        Kind::EndpointSlice => typed(value).and_then(endpoints::endpoint_slice),
        Kind::Endpoints => typed(value).and_then(endpoints::endpoints),
        Kind::Ingress => typed::<networking::Ingress>(value).and_then(|object| {
            Ingress::parse(&object, config).map(|(ingress, problems)| (Resource::Ingress(ingress), problems))
        }),
        Kind::IngressClass => typed(value).map(ingress_class),
        Kind::Namespace => typed(value).map(namespace),
        Kind::Secret => secret::secret(&value),
        Kind::Service => typed(value).and_then(service::service),
    };
    match parsed {
        Ok((resource, _)) if resource.key().name.is_empty() => {
            Decoded::Refused(None, vec![Problem::error(Reason::Malformed, "metadata.name", "name is missing")])
        }
        Ok((resource, problems)) => {
            warnings.extend(problems);
            Decoded::Resource(Box::new(resource), warnings)
        }
        Err(mut problems) => {
            problems.extend(warnings);
            Decoded::Refused(key, problems)
        }
    }
}

fn list(mut value: Value, api_version: &str, kind: &str) -> Decoded {
    let mut items = match value.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        Some(Value::Null) | None => Vec::new(),
        Some(_) => {
            let problem = Problem::error(Reason::Malformed, "items", "items is not a list");
            return Decoded::Refused(None, vec![problem]);
        }
    };
    // The items of a typed list may leave out what the list says: IngressList holds Ingresses.
    if let Some(item_kind) = kind.strip_suffix("List").filter(|item_kind| !item_kind.is_empty()) {
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            item.entry("apiVersion").or_insert_with(|| api_version.into());
            item.entry("kind").or_insert_with(|| item_kind.into());
        }
    }
    Decoded::List(items)
}

fn known_kind(group: &str, kind: &str) -> Option<Kind> {
    Some(match (group, kind) {
        ("", "ConfigMap") => Kind::ConfigMap,
        ("", "Endpoints") => Kind::Endpoints,
        ("", "Namespace") => Kind::Namespace,
        ("", "Secret") => Kind::Secret,
        ("", "Service") => Kind::Service,
        ("discovery.k8s.io", "EndpointSlice") => Kind::EndpointSlice,
        ("networking.k8s.io" | "extensions", "Ingress") => Kind::Ingress,
        ("networking.k8s.io", "IngressClass") => Kind::IngressClass,
        _ => return None,
    })
}

/// The groups of Kubernetes itself: Deployments, Pods and the like lie beside Ingresses in everybody's manifests.
fn is_kubernetes_group(group: &str) -> bool {
    matches!(group, "" | "apps" | "batch" | "autoscaling" | "policy" | "extensions" | "kustomize.config.k8s.io")
        || group.ends_with(".k8s.io")
}

fn misplaced_version(kind: Kind, api_version: &str) -> Option<Problem> {
    let known: &[&str] = match kind {
        Kind::Ingress => &["networking.k8s.io/v1", "networking.k8s.io/v1beta1", "extensions/v1beta1"],
        Kind::IngressClass => &["networking.k8s.io/v1", "networking.k8s.io/v1beta1"],
        Kind::EndpointSlice => &["discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"],
        _ => &["v1"],
    };
    (!known.contains(&api_version)).then(|| {
        let message = format_args!("{kind} is read as {}, not as {api_version:?}", known.join(", ")).to_string();
        Problem::error(Reason::Malformed, "apiVersion", message)
    })
}

fn key_of(value: &Value, kind: Kind) -> Option<ObjectKey> {
    let meta = value.get("metadata")?;
    let text = |field: &str| meta.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let is_namespaced = !matches!(kind, Kind::IngressClass | Kind::Namespace);
    let namespace = if is_namespaced { text("namespace").unwrap_or("default") } else { "" };
    Some(ObjectKey { kind, namespace: namespace.into(), name: text("name")?.into() })
}

/// Reads the shape of a kind; the problem names the field that does not fit.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Vec<Problem>> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let field = error.path().to_string();
        vec![Problem::error(Reason::Malformed, if field == "." { String::new() } else { field }, error.inner())]
    })
}

// === kinds ===

fn config_map(object: core::ConfigMap) -> (Resource, Vec<Problem>) {
    let core::ConfigMap { binary_data: _, data, immutable: _, metadata } = object;
    let map = ConfigMap { meta: Meta::new(&metadata, true), data: data.unwrap_or_default() };
    (Resource::ConfigMap(map), Vec::new())
}

fn namespace(object: core::Namespace) -> (Resource, Vec<Problem>) {
    let core::Namespace { metadata, spec: _, status: _ } = object;
    let meta = Meta::new(&metadata, false);
    (Resource::Namespace(Namespace { meta, labels: metadata.labels.unwrap_or_default() }), Vec::new())
}

fn ingress_class(object: networking::IngressClass) -> (Resource, Vec<Problem>) {
    let networking::IngressClass { metadata, spec } = object;
    let annotations = metadata.annotations.as_ref();
    let is_default = annotations.and_then(|all| all.get(DEFAULT_CLASS_ANNOTATION)).is_some_and(|value| value == "true");
    let controller = spec.and_then(|spec| spec.controller).unwrap_or_default().into();
    (Resource::IngressClass(IngressClass { meta: Meta::new(&metadata, false), controller, is_default }), Vec::new())
}

/// The transport of a port, TCP where none is named; `None` for one that is not served.
fn transport(protocol: Option<&str>) -> Option<Transport> {
    match protocol {
        None | Some("TCP") => Some(Transport::Tcp),
        Some("UDP") => Some(Transport::Udp),
        Some(_) => None,
    }
}

fn port_number(number: i32, field: fmt::Arguments<'_>) -> Result<u16, Problem> {
    u16::try_from(number).ok().filter(|port| *port > 0).ok_or_else(|| {
        Problem::error(Reason::InvalidValue, field.to_string(), format_args!("port {number} is not from 1 to 65535"))
    })
}

#[cfg(test)]
mod tests;
