//! Services.

use std::fmt;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use routing::model::PortRef;

use super::{Parsed, port_number, transport};
use crate::health;
use crate::problem::{Problem, Reason};
use crate::resources::{Meta, Resource, Service, ServicePort, SliceAddress};

pub(super) fn service(object: core::Service) -> Parsed {
    let core::Service { metadata, spec, status: _ } = object;
    let spec = spec.unwrap_or_default();
    let mut problems = Vec::new();
    let mut ports = Vec::new();
    for (index, port) in spec.ports.unwrap_or_default().into_iter().enumerate() {
        let core::ServicePort { app_protocol, name, node_port, port, protocol, target_port } = port;
        let Some(transport) = transport(protocol.as_deref()) else { continue };
        let number = port_number(port, format_args!("spec.ports[{index}].port")).map_err(|problem| vec![problem])?;
        let target = target_port.map(|target| port_ref(target, format_args!("spec.ports[{index}].targetPort")));
        ports.push(ServicePort {
            name: name.unwrap_or_default().into(),
            port: number,
            target: target.transpose().map_err(|problem| vec![problem])?,
            app_protocol: app_protocol.map(Into::into),
            transport,
            node_port: node_port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0),
        });
    }
    let external_name = match spec.external_name.filter(|_| spec.type_.as_deref() == Some("ExternalName")) {
        None => None,
        Some(text) => Some(SliceAddress::parse(&text).ok_or_else(|| {
            let message = format_args!("{text:?} is neither an IP address nor a DNS name").to_string();
            vec![Problem::error(Reason::InvalidValue, "spec.externalName", message)]
        })?),
    };
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
    let annotation = metadata.annotations.as_ref().and_then(|annotations| annotations.get(health::ANNOTATION));
    let health_check = annotation.map(|text| health::parse(text)).transpose().map_err(|why| {
        let message = format_args!("annotation {}: {why}", health::ANNOTATION).to_string();
        let field = format!("metadata.annotations[{}]", health::ANNOTATION);
        vec![Problem::error(Reason::AnnotationParsingFailed, field, message)]
    })?;
    // A headless Service says "None" here.
    let cluster_ip = spec.cluster_ip.and_then(|text| text.parse().ok());
    let service = Service {
        meta: Meta::new(&metadata, true),
        ports: ports.into(),
        cluster_ip,
        health_check,
        external_name,
        external_ips,
    };
    Ok((Resource::Service(service), problems))
}

fn port_ref(port: IntOrString, field: fmt::Arguments<'_>) -> Result<PortRef, Problem> {
    match port {
        IntOrString::Int(number) => port_number(number, field).map(PortRef::Number),
        // "80" in quotes is the number.
        IntOrString::String(text) => match text.parse::<i32>() {
            Ok(number) => port_number(number, field).map(PortRef::Number),
            Err(_) => Ok(PortRef::Name(text.into())),
        },
    }
}
