//! From Services and their endpoints to backends. They have a lane of their own: nothing here touches a route.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use routing::model::{
    AppProtocol, BackendKey, BackendModel, BackendRef, EndpointAddress, EndpointCondition, EndpointModel, PortRef,
};

use crate::config::{Config, Source};
use crate::problem::{Problem, Reason};
use crate::resources::{EndpointSlice, Service, ServicePort, SliceAddress};

/// What a backend is resolved from.
pub(crate) struct Sources<'a> {
    pub(crate) service: Option<&'a Service>,
    /// All slices of the Service.
    pub(crate) slices: Vec<&'a EndpointSlice>,
    /// The older Endpoints object of the same name, for a Service without slices.
    pub(crate) endpoints: Option<&'a EndpointSlice>,
}

/// Resolves a backend. The problems are told to the objects that refer to it.
pub(crate) fn resolve(reference: &BackendRef, sources: &Sources<'_>, config: &Config) -> (BackendModel, Vec<Problem>) {
    let BackendRef { namespace, service: name, port: _ } = reference;
    let none = |reason, message: std::fmt::Arguments<'_>| {
        (BackendModel::default(), vec![Problem::warning(reason, "", message)])
    };
    let Some(service) = sources.service else {
        return none(Reason::ServiceNotFound, format_args!("Service {namespace}/{name} does not exist"));
    };
    let Some(port) = service_port(service, &reference.port) else {
        let port = &reference.port;
        return none(Reason::PortNotFound, format_args!("Service {namespace}/{name} has no port {port}"));
    };
    let key = BackendKey {
        namespace: namespace.clone(),
        service: name.clone(),
        uid: service.meta.uid.clone(),
        port: port.port,
    };
    let mut problems = Vec::new();
    let mut endpoints: BTreeMap<EndpointAddress, EndpointModel> = BTreeMap::new();
    for endpoint in candidates(service, &port, sources) {
        if let Some(why) = refusal(&endpoint.address, service, config) {
            problems.push(Problem::warning(Reason::AddressRefused, "", why));
            continue;
        }
        // An address can stand in several slices while it moves between them: the best condition counts.
        let known = endpoints.entry(endpoint.address.clone()).or_insert_with(|| endpoint.clone());
        if endpoint.condition < known.condition {
            *known = endpoint;
        }
    }
    if endpoints.values().all(|endpoint| endpoint.condition == EndpointCondition::NotReady) {
        let message = format_args!("Service {namespace}/{name} has no endpoint that takes requests").to_string();
        problems.push(Problem::warning(Reason::NoEndpoints, "", message));
    }
    let protocol = port.app_protocol.as_deref().map(app_protocol);
    let model = BackendModel { key: Some(Arc::new(key)), protocol, endpoints: endpoints.into_values().collect() };
    (model, problems)
}

/// Finds the port that a route names: by number, by name, or by the number or name of its target, as ingress-nginx does.
fn service_port(service: &Service, wanted: &PortRef) -> Option<ServicePort> {
    let found = match wanted {
        PortRef::First => service.ports.first(),
        PortRef::Number(number) => service
            .ports
            .iter()
            .find(|port| port.port == *number)
            .or_else(|| service.ports.iter().find(|port| port.target.as_ref() == Some(wanted))),
        PortRef::Name(name) => service
            .ports
            .iter()
            .find(|port| port.name == *name)
            .or_else(|| service.ports.iter().find(|port| port.target.as_ref() == Some(wanted))),
    };
    found.cloned().or_else(|| match wanted {
        // A Service that stands for a name need not list ports.
        PortRef::Number(number) if service.external_name.is_some() => {
            Some(ServicePort { name: "".into(), port: *number, target: None, app_protocol: None })
        }
        _ => None,
    })
}

fn candidates(service: &Service, port: &ServicePort, sources: &Sources<'_>) -> Vec<EndpointModel> {
    let target = match port.target {
        Some(PortRef::Number(number)) => number,
        _ => port.port,
    };
    let ready = |address, port_of_address: u16| EndpointModel {
        address: match address {
            SliceAddress::Ip(ip) => EndpointAddress::Socket(SocketAddr::new(ip, port_of_address)),
            SliceAddress::Name(name) => EndpointAddress::Name { name, port: port_of_address },
        },
        pod_uid: "".into(),
        condition: EndpointCondition::Ready,
    };
    if let Some(name) = &service.external_name {
        let address = match name.parse() {
            Ok(ip) => SliceAddress::Ip(ip),
            Err(_) => SliceAddress::Name(name.trim_end_matches('.').to_ascii_lowercase().into()),
        };
        return vec![ready(address, target)];
    }
    let slices = match (&*sources.slices, sources.endpoints) {
        ([], Some(endpoints)) => &[endpoints][..],
        // Without slices, the addresses that the Service itself claims on the outside.
        ([], None) => {
            return service.external_ips.iter().map(|ip| ready(SliceAddress::Ip(*ip), port.port)).collect();
        }
        (slices, _) => slices,
    };
    let mut found = Vec::new();
    for subset in slices.iter().flat_map(|slice| &*slice.subsets) {
        // "The name of this port must match the name of the Service port." Hand-written slices of a Service with one
        // port often leave it out.
        let numbers = subset.ports.iter().filter(|candidate| {
            candidate.name == port.name
                || (candidate.name.is_empty() && subset.ports.len() == 1 && service.ports.len() == 1)
        });
        for number in numbers {
            found.extend(subset.endpoints.iter().map(|endpoint| EndpointModel {
                pod_uid: endpoint.pod_uid.clone(),
                condition: endpoint.condition,
                ..ready(endpoint.address.clone(), number.port)
            }));
        }
    }
    found
}

/// Kubernetes' well-known application protocols (KEP-3726), and the names that people use.
fn app_protocol(name: &str) -> AppProtocol {
    match name.to_ascii_lowercase().as_str() {
        "https" | "kubernetes.io/wss" => AppProtocol::Https,
        "kubernetes.io/h2c" | "h2c" | "grpc" => AppProtocol::H2c,
        _ => AppProtocol::Http,
    }
}

/// Why requests must not be sent to an address.
fn refusal(address: &EndpointAddress, service: &Service, config: &Config) -> Option<String> {
    let is_external_name = service.external_name.is_some();
    match address {
        EndpointAddress::Name { name, .. } if **name == *"localhost" || name.ends_with(".localhost") => {
            Some(format!("name {name} is the gateway itself"))
        }
        EndpointAddress::Name { .. } => None,
        EndpointAddress::Socket(socket) => {
            let ip = socket.ip().to_canonical();
            let is_loopback_allowed = config.source == Source::Files && !is_external_name;
            if is_never_a_backend(ip) && !(ip.is_loopback() && is_loopback_allowed) {
                Some(format!("address {ip} is not one that a backend can have"))
            } else if ip.is_loopback() && config.own_ports.contains(&socket.port()) {
                Some(format!("address {socket} is the gateway's own status or admin endpoint"))
            } else {
                None
            }
        }
    }
}

/// Addresses behind which a tenant would find the gateway or its node: loopback, link-local (the cloud's metadata
/// service), unspecified, multicast.
#[must_use]
pub(crate) fn is_never_a_backend(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    ip.is_loopback() || is_link_local || ip.is_unspecified() || ip.is_multicast()
}
