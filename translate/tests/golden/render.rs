//! What a golden file shows of the model: everything but what is the same in every case.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::{HeaderMap, Method};
use routing::model::{
    BackendModel, EndpointAddress, EndpointCondition, Filter, Host, HostTls, LoggedRequests, Model, PathRewrite,
    Protocol, Redirect, RedirectBase, RedirectTarget, RedirectWhen, Rewrite, Route, Rule, SizeLimits, UpstreamPolicy,
    WeightedBackend,
};
use routing::{
    CertificateChoice, ConnectionView, Decision, Delta, LiveRouting, Publisher, RequestView, Scheme, Snapshot, decide,
    normalize_path,
};
use serde_json::{Map, Value, json};
use translate::Problem;

use crate::yaml;

/// The text of the document `# Output`.
pub(crate) fn output(
    model: &Model,
    problems: &BTreeMap<String, Vec<Problem>>,
    unknown: &BTreeSet<String>,
    answers: &BTreeMap<String, String>,
) -> String {
    let sections = [
        ("settings", settings(model)),
        ("hosts", hosts(model)),
        ("backends", model.backends.iter().map(|(key, backend)| (key.to_string(), self::backend(backend))).collect()),
        (
            "certificates",
            model.certificates.iter().map(|(key, found)| (key.to_string(), json!(found.names.dns()))).collect(),
        ),
        ("credentials", model.credentials.iter().map(|(key, users)| (key.to_string(), json!(&**users))).collect()),
        (
            "authorities",
            model.authorities.iter().map(|(key, found)| (key.to_string(), json!(found.certificates().len()))).collect(),
        ),
        ("problems", problems.iter().map(|(key, found)| (key.clone(), found.iter().map(problem).collect())).collect()),
    ];
    let mut text = String::new();
    for (name, section) in sections {
        if !section.is_empty() {
            text.push_str(&yaml::to_text(&json!({ name: section })));
        }
    }
    if !unknown.is_empty() {
        text.push_str(&yaml::to_text(&json!({ "unknown": unknown })));
    }
    if !answers.is_empty() {
        text.push_str(&yaml::to_text(&json!({ "answers": answers })));
    }
    text
}

/// The settings that are not the defaults.
fn settings(model: &Model) -> Map<String, Value> {
    difference(&json!(&*model.settings), &json!(&*Model::default().settings))
}

/// Every host once: a golden case has all its hosts on all its listeners.
fn hosts(model: &Model) -> Map<String, Value> {
    let mut hosts: BTreeMap<String, &Arc<Host>> = BTreeMap::new();
    for (key, host) in &model.hosts {
        let known = hosts.entry(key.host.to_string()).or_insert(host);
        assert!(Arc::ptr_eq(known, host), "{key} differs between listeners");
    }
    assert_eq!(hosts.len() * model.listeners.len(), model.hosts.len());
    hosts.into_iter().map(|(name, host)| (name.clone(), self::host(&name, host))).collect()
}

fn host(name: &str, host: &Host) -> Value {
    let Host { tls, client_tls, routes } = host;
    let mut shown = Map::new();
    match tls {
        None => {}
        Some(HostTls::Terminate(certificates)) => {
            shown.insert("tls".to_owned(), certificates.iter().map(|found| found.to_string()).collect());
        }
        Some(HostTls::Passthrough(_)) => unreachable!("no Ingress passes TLS through yet"),
    }
    if let Some(client_tls) = client_tls {
        shown.insert("client_tls".to_owned(), json!(&**client_tls));
    }
    shown.insert("routes".to_owned(), routes.iter().map(|route| self::route(name, route)).collect());
    Value::Object(shown)
}

fn route(host_name: &str, route: &Route) -> Value {
    let Route { matches, rank: _, rule } = route;
    let Rule { origin, path, host, filters, guards, logged, sizes, backends, fallback, error_pages, upstream } =
        &**rule;
    let mut shown = Map::new();
    let mut show = |key: &str, value: Value| shown.insert(key.to_owned(), value);
    show("match", matches.path.to_string().into());
    show("origin", origin.to_string().into());
    // The labels of the metrics say what the match and the name of the host say, but for aliases and implied routes.
    if matches.path.to_string().split_once(' ').is_none_or(|(_, text)| *text != **path) {
        show("path", json!(path));
    }
    if *host_name != **host && !(host.is_empty() && host_name == "*") {
        show("host", json!(host));
    }
    if **filters != [usual()] {
        show("filters", filters.iter().map(filter).collect());
    }
    if let Some(guards) = guards {
        show("guards", json!(&**guards));
    }
    if *logged != LoggedRequests::All {
        show("logged", json!(logged));
    }
    let sizes = difference(&json!(sizes), &json!(SizeLimits::default()));
    if !sizes.is_empty() {
        show("sizes", Value::Object(sizes));
    }
    match &**backends {
        [] => {}
        [WeightedBackend { backend: Some(backend), weight: 1, filters }] if filters.is_empty() => {
            show("backend", backend.to_string().into());
        }
        others => {
            show("backends", json!(others));
        }
    }
    if let Some(pages) = error_pages {
        show("errorPages", json!(&**pages));
    }
    if let Some(fallback) = fallback {
        show("fallback", fallback.to_string().into());
    }
    let upstream = difference(&json!(&**upstream), &json!(UpstreamPolicy::default()));
    if !upstream.is_empty() {
        show("upstream", Value::Object(upstream));
    }
    Value::Object(shown)
}

/// The only filter of a rule whose author did not ask for anything: ingress-nginx's `ssl-redirect`.
fn usual() -> Filter {
    Filter::Redirect(Redirect {
        when: RedirectWhen::PlainTextWithCertificate,
        to: RedirectTarget::Https { keep_trailing_slash: false, with_port: false },
        status: 308,
    })
}

/// A filter in one line.
fn filter(filter: &Filter) -> Value {
    let text = match filter {
        Filter::Deny(why) => format!("deny: {why}"),
        Filter::NotFound => "respond 404 default backend - 404".to_owned(),
        Filter::Respond(answer) => format!("respond {} {}", answer.status, answer.body),
        Filter::Redirect(Redirect { when, to, status }) => {
            let when = match when {
                RedirectWhen::Always => String::new(),
                RedirectWhen::PathIs(path) => format!(" for {path}"),
                RedirectWhen::PlainText => " for plain text".to_owned(),
                RedirectWhen::PlainTextWithCertificate => " for plain text of hosts with a certificate".to_owned(),
            };
            let to = match to {
                RedirectTarget::Location(template) => template.to_string(),
                RedirectTarget::Https { keep_trailing_slash, with_port } => {
                    let slash = if *keep_trailing_slash { " with its trailing slash" } else { "" };
                    let port = if *with_port { " and its port" } else { "" };
                    format!("https{slash}{port}")
                }
                RedirectTarget::Path { target, base } => match base {
                    RedirectBase::Host => target.to_string(),
                    RedirectBase::HostAndPort => format!("{target} with the port"),
                    RedirectBase::Nothing => format!("{target} without the host"),
                },
                RedirectTarget::Host(host) => format!("host {host}"),
                RedirectTarget::Parts(_) => unreachable!("no Ingress replaces parts"),
            };
            format!("redirect {status} to {to}{when}")
        }
        Filter::Rewrite(Rewrite { host: None, path: Some(PathRewrite::Captures(template)), prefix: None }) => {
            format!("rewrite to {}", template.as_str())
        }
        other => return json!(other),
    };
    text.into()
}

fn backend(backend: &BackendModel) -> Value {
    let BackendModel { key, protocol, health_check, endpoints } = backend;
    let Some(key) = key else { return Value::Null };
    let endpoints = endpoints.iter().map(|endpoint| {
        let address = match &endpoint.address {
            EndpointAddress::Socket(address) => address.to_string(),
            EndpointAddress::Name { name, port } => format!("{name}:{port}"),
        };
        match endpoint.condition {
            EndpointCondition::Ready => address,
            EndpointCondition::Draining => format!("{address} draining"),
            EndpointCondition::NotReady => format!("{address} not ready"),
        }
    });
    let mut shown = Map::new();
    shown.insert("port".to_owned(), key.port.into());
    if let Some(protocol) = protocol {
        shown.insert("protocol".to_owned(), json!(protocol));
    }
    if let Some(check) = health_check {
        shown.insert("healthCheck".to_owned(), json!(check));
    }
    shown.insert("endpoints".to_owned(), endpoints.collect());
    Value::Object(shown)
}

fn problem(problem: &Problem) -> Value {
    let mut shown = json!(problem);
    if problem.field.is_empty() {
        shown.as_object_mut().expect("a problem is a struct").remove("field");
    }
    shown
}

/// The fields of `value` that `default` has otherwise.
fn difference(value: &Value, default: &Value) -> Map<String, Value> {
    let fields = value.as_object().expect("a struct").iter();
    fields.filter(|(key, value)| default[*key] != **value).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// What the gateway does with requests.
pub(crate) fn answers(delta: &Delta, requests: &[String]) -> BTreeMap<String, String> {
    let live = Arc::new(LiveRouting::new());
    let mut publisher = Publisher::new(Arc::clone(&live));
    publisher.publish(delta);
    for endpoint in delta.backends.values().flatten().flat_map(|backend| &backend.endpoints) {
        if let EndpointAddress::Name { name, .. } = &endpoint.address {
            publisher.set_addresses(name, &[IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1))]);
        }
    }
    let snapshot = live.pin();
    requests.iter().map(|request| (request.clone(), answer(&snapshot, request))).collect()
}

fn answer(snapshot: &Snapshot, request: &str) -> String {
    let listener = |wanted: &Protocol| {
        let found = snapshot.listeners().find(|(_, listener)| listener.protocol == *wanted);
        found.map(|(key, _)| *key).expect("one listener of each protocol")
    };
    let (method, url) = request.split_once(' ').unwrap_or(("GET", request));
    if method == "TLS" {
        return match snapshot.certificate(&listener(&Protocol::Tls), Some(url)) {
            CertificateChoice::Host(certificate) => format!("certificate for {}", json!(certificate.names.dns())),
            CertificateChoice::Default(Some(certificate)) => {
                format!("default certificate, for {}", json!(certificate.names.dns()))
            }
            CertificateChoice::Default(None) => "default certificate, self-signed".to_owned(),
            CertificateChoice::Passthrough(_) => "passthrough".to_owned(),
        };
    }
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (authority, target) = rest.split_at(rest.find('/').expect("a path"));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = normalize_path(path).expect("a path that passes the gate");
    let (listener, scheme) = match scheme {
        "http" => (listener(&Protocol::Http), Scheme::Http),
        "https" => (listener(&Protocol::Tls), Scheme::Https),
        other => panic!("{other} is not a scheme"),
    };
    let request = RequestView {
        method: &Method::from_bytes(method.as_bytes()).unwrap(),
        authority,
        path: &path,
        query,
        received: None,
        headers: &HeaderMap::new(),
        entropy: 0,
    };
    let client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let connection = ConnectionView { listener: &listener, scheme, client, server_name: Some(authority) };
    match decide(snapshot, &request, &connection) {
        Decision::Answer(answer) => format!("{} {:?} {}", answer.status, answer.reason, answer.body).trim().to_owned(),
        Decision::Redirect(redirect) => format!("{} {}", redirect.status, redirect.location),
        Decision::Proxy(plan) => {
            let is_empty = |backend: &routing::Backend| backend.state().endpoints.is_empty();
            let path = plan.rewritten.path.map(|path| format!(" as {path}")).unwrap_or_default();
            let reference = plan.backend.reference();
            match &plan.rule.fallback {
                _ if !is_empty(plan.backend) => format!("{reference}{path}"),
                Some(fallback) if !is_empty(fallback) => {
                    format!("{}{path}, for want of {reference}", fallback.reference())
                }
                _ => format!("{reference}{path}, which has no endpoint"),
            }
        }
    }
}
