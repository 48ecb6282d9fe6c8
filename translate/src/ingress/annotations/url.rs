//! URLs of servers that the gateway sends requests of its own to, with nginx's variables in them.

use std::net::IpAddr;

use routing::model::{BackendRef, PortRef, ServerUrl, UrlServer};
use routing::{HostPattern, Scheme, Template, WildcardDepth, is_never_a_backend};

use super::value::{self, ValueError};

/// `^[-._~a-zA-Z0-9/:,?&=$]*$`, ingress-nginx's grammar for URLs with variables.
pub(super) fn check(text: &str) -> Result<(), ValueError> {
    value::reject(value::short(text)?, |c| !(value::is_word(c) || ",?&=$".contains(c)))
}

/// A text with variables, none of which is a group: there is no path behind it that was matched.
pub(super) fn template(text: &str) -> Result<Template, ValueError> {
    let template = Template::parse(text)?;
    if template.highest_group() == 0 { Ok(template) } else { Err(ValueError::Group(text.to_owned())) }
}

/// The address of a server, which ends at one of these characters. Its host may depend on the host of the request, and
/// on nothing else. Without a path it has this target.
pub(super) fn server_url(text: &str, ends: &[char], target: &str) -> Result<ServerUrl, ValueError> {
    check(text)?;
    let no_url = || ValueError::Url(text.to_owned());
    let (scheme, rest) = text.split_once("://").ok_or_else(no_url)?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(no_url()),
    };
    let (authority, rest) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
    let target = match rest.as_bytes().first() {
        None => target.to_owned(),
        Some(b'/' | b'$') => rest.to_owned(),
        Some(_) => format!("/{rest}"),
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0).ok_or_else(no_url)?),
        None => (authority, if scheme == Scheme::Https { 443 } else { 80 }),
    };
    Ok(ServerUrl { scheme, server: server(host, port, text)?, port, target: template(&target)? })
}

fn server(host: &str, port: u16, text: &str) -> Result<UrlServer, ValueError> {
    if host.contains('$') {
        let name = template(host)?;
        return if name.depends_on_host_only() && !host.contains("..") {
            Ok(UrlServer::OfHost(name))
        } else {
            Err(ValueError::AuthHost(text.to_owned()))
        };
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return if is_never_a_backend(address) {
            Err(ValueError::Address(host.to_owned()))
        } else {
            Ok(UrlServer::Address(address))
        };
    }
    let Ok(HostPattern::Exact(name)) = HostPattern::parse(host, WildcardDepth::One) else {
        return Err(ValueError::Url(text.to_owned()));
    };
    if *name == *"localhost" || name.ends_with(".localhost") {
        return Err(ValueError::Address(host.to_owned()));
    }
    Ok(match service(&name, port) {
        Some(backend) => UrlServer::Backend { backend, name },
        None => UrlServer::Name(name),
    })
}

/// The Service that a name of the cluster stands for: `service.namespace.svc`, with or without the cluster's domain.
fn service(name: &str, port: u16) -> Option<BackendRef> {
    let path = name.strip_suffix(".cluster.local").unwrap_or(name).strip_suffix(".svc")?;
    let (service, namespace) = path.split_once('.').filter(|(_, namespace)| !namespace.contains('.'))?;
    Some(BackendRef { namespace: namespace.into(), service: service.into(), port: PortRef::Number(port) })
}
