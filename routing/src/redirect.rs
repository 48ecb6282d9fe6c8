//! Redirects of a rule: whether one is for a request, and where it leads.

use std::borrow::Cow;

use crate::compile::CompiledRoute;
use crate::model::{Protocol, Redirect, RedirectBase, RedirectTarget, RedirectWhen, UriParts};
use crate::request::Scheme;
use crate::rewrite::rewritten_path;
use crate::snapshot::Snapshot;
use crate::template::Values;

/// Whether a redirect is for this request.
pub(crate) fn applies(when: &RedirectWhen, snapshot: &Snapshot, values: &Values<'_>) -> bool {
    let Values { request, connection, host, .. } = *values;
    let is_plain_text =
        || connection.scheme == Scheme::Http && !snapshot.settings.is_exempt_from_tls_redirect(request.path);
    match when {
        RedirectWhen::Always => true,
        RedirectWhen::PathIs(path) => **path == *request.path,
        RedirectWhen::PlainText => is_plain_text(),
        RedirectWhen::PlainTextWithCertificate => {
            is_plain_text()
                && snapshot
                    .listener(connection.listener)
                    .is_some_and(|table| table.hosts.has_certificate(host.as_str()))
        }
    }
}

/// The `Location` of a redirect; `None` when it would not be one.
pub(crate) fn location(
    redirect: &Redirect,
    snapshot: &Snapshot,
    route: &CompiledRoute,
    values: &Values<'_>,
) -> Option<String> {
    let host = values.host.as_str();
    let location = match &redirect.to {
        RedirectTarget::Location(template) => template.render(values),
        RedirectTarget::Https { keep_trailing_slash, with_port } => {
            let target = target(values, *keep_trailing_slash);
            let port = node_port(snapshot, values.request.authority);
            match port.or_else(|| tls_port(snapshot).filter(|_| *with_port)) {
                Some(port) => format!("https://{host}:{port}{target}"),
                None => format!("https://{host}{target}"),
            }
        }
        RedirectTarget::Path { target, base } => {
            let target = target.render(values);
            match base {
                RedirectBase::Nothing => target,
                RedirectBase::Host => format!("{}://{host}{target}", values.connection.scheme.as_str()),
                RedirectBase::HostAndPort => format!("{}{target}", origin(host, own_port(snapshot, values), values)),
            }
        }
        RedirectTarget::Host(other) => {
            format!("{}{}", origin(other, own_port(snapshot, values), values), target(values, false))
        }
        RedirectTarget::Parts(parts) => {
            let path = match &parts.path {
                Some(rewrite) => Cow::Owned(rewritten_path(rewrite, route, values)?),
                None => Cow::Borrowed(values.request.path),
            };
            let mut location = origin_of_parts(parts, values);
            location.push_str(&path);
            push_query(&mut location, values);
            location
        }
    };
    // A header's text can reach the location through a variable; a control character must not.
    location.bytes().all(|byte| byte >= b' ' && byte != 0x7f).then_some(location)
}

/// The path and the query of the request; one slash at their end goes unless it is to be kept.
fn target(values: &Values<'_>, keeps_slash: bool) -> String {
    let mut target = values.request.path.to_owned();
    push_query(&mut target, values);
    if !keeps_slash && target.ends_with('/') {
        target.pop();
    }
    target
}

fn push_query(target: &mut String, values: &Values<'_>) {
    if !values.request.query.is_empty() {
        target.push('?');
        target.push_str(values.request.query);
    }
}

/// The port of nodes that TLS is spoken on, for who came by that for plain text: port 443 of a node leads nowhere.
fn node_port(snapshot: &Snapshot, authority: &str) -> Option<u16> {
    let ports = snapshot.settings.node_ports?;
    let (_, port) = authority.rsplit_once(':')?;
    (port.parse() == Ok(ports.http)).then_some(ports.https)
}

/// The port that TLS is spoken on.
fn tls_port(snapshot: &Snapshot) -> Option<u16> {
    let mut listeners = snapshot.listeners().filter(|(_, listener)| listener.protocol == Protocol::Tls);
    listeners.next().map(|(key, _)| key.address.port())
}

/// The port that the request came to. Where a proxy in front spoke another scheme, its port is not known.
fn own_port(snapshot: &Snapshot, values: &Values<'_>) -> Option<u16> {
    let key = values.connection.listener;
    let scheme = match &snapshot.listener(key)?.listener.protocol {
        Protocol::Tls => Scheme::Https,
        _ => Scheme::Http,
    };
    (scheme == values.connection.scheme).then(|| key.address.port())
}

/// Scheme, host and port of a redirect (Gateway API `HTTPRequestRedirectFilter.port`).
fn origin_of_parts(parts: &UriParts, values: &Values<'_>) -> String {
    let scheme = parts.scheme.unwrap_or(values.connection.scheme);
    let port = match (parts.port, parts.scheme) {
        (Some(port), _) => port,
        (None, Some(Scheme::Http)) => 80,
        (None, Some(Scheme::Https)) => 443,
        (None, None) => values.connection.listener.address.port(),
    };
    written(scheme, parts.host.as_deref().unwrap_or(values.host.as_str()), Some(port))
}

fn origin(host: &str, port: Option<u16>, values: &Values<'_>) -> String {
    written(values.connection.scheme, host, port)
}

/// An origin; the port that a scheme has anyway is not written (RFC 9110 section 4.2.3).
fn written(scheme: Scheme, host: &str, port: Option<u16>) -> String {
    match (scheme, port) {
        (_, None) | (Scheme::Http, Some(80)) | (Scheme::Https, Some(443)) => format!("{}://{host}", scheme.as_str()),
        (_, Some(port)) => format!("{}://{host}:{port}", scheme.as_str()),
    }
}
