//! EndpointSlices, and the older Endpoints.

use std::net::IpAddr;

use routing::model::EndpointCondition;
use serde_json::{Value, json};

use super::{metadata, protocol};
use crate::decode::SERVICE_NAME_LABEL;
use crate::resources::{EndpointPort, EndpointSlice, SliceAddress, SliceEndpoint, Subset};

pub(crate) fn endpoint_slice(object: &EndpointSlice) -> Value {
    let EndpointSlice { meta, service, subsets } = object;
    let mut metadata = metadata::<&str>(meta, []);
    metadata["labels"] = json!({SERVICE_NAME_LABEL: service});
    let all = || subsets.iter().flat_map(|subset| &subset.endpoints);
    // All addresses of a slice are of one type.
    let address_type = match all().next().map(|endpoint| &endpoint.address) {
        Some(SliceAddress::Ip(IpAddr::V6(_))) => "IPv6",
        Some(SliceAddress::Name(_)) => "FQDN",
        Some(SliceAddress::Ip(IpAddr::V4(_))) | None => "IPv4",
    };
    let endpoints: Vec<Value> = all().map(slice_endpoint).collect();
    let ports: Vec<Value> = subsets.iter().flat_map(|subset| &subset.ports).map(port).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
        "addressType": address_type, "endpoints": endpoints, "ports": ports,
    })
}

pub(crate) fn endpoints(object: &EndpointSlice) -> Value {
    let EndpointSlice { meta, service: _, subsets } = object;
    let subsets: Vec<Value> = subsets.iter().map(subset).collect();
    json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata::<&str>(meta, []), "subsets": subsets})
}

fn slice_endpoint(endpoint: &SliceEndpoint) -> Value {
    let SliceEndpoint { address, condition, pod_uid } = endpoint;
    let conditions = match condition {
        EndpointCondition::Ready => json!({"ready": true}),
        EndpointCondition::Draining => json!({"ready": false, "serving": true, "terminating": true}),
        EndpointCondition::NotReady => json!({"ready": false, "serving": false}),
    };
    json!({"addresses": [text(address)], "conditions": conditions, "targetRef": {"uid": pod_uid}})
}

fn subset(subset: &Subset) -> Value {
    let Subset { ports, endpoints } = subset;
    let addresses = |is_ready: bool| -> Vec<Value> {
        let wanted = endpoints.iter().filter(|endpoint| (endpoint.condition == EndpointCondition::Ready) == is_ready);
        wanted.map(|endpoint| json!({"ip": text(&endpoint.address), "targetRef": {"uid": endpoint.pod_uid}})).collect()
    };
    let ports: Vec<Value> = ports.iter().map(port).collect();
    json!({"addresses": addresses(true), "notReadyAddresses": addresses(false), "ports": ports})
}

fn port(port: &EndpointPort) -> Value {
    let EndpointPort { name, port, transport } = port;
    json!({"name": name, "port": port, "protocol": protocol(*transport)})
}

fn text(address: &SliceAddress) -> String {
    match address {
        SliceAddress::Ip(address) => address.to_string(),
        SliceAddress::Name(name) => name.to_string(),
    }
}
