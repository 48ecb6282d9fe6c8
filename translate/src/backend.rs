//! From Services and their endpoints to backends. They have a lane of their own: nothing here touches a route.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use routing::is_never_a_backend;
use routing::model::{
    AppProtocol, BackendKey, BackendModel, BackendRef, EndpointAddress, EndpointCondition, EndpointModel, PortRef,
    Transport,
};

use crate::config::{Config, Source};
use crate::problem::{Problem, Reason};
use crate::resources::{EndpointPort, EndpointSlice, Service, ServicePort, SliceAddress, Subset};

/// What a backend is resolved from.
pub(crate) struct Sources<'a> {
    pub(crate) service: Option<&'a Service>,
    /// All slices of the Service.
    pub(crate) slices: Vec<&'a EndpointSlice>,
    /// The older Endpoints object of the same name, for a Service without slices.
    pub(crate) endpoints: Option<&'a EndpointSlice>,
}

/// What a backend consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The endpoints of its Service.
    Endpoints,
    /// The Service's own address (ingress-nginx `service-upstream`); its endpoints where it has none.
    Service,
}

/// A port of a backend, and where it leads.
struct Port<'a> {
    number: u16,
    transport: Transport,
    /// The name that slices know it by; empty for an only port.
    name: &'a str,
    /// The port of the pods where the slices do not say it; `None` when it has a name there.
    target: Option<u16>,
    /// Whether the Service has no other port of this transport.
    is_only: bool,
    app_protocol: Option<&'a str>,
}

/// Resolves a backend. The problems are told to the objects that refer to it.
pub(crate) fn resolve(
    reference: &BackendRef,
    sources: &Sources<'_>,
    target: Target,
    config: &Config,
) -> (BackendModel, Vec<Problem>) {
    let BackendRef { namespace, service: name, port: wanted } = reference;
    let mut problems = Vec::new();
    let mut warn = |reason, message: fmt::Arguments<'_>| problems.push(Problem::warning(reason, "", message));
    let found = match sources.service {
        Some(service) => service_port(service, wanted),
        None if config.source == Source::Files && sources.has_endpoints() => slice_port(sources, wanted),
        None => {
            warn(Reason::ServiceNotFound, format_args!("Service {namespace}/{name} does not exist"));
            return (BackendModel::default(), problems);
        }
    };
    let Some(port) = found else {
        warn(Reason::PortNotFound, format_args!("Service {namespace}/{name} has no port {wanted}"));
        return (BackendModel::default(), problems);
    };
    if sources.service.is_none() {
        // Slices in a file have an author who meant them to be used.
        let message = format_args!("Service {namespace}/{name} does not exist; its endpoints are used without it");
        warn(Reason::ServiceNotFound, message);
    }
    let mut endpoints: BTreeMap<EndpointAddress, EndpointModel> = BTreeMap::new();
    for endpoint in candidates(&port, sources, target, config) {
        if let Some(why) = refusal(&endpoint.address, sources.service, config) {
            warn(Reason::AddressRefused, format_args!("Service {namespace}/{name}: {why}"));
            continue;
        }
        // An address can stand in several slices while it moves between them: the best condition counts.
        let known = endpoints.entry(endpoint.address.clone()).or_insert_with(|| endpoint.clone());
        if endpoint.condition < known.condition {
            *known = endpoint;
        }
    }
    if endpoints.values().all(|endpoint| endpoint.condition == EndpointCondition::NotReady) {
        let message = format_args!("Service {namespace}/{name} has no endpoint that takes requests");
        warn(Reason::NoEndpoints, message);
    }
    let uid = sources.service.map(|service| service.meta.uid.clone()).unwrap_or_default();
    let key = BackendKey { namespace: namespace.clone(), service: name.clone(), uid, port: port.number };
    let protocol = port.app_protocol.map(app_protocol);
    let model = BackendModel {
        key: Some(Arc::new(key)),
        protocol,
        health_check: sources.service.and_then(|service| service.health_check.clone()),
        endpoints: endpoints.into_values().collect(),
    };
    (model, problems)
}

impl<'a> Sources<'a> {
    /// The slices, or the older Endpoints where there is none.
    fn subsets(&self) -> impl Iterator<Item = &'a Subset> {
        let older = self.endpoints.filter(|_| self.slices.is_empty());
        self.slices.iter().copied().chain(older).flat_map(|slice| &*slice.subsets)
    }

    fn has_endpoints(&self) -> bool {
        !self.slices.is_empty() || self.endpoints.is_some()
    }
}

/// Finds the port that a route names: by number, by name, or by the number or name of its target, as ingress-nginx does.
fn service_port<'a>(service: &'a Service, wanted: &PortRef) -> Option<Port<'a>> {
    let (transport, wanted) = split(wanted);
    let mut ports = service.ports.iter().filter(|port| port.transport == transport);
    let is_only = ports.clone().count() == 1;
    let by_target = || ports.clone().find(|port| port.target.as_ref() == Some(wanted));
    let found = match wanted {
        PortRef::Number(number) => ports.clone().find(|port| port.port == *number).or_else(by_target),
        PortRef::Name(name) => ports.clone().find(|port| port.name == *name).or_else(by_target),
        PortRef::First | PortRef::Udp(_) => ports.next(),
    };
    let port = |port: &'a ServicePort| Port {
        number: port.port,
        transport,
        name: &port.name,
        target: match port.target {
            None => Some(port.port),
            Some(PortRef::Number(number)) => Some(number),
            Some(_) => None,
        },
        is_only,
        app_protocol: port.app_protocol.as_deref(),
    };
    found.map(port).or_else(|| match wanted {
        // A Service that stands for a name need not list ports.
        PortRef::Number(number) if service.external_name.is_some() => {
            let number = *number;
            Some(Port { number, transport, name: "", target: Some(number), is_only: true, app_protocol: None })
        }
        _ => None,
    })
}

/// The port of endpoints whose Service nobody wrote: by name or number, else the only one whatever its number, because
/// the number of the Service is the one that is missing.
fn slice_port<'a>(sources: &Sources<'a>, wanted: &PortRef) -> Option<Port<'a>> {
    let (transport, wanted) = split(wanted);
    let ports = sources.subsets().flat_map(|subset| &*subset.ports);
    let ports: Vec<&'a EndpointPort> = ports.filter(|port| port.transport == transport).collect();
    let named = ports.iter().find(|port| match wanted {
        PortRef::Number(number) => port.port == *number,
        PortRef::Name(name) => port.name == *name,
        PortRef::First | PortRef::Udp(_) => true,
    });
    let is_only = ports.iter().all(|port| port.name == ports[0].name);
    let port = named.or_else(|| ports.first().filter(|_| is_only))?;
    let number = if let PortRef::Number(number) = wanted { *number } else { port.port };
    Some(Port { number, transport, name: &port.name, target: None, is_only, app_protocol: None })
}

/// The transport of a port, and which of its ports it is.
fn split(wanted: &PortRef) -> (Transport, &PortRef) {
    match wanted {
        PortRef::Udp(port) => (Transport::Udp, port),
        port => (Transport::Tcp, port),
    }
}

fn candidates(port: &Port<'_>, sources: &Sources<'_>, target: Target, config: &Config) -> Vec<EndpointModel> {
    let ready = |address: &SliceAddress, number: u16| EndpointModel {
        address: match address {
            SliceAddress::Ip(ip) => EndpointAddress::Socket(SocketAddr::new(*ip, number)),
            SliceAddress::Name(name) => EndpointAddress::Name { name: name.clone(), port: number },
        },
        pod_uid: "".into(),
        condition: EndpointCondition::Ready,
    };
    if let Some(address) = sources.service.and_then(|service| service.external_name.as_ref()) {
        return vec![ready(address, port.target.unwrap_or(port.number))];
    }
    if target == Target::Service
        && let Some(ip) = sources.service.and_then(|service| service.cluster_ip)
    {
        return vec![ready(&SliceAddress::Ip(ip), port.number)];
    }
    if let Some(service) = sources.service
        && !sources.has_endpoints()
    {
        // In files, the addresses that the Service itself claims on the outside. Tenants of a cluster must not direct
        // the gateway to addresses of their choice in this way (CVE-2020-8554).
        let addresses = service.external_ips.iter().filter(|_| config.source == Source::Files);
        return addresses.map(|ip| ready(&SliceAddress::Ip(*ip), port.number)).collect();
    }
    let mut found = Vec::new();
    for subset in sources.subsets() {
        for number in port.numbers_in(subset) {
            found.extend(subset.endpoints.iter().map(|endpoint| EndpointModel {
                pod_uid: endpoint.pod_uid.clone(),
                condition: endpoint.condition,
                ..ready(&endpoint.address, number)
            }));
        }
    }
    found
}

impl Port<'_> {
    /// The port numbers of these endpoints that the port stands for.
    fn numbers_in(&self, subset: &Subset) -> Vec<u16> {
        // "The name of this port must match the name of the Service port."
        let ports: Vec<&EndpointPort> = subset.ports.iter().filter(|port| port.transport == self.transport).collect();
        let named: Vec<u16> = ports.iter().filter(|port| *port.name == *self.name).map(|port| port.port).collect();
        match &*ports {
            _ if !named.is_empty() => named,
            // Hand-written slices of a Service with one port often leave the name out, or have one that it has not.
            [only] if self.is_only => vec![only.port],
            // ingress-nginx: a target that is a number holds where no name fits (issue 7390).
            _ => self.target.into_iter().collect(),
        }
    }
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
fn refusal(address: &EndpointAddress, service: Option<&Service>, config: &Config) -> Option<String> {
    let is_external_name = service.is_some_and(|service| service.external_name.is_some());
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
