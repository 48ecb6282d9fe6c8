//! From the Ingresses that speak of one host to what the host does: pure, and a function of nothing else.

use std::sync::{Arc, LazyLock};

use routing::model::{
    BackendRef, CertificateRef, DirectResponse, Filter, Host, HostTls, Order, Origin, PathRewrite, Rank, Redirect,
    RedirectTarget, RedirectWhen, Rewrite, Route, RouteMatch, Rule, UpstreamPolicy, WeightedBackend,
};
use routing::{HostPattern, PathMatch, PathPrefix, RegexPattern, Template};

use super::annotations::Annotations;
use super::{Ingress, IngressPath, PathForm, PathKind};
use crate::index::{backend_ref, certificate_refs, fallback_ref};
use crate::problem::{Problem, Reason};
use crate::resources::NamespacedName;
use crate::settings::IngressDefaults;

/// What a host is translated from.
pub(crate) struct Neighbours<'a> {
    /// The host.
    pub(crate) host: &'a HostPattern,
    /// The Ingresses that have a rule for it, in the order of precedence: the oldest first.
    pub(crate) ingresses: Vec<&'a Arc<Ingress>>,
    /// Global defaults.
    pub(crate) defaults: &'a IngressDefaults,
    /// Where requests go that nobody claims; `None` answers 404.
    pub(crate) default_backend: Option<&'a BackendRef>,
}

/// What a host does, and what its authors should know.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct HostTranslation {
    pub(crate) host: Host,
    pub(crate) problems: Vec<(NamespacedName, Problem)>,
}

/// A path of the host that won its place.
struct Location<'a> {
    ingress: &'a Ingress,
    path: &'a IngressPath,
    rule: usize,
    entry: usize,
}

/// Translates a host.
pub(crate) fn translate_host(neighbours: &Neighbours<'_>) -> HostTranslation {
    let mut problems = Vec::new();
    let locations = claim(neighbours, &mut problems);
    let regex_cause = locations.iter().find(|location| matches!(location.path.form, PathForm::Regex(_)));
    if let Some(cause) = regex_cause {
        warn_victims(&locations, cause, neighbours, &mut problems);
    }
    let mut routes = Vec::new();
    for location in &locations {
        let matched = match (&location.path.form, regex_cause.is_some()) {
            (PathForm::Literal(literal), false) => literal.clone(),
            (PathForm::Regex(pattern), _) => PathMatch::Regex(pattern.clone()),
            (PathForm::Literal(_), true) => match regex_of_literal(location, &locations) {
                Ok(pattern) => PathMatch::Regex(pattern),
                Err(error) => {
                    problems.push((
                        location.ingress.meta.key(),
                        Problem::error(Reason::InvalidValue, location.field(), error),
                    ));
                    continue;
                }
            },
        };
        routes.extend(trailing_slash_redirect(location, &locations, regex_cause.is_some(), neighbours));
        routes.push(location.route(matched, neighbours));
    }
    routes.extend(implicit_root(neighbours, &locations, regex_cause.is_some()));
    if let Some(route) = app_root(neighbours, &locations) {
        // nginx looks at the app root before it looks for a location.
        routes.retain(|other| !matches!(&other.matches.path, PathMatch::Exact(path) if **path == *"/"));
        routes.push(route);
    }
    HostTranslation { host: Host { tls: tls(neighbours), routes }, problems }
}

// === places ===

/// Gives each path to the oldest Ingress that claims it.
///
/// As in ingress-nginx, two paths are one when their text and their type are: the same path as `Exact` and as `Prefix`
/// stand side by side, and a missing type is `Prefix`.
fn claim<'a>(neighbours: &Neighbours<'a>, problems: &mut Vec<(NamespacedName, Problem)>) -> Vec<Location<'a>> {
    let mut locations: Vec<Location<'a>> = Vec::new();
    for ingress in &neighbours.ingresses {
        for (rule, ingress_rule) in ingress.rules.iter().enumerate() {
            if ingress_rule.host != *neighbours.host {
                continue;
            }
            for (entry, path) in ingress_rule.paths.iter().enumerate() {
                let location = Location { ingress, path, rule, entry };
                match locations.iter().find(|other| other.is_same_place(&location)) {
                    None => locations.push(location),
                    Some(winner) => {
                        let message = format_args!(
                            "host {:?} path {:?} is already claimed by Ingress {}",
                            neighbours.host.to_string(),
                            path.path,
                            winner.ingress.meta.key(),
                        )
                        .to_string();
                        let problem = Problem::error(Reason::Conflict, location.field(), message);
                        problems.push((ingress.meta.key(), problem));
                    }
                }
            }
        }
    }
    locations
}

impl Location<'_> {
    fn is_same_place(&self, other: &Location<'_>) -> bool {
        let is_exact = |location: &Location<'_>| location.path.kind == PathKind::Exact;
        is_exact(self) == is_exact(other)
            && match (&self.path.form, &other.path.form) {
                (PathForm::Literal(a), PathForm::Literal(b)) => a == b,
                _ => self.path.path == other.path.path,
            }
    }

    fn field(&self) -> String {
        format!("spec.rules[{}].http.paths[{}].path", self.rule, self.entry)
    }

    fn route(&self, path: PathMatch, neighbours: &Neighbours<'_>) -> Route {
        let backend = self.path.backend.as_ref().map(|backend| backend_ref(self.ingress, backend));
        let place = format!("rules[{}].paths[{}]", self.rule, self.entry);
        let filters = filters(self.ingress, &self.path.path, backend.is_some(), neighbours.defaults);
        let rule = rule(self.ingress, neighbours, &place, &self.path.path, filters, backend);
        Route { matches: RouteMatch::path(path), rank: rank(self.ingress, self.rule, self.entry), rule }
    }
}

/// On a host of regular expressions a literal becomes one too. ingress-nginx writes a `Prefix` as two locations,
/// `/foo/` and `/foo`, of which the shorter one matches all that the longer one does; only where the same path is also
/// there as `Exact` does the longer one stand alone.
fn regex_of_literal(location: &Location<'_>, locations: &[Location<'_>]) -> Result<RegexPattern, routing::MatchError> {
    let path = &*location.path.path;
    let has_exact_twin = location.path.kind != PathKind::Exact
        && path != "/"
        && locations.iter().any(|other| other.path.kind == PathKind::Exact && *other.path.path == *path);
    if has_exact_twin && !path.ends_with('/') {
        RegexPattern::ingress_location(&format!("{path}/"))
    } else {
        RegexPattern::ingress_location(path)
    }
}

fn warn_victims(
    locations: &[Location<'_>],
    cause: &Location<'_>,
    neighbours: &Neighbours<'_>,
    problems: &mut Vec<(NamespacedName, Problem)>,
) {
    let cause_key = cause.ingress.meta.key();
    for location in locations.iter().filter(|location| matches!(location.path.form, PathForm::Literal(_))) {
        let message = format_args!(
            "every path of host {:?} is a regular expression, matched without case and as a prefix, because of \
             use-regex or rewrite-target on Ingress {cause_key}",
            neighbours.host.to_string(),
        )
        .to_string();
        let key = location.ingress.meta.key();
        problems.push((key, Problem::warning(Reason::RegexHost, location.field(), message)));
    }
}

// === routes that nobody wrote ===

/// nginx answers `/foo` with a redirect to `/foo/` where only `/foo/` is a location. A `pathType` of `Prefix` says
/// that both match (Ingress specification), so this is for `ImplementationSpecific` only.
fn trailing_slash_redirect(
    location: &Location<'_>,
    locations: &[Location<'_>],
    is_regex_host: bool,
    neighbours: &Neighbours<'_>,
) -> Option<Route> {
    let IngressPath {
        path,
        form: PathForm::Literal(PathMatch::Prefix(prefix)),
        kind: PathKind::ImplementationSpecific,
        ..
    } = location.path
    else {
        return None;
    };
    let without_slash = prefix.as_str();
    let is_claimed = locations.iter().any(|other| *other.path.path == *without_slash);
    if is_regex_host || without_slash.is_empty() || !path.ends_with('/') || is_claimed {
        return None;
    }
    let target = Template::parse(&format!("$scheme://$http_host{path}$is_args$args")).ok()?;
    let mut route = location.route(PathMatch::Exact(without_slash.into()), neighbours);
    let filters: Vec<Filter> = route.rule.filters.iter().cloned().chain([redirect(301, target)]).collect();
    route.rule = Arc::new(Rule { filters: filters.into(), ..Rule::clone(&route.rule) });
    Some(route)
}

/// What a host without the path `/` does with the rest: the default backend of its oldest Ingress, else the global one,
/// else 404, with the annotations of that Ingress.
fn implicit_root(neighbours: &Neighbours<'_>, locations: &[Location<'_>], is_regex_host: bool) -> Option<Route> {
    let root = PathMatch::Prefix(PathPrefix::new("/"));
    let has_root =
        locations.iter().any(|location| *location.path.path == *"/" && location.path.kind != PathKind::Exact);
    if has_root {
        return None;
    }
    let path = if is_regex_host { RegexPattern::ingress_location("/").map_or(root, PathMatch::Regex) } else { root };
    // The catch-all host takes the default backend of an Ingress without rules; a rule without host leaves it alone.
    let is_any = *neighbours.host == HostPattern::Any;
    let owner = neighbours.ingresses.iter().find(|ingress| !is_any || ingress.rules.is_empty());
    let Some(owner) = owner else {
        let rule = unowned_root(neighbours.default_backend?);
        let rank = Rank { order: Order::Ingress, created: None, rule: 0, entry: 0 };
        return Some(Route { matches: RouteMatch::path(path), rank, rule });
    };
    let own = owner.default_backend.as_ref().map(|backend| backend_ref(owner, backend));
    let backend = own.or_else(|| neighbours.default_backend.cloned());
    let mut filters = filters(owner, "/", true, neighbours.defaults);
    if backend.is_none() {
        let not_found = Filter::Respond(DirectResponse { status: 404, body: "default backend - 404".into() });
        filters = filters.iter().cloned().chain([not_found]).collect();
    }
    let rule = rule(owner, neighbours, "defaultBackend", "/", filters, backend);
    Some(Route { matches: RouteMatch::path(path), rank: rank(owner, usize::MAX, 0), rule })
}

/// The global default backend on the catch-all host.
fn unowned_root(backend: &BackendRef) -> Arc<Rule> {
    let origin = Origin {
        kind: "Service",
        namespace: backend.namespace.clone(),
        name: backend.service.clone(),
        place: "default-backend-service".into(),
    };
    Arc::new(Rule {
        origin,
        path: "/".into(),
        host: "".into(),
        filters: Arc::default(),
        backends: vec![WeightedBackend::only(backend.clone())],
        fallback: None,
        upstream: default_upstream(),
    })
}

fn app_root(neighbours: &Neighbours<'_>, locations: &[Location<'_>]) -> Option<Route> {
    let location = locations.iter().find(|location| location.ingress.annotations.app_root.is_some())?;
    let template = location.ingress.annotations.app_root.clone()?;
    let filters = [deny(&location.ingress.annotations), Some(redirect(302, template))].into_iter().flatten().collect();
    let rule = rule(location.ingress, neighbours, "app-root", "/", filters, None);
    let rank = rank(location.ingress, location.rule, location.entry);
    Some(Route { matches: RouteMatch::path(PathMatch::Exact("/".into())), rank, rule })
}

// === parts of a rule ===

fn rank(ingress: &Ingress, rule: usize, entry: usize) -> Rank {
    let index = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    Rank { order: Order::Ingress, created: ingress.meta.created, rule: index(rule), entry: index(entry) }
}

fn rule(
    ingress: &Ingress,
    neighbours: &Neighbours<'_>,
    place: &str,
    path: &str,
    filters: Arc<[Filter]>,
    backend: Option<BackendRef>,
) -> Arc<Rule> {
    let host = match neighbours.host {
        HostPattern::Any => "".into(),
        host => host.to_string().into(),
    };
    Arc::new(Rule {
        origin: Origin {
            kind: "Ingress",
            namespace: ingress.meta.namespace.clone(),
            name: ingress.meta.name.clone(),
            place: place.into(),
        },
        path: path.into(),
        host,
        filters,
        backends: backend.map(WeightedBackend::only).into_iter().collect(),
        fallback: fallback_ref(ingress),
        upstream: upstream(&ingress.annotations),
    })
}

fn upstream(annotations: &Annotations) -> Arc<UpstreamPolicy> {
    match annotations.backend_protocol {
        None => default_upstream(),
        protocol => Arc::new(UpstreamPolicy { protocol, ..UpstreamPolicy::default() }),
    }
}

fn default_upstream() -> Arc<UpstreamPolicy> {
    static DEFAULT: LazyLock<Arc<UpstreamPolicy>> = LazyLock::new(Arc::default);
    Arc::clone(&DEFAULT)
}

/// The filters of a path, in nginx's order: what denies, what `return`s, the redirect to HTTPS, the rewrite.
fn filters(ingress: &Ingress, path: &str, has_backend: bool, defaults: &IngressDefaults) -> Arc<[Filter]> {
    let annotations = &*ingress.annotations;
    if let Some(deny) = deny(annotations) {
        return Arc::new([deny]);
    }
    let mut filters = Vec::new();
    let Annotations { temporal_redirect, temporal_redirect_code, permanent_redirect, permanent_redirect_code, .. } =
        annotations;
    if let Some(url) = temporal_redirect {
        filters.push(redirect(temporal_redirect_code.unwrap_or(302), url.clone()));
    } else if let Some(url) = permanent_redirect {
        filters.push(redirect(permanent_redirect_code.unwrap_or(301), url.clone()));
    }
    filters.extend(https_redirect(annotations, defaults));
    if !has_backend {
        filters.push(Filter::Deny("the backend of the path is not a Service".into()));
    }
    if let Some(target) = annotations.rewrite_target.as_ref().filter(|target| target.as_str() != path) {
        let path = PathRewrite::Captures(target.clone());
        filters.push(Filter::Rewrite(Rewrite { host: None, path: Some(path) }));
    }
    shared(filters)
}

fn deny(annotations: &Annotations) -> Option<Filter> {
    (!annotations.denials.is_empty()).then(|| Filter::Deny(annotations.denials.join("; ").into()))
}

fn redirect(status: u16, location: Template) -> Filter {
    Filter::Redirect(Redirect { when: RedirectWhen::Always, to: RedirectTarget::Location(location), status })
}

fn https_redirect(annotations: &Annotations, defaults: &IngressDefaults) -> Option<Filter> {
    let when = if annotations.force_ssl_redirect.unwrap_or(defaults.force_ssl_redirect) {
        RedirectWhen::PlainText
    } else if annotations.ssl_redirect.unwrap_or(defaults.ssl_redirect) {
        RedirectWhen::PlainTextWithCertificate
    } else {
        return None;
    };
    let keep_trailing_slash = annotations.preserve_trailing_slash || defaults.preserve_trailing_slash;
    let to = RedirectTarget::Https { keep_trailing_slash };
    Some(Filter::Redirect(Redirect { when, to, status: defaults.http_redirect_code }))
}

/// Nearly every rule has the same list: it is kept once.
fn shared(filters: Vec<Filter>) -> Arc<[Filter]> {
    static USUAL: LazyLock<Arc<[Filter]>> =
        LazyLock::new(|| https_redirect(&Annotations::default(), &IngressDefaults::default()).into_iter().collect());
    if *filters == **USUAL { Arc::clone(&USUAL) } else { filters.into() }
}

// === TLS ===

/// The certificates of the oldest Ingress of the host that has a `tls` section: those of the entry that names the host,
/// else all of its Secrets, of which the one is presented that covers the name.
fn tls(neighbours: &Neighbours<'_>) -> Option<HostTls> {
    if *neighbours.host == HostPattern::Any {
        // Entries without hosts, of Ingresses that serve any host: each certificate for the names that it covers.
        let certificates: Vec<CertificateRef> =
            neighbours.ingresses.iter().flat_map(|ingress| certificate_refs(ingress)).collect();
        return (!certificates.is_empty()).then_some(HostTls::Terminate(certificates));
    }
    let ingress = neighbours.ingresses.iter().find(|ingress| !ingress.tls.is_empty())?;
    let named = ingress.tls.iter().find(|tls| tls.hosts.contains(neighbours.host));
    let certificates = match named {
        Some(tls) => tls
            .secret
            .iter()
            .map(|secret| CertificateRef { namespace: ingress.meta.namespace.clone(), name: secret.clone() })
            .collect(),
        None => certificate_refs(ingress).collect(),
    };
    Some(HostTls::Terminate(certificates))
}
