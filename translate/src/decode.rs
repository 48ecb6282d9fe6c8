//! From an untyped object, as a file holds it, to a typed resource.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use routing::Certificate;
use routing::model::{EndpointCondition, PortRef};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::Config;
use crate::ingress::{Ingress, version};
use crate::problem::{Problem, Reason};
use crate::resources::{
    ConfigMap, EndpointPort, EndpointSlice, IngressClass, Kind, Meta, Namespace, ObjectKey, Resource, Secret, Service,
    ServicePort, SliceAddress, SliceEndpoint, Subset,
};

/// The label that names the Service of an EndpointSlice.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// The annotation that makes an IngressClass the default.
const DEFAULT_CLASS_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

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
    if kind == Kind::Ingress {
        version::upgrade(&mut value, &mut warnings);
    }
    let parsed = match kind {
        Kind::ConfigMap => typed(value).map(config_map),
        Kind::EndpointSlice => typed(value).and_then(endpoint_slice),
        Kind::Endpoints => typed(value).and_then(endpoints),
        Kind::Ingress => typed::<networking::Ingress>(value).and_then(|object| {
            Ingress::parse(&object, config).map(|(ingress, problems)| (Resource::Ingress(ingress), problems))
        }),
        Kind::IngressClass => typed(value).map(ingress_class),
        Kind::Namespace => typed(value).map(namespace),
        Kind::Secret => secret(&value),
        Kind::Service => typed(value).and_then(service),
    };
    match parsed {
        Ok((resource, _)) if resource.key().name.is_empty() => {
            Decoded::Refused(None, vec![Problem::error(Reason::Malformed, "metadata.name", "name is missing")])
        }
        Ok((resource, problems)) => {
            warnings.extend(problems);
            Decoded::Resource(Box::new(resource), warnings)
        }
        Err(problems) => Decoded::Refused(key, problems),
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

/// A Secret is read by hand, so that a value that is not base64 is named by its key.
fn secret(value: &Value) -> Parsed {
    let metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta =
        typed(value.get("metadata").cloned().unwrap_or_default())?;
    let mut keys: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for (field, is_encoded) in [("data", true), ("stringData", false)] {
        let entries = value.get(field).and_then(Value::as_object);
        for (key, text) in entries.into_iter().flatten() {
            let refuse = |message: String| vec![Problem::error(Reason::Malformed, format!("{field}.{key}"), message)];
            let text = text.as_str().ok_or_else(|| refuse("value is not a text".to_owned()))?;
            let bytes = if is_encoded {
                // Files fold long base64 over several lines.
                let compact: String = text.split_ascii_whitespace().collect();
                let decoded = base64::engine::general_purpose::STANDARD.decode(compact);
                decoded.map_err(|error| refuse(format!("value is not base64: {error}")))?
            } else {
                text.as_bytes().to_vec()
            };
            keys.insert(key, bytes);
        }
    }
    let part = |key: &str| keys.get(key).map(Vec::as_slice).unwrap_or_default();
    let has_pair = keys.contains_key("tls.crt") || keys.contains_key("tls.key");
    let certificate = has_pair
        .then(|| Certificate::from_pem(part("tls.crt"), part("tls.key")).map(Arc::new))
        .transpose()
        .map_err(|error| vec![Problem::error(Reason::CertificateUnavailable, "data", error)])?;
    Ok((Resource::Secret(Secret { meta: Meta::new(&metadata, true), certificate }), Vec::new()))
}

fn service(object: core::Service) -> Parsed {
    let core::Service { metadata, spec, status: _ } = object;
    let spec = spec.unwrap_or_default();
    let mut problems = Vec::new();
    let mut ports = Vec::new();
    for (index, port) in spec.ports.unwrap_or_default().into_iter().enumerate() {
        let core::ServicePort { app_protocol, name, node_port: _, port, protocol, target_port } = port;
        if protocol.is_some_and(|protocol| protocol != "TCP") {
            continue;
        }
        let number = port_number(port, format_args!("spec.ports[{index}].port")).map_err(|problem| vec![problem])?;
        let target = target_port.map(|target| port_ref(target, format_args!("spec.ports[{index}].targetPort")));
        ports.push(ServicePort {
            name: name.unwrap_or_default().into(),
            port: number,
            target: target.transpose().map_err(|problem| vec![problem])?,
            app_protocol: app_protocol.map(Into::into),
        });
    }
    let is_external_name = spec.type_.as_deref() == Some("ExternalName");
    let external_ips = spec.external_ips.unwrap_or_default();
    let external_ips = external_ips.iter().enumerate().filter_map(|(index, text)| match text.parse() {
        Ok(address) => Some(address),
        Err(_) => {
            let message = format_args!("{text:?} is not an IP address").to_string();
            problems.push(Problem::warning(Reason::InvalidValue, format!("spec.externalIPs[{index}]"), message));
            None
        }
    });
    let external_ips = external_ips.collect();
    let service = Service {
        meta: Meta::new(&metadata, true),
        ports: ports.into(),
        external_name: spec.external_name.filter(|_| is_external_name).map(Into::into),
        external_ips,
    };
    Ok((Resource::Service(service), problems))
}

fn endpoint_slice(object: discovery::EndpointSlice) -> Parsed {
    let discovery::EndpointSlice { address_type, endpoints, metadata, ports } = object;
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME_LABEL));
    let Some(service) = label.filter(|name| !name.is_empty()) else {
        let field = "metadata.labels";
        let message = format_args!("label {SERVICE_NAME_LABEL} must name the Service of the slice").to_string();
        return Err(vec![Problem::error(Reason::Malformed, field, message)]);
    };
    let mut problems = Vec::new();
    let mut found = Vec::new();
    for (index, endpoint) in endpoints.into_iter().enumerate() {
        let discovery::Endpoint {
            addresses,
            conditions,
            deprecated_topology: _,
            hints: _,
            hostname: _,
            node_name: _,
            target_ref,
            zone: _,
        } = endpoint;
        // "Consumers must handle different types of addresses": only the first address is meaningful since 1.33, older
        // slices may list several.
        for (place, text) in addresses.into_iter().enumerate() {
            let field = format!("endpoints[{index}].addresses[{place}]");
            match slice_address(&address_type, &text) {
                Some(address) => found.push(SliceEndpoint {
                    address,
                    condition: condition(conditions.as_ref()),
                    pod_uid: target_ref.as_ref().and_then(|target| target.uid.as_deref()).unwrap_or_default().into(),
                }),
                None => problems.push(Problem::warning(
                    Reason::InvalidValue,
                    field,
                    format_args!("{text:?} is not an address of type {address_type}"),
                )),
            }
        }
    }
    let ports = ports.unwrap_or_default().into_iter().enumerate().filter_map(|(index, port)| {
        let discovery::EndpointPort { app_protocol: _, name, port, protocol } = port;
        // No port means every port; a Service never has such a slice.
        let port = port.filter(|_| protocol.is_none_or(|protocol| protocol == "TCP"))?;
        let number = port_number(port, format_args!("ports[{index}].port"));
        Some(number.map(|port| EndpointPort { name: name.unwrap_or_default().into(), port }))
    });
    let ports = ports.collect::<Result<_, _>>().map_err(|problem| vec![problem])?;
    let slice = EndpointSlice {
        service: service.as_str().into(),
        meta: Meta::new(&metadata, true),
        subsets: Box::new([Subset { ports, endpoints: found.into() }]),
    };
    Ok((Resource::EndpointSlice(slice), problems))
}

fn endpoints(object: core::Endpoints) -> Parsed {
    let core::Endpoints { metadata, subsets } = object;
    let meta = Meta::new(&metadata, true);
    let mut problems = Vec::new();
    let mut read = Vec::new();
    for (index, subset) in subsets.unwrap_or_default().into_iter().enumerate() {
        let core::EndpointSubset { addresses, not_ready_addresses, ports } = subset;
        let mut found = Vec::new();
        for (field, addresses, condition) in [
            ("addresses", addresses, EndpointCondition::Ready),
            ("notReadyAddresses", not_ready_addresses, EndpointCondition::NotReady),
        ] {
            for (place, address) in addresses.unwrap_or_default().into_iter().enumerate() {
                let core::EndpointAddress { hostname: _, ip, node_name: _, target_ref } = address;
                let Ok(address) = ip.parse() else {
                    let field = format!("subsets[{index}].{field}[{place}].ip");
                    let message = format_args!("{ip:?} is not an IP address").to_string();
                    problems.push(Problem::warning(Reason::InvalidValue, field, message));
                    continue;
                };
                found.push(SliceEndpoint {
                    address: SliceAddress::Ip(address),
                    condition,
                    pod_uid: target_ref.and_then(|target| target.uid).unwrap_or_default().into(),
                });
            }
        }
        let ports = ports.unwrap_or_default().into_iter().enumerate().filter_map(|(place, port)| {
            let core::EndpointPort { app_protocol: _, name, port, protocol } = port;
            protocol.is_none_or(|protocol| protocol == "TCP").then(|| {
                let number = port_number(port, format_args!("subsets[{index}].ports[{place}].port"));
                number.map(|port| EndpointPort { name: name.unwrap_or_default().into(), port })
            })
        });
        let ports = ports.collect::<Result<_, _>>().map_err(|problem| vec![problem])?;
        read.push(Subset { ports, endpoints: found.into() });
    }
    // Endpoints carry the name of their Service.
    let service = meta.name.clone();
    Ok((Resource::Endpoints(EndpointSlice { meta, service, subsets: read.into() }), problems))
}

// === parts ===

fn slice_address(address_type: &str, text: &str) -> Option<SliceAddress> {
    match address_type {
        "FQDN" => Some(SliceAddress::Name(text.trim_end_matches('.').to_ascii_lowercase().into())),
        "IPv4" => text.parse().ok().map(|address: std::net::Ipv4Addr| SliceAddress::Ip(address.into())),
        "IPv6" => text.parse().ok().map(|address: std::net::Ipv6Addr| SliceAddress::Ip(address.into())),
        _ => None,
    }
}

/// KEP-1669: "ready" unknown means ready; an endpoint that serves while it terminates is on its way out.
fn condition(conditions: Option<&discovery::EndpointConditions>) -> EndpointCondition {
    let Some(discovery::EndpointConditions { ready, serving, terminating }) = conditions else {
        return EndpointCondition::Ready;
    };
    match (ready.unwrap_or(true), serving, terminating.unwrap_or(false)) {
        (true, _, _) => EndpointCondition::Ready,
        (false, Some(true), true) => EndpointCondition::Draining,
        (false, _, _) => EndpointCondition::NotReady,
    }
}

fn port_number(number: i32, field: std::fmt::Arguments<'_>) -> Result<u16, Problem> {
    u16::try_from(number).ok().filter(|port| *port > 0).ok_or_else(|| {
        Problem::error(Reason::InvalidValue, field.to_string(), format_args!("port {number} is not from 1 to 65535"))
    })
}

fn port_ref(
    port: k8s_openapi::apimachinery::pkg::util::intstr::IntOrString,
    field: std::fmt::Arguments<'_>,
) -> Result<PortRef, Problem> {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    match port {
        IntOrString::Int(number) => port_number(number, field).map(PortRef::Number),
        // "80" in quotes is the number.
        IntOrString::String(text) => match text.parse::<i32>() {
            Ok(number) => port_number(number, field).map(PortRef::Number),
            Err(_) => Ok(PortRef::Name(text.into())),
        },
    }
}
