//! EndpointSlices, and the older Endpoints.

use std::net::{Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use routing::model::EndpointCondition;

use super::{Parsed, port_number, transport};
use crate::problem::{Problem, Reason};
use crate::resources::{EndpointPort, EndpointSlice, Meta, Resource, SliceAddress, SliceEndpoint, Subset};

/// The label that names the Service of an EndpointSlice.
pub(crate) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

pub(super) fn endpoint_slice(object: discovery::EndpointSlice) -> Parsed {
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
        let (port, transport) = port.zip(transport(protocol.as_deref()))?;
        let number = port_number(port, format_args!("ports[{index}].port"));
        Some(number.map(|port| EndpointPort { name: name.unwrap_or_default().into(), port, transport }))
    });
    let ports = ports.collect::<Result<_, _>>().map_err(|problem| vec![problem])?;
    let slice = EndpointSlice {
        service: service.as_str().into(),
        meta: Meta::new(&metadata, true),
        subsets: Box::new([Subset { ports, endpoints: found.into() }]),
    };
    Ok((Resource::EndpointSlice(slice), problems))
}

pub(super) fn endpoints(object: core::Endpoints) -> Parsed {
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
            let transport = transport(protocol.as_deref())?;
            let number = port_number(port, format_args!("subsets[{index}].ports[{place}].port"));
            Some(number.map(|port| EndpointPort { name: name.unwrap_or_default().into(), port, transport }))
        });
        let ports = ports.collect::<Result<_, _>>().map_err(|problem| vec![problem])?;
        read.push(Subset { ports, endpoints: found.into() });
    }
    // Endpoints carry the name of their Service.
    let service = meta.name.clone();
    Ok((Resource::Endpoints(EndpointSlice { meta, service, subsets: read.into() }), problems))
}

fn slice_address(address_type: &str, text: &str) -> Option<SliceAddress> {
    match address_type {
        "FQDN" => SliceAddress::parse(text).filter(|address| matches!(address, SliceAddress::Name(_))),
        "IPv4" => text.parse().ok().map(|address: Ipv4Addr| SliceAddress::Ip(address.into())),
        "IPv6" => text.parse().ok().map(|address: Ipv6Addr| SliceAddress::Ip(address.into())),
        _ => None,
    }
}

/// KEP-1669: an endpoint that serves while it terminates is on its way out. Of what is not known, `ready` and `serving`
/// "should be interpreted as true", `terminating` as false.
fn condition(conditions: Option<&discovery::EndpointConditions>) -> EndpointCondition {
    let Some(discovery::EndpointConditions { ready, serving, terminating }) = conditions else {
        return EndpointCondition::Ready;
    };
    match (ready.unwrap_or(true), serving.unwrap_or(true), terminating.unwrap_or(false)) {
        (true, _, _) => EndpointCondition::Ready,
        (false, true, true) => EndpointCondition::Draining,
        (false, _, _) => EndpointCondition::NotReady,
    }
}
