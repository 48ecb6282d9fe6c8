//! Routes that nobody wrote: those that follow from others, or from there being none.

use std::sync::Arc;

use routing::model::{
    BackendRef, DirectResponse, Filter, Order, Origin, Rank, Route, RouteMatch, Rule, WeightedBackend,
};
use routing::{HostPattern, PathMatch, PathPrefix, RegexPattern, Template};

use super::Neighbours;
use super::location::Location;
use super::rule::{default_upstream, deny, filters, rank, redirect, rule};
use crate::index::backend_ref;
use crate::ingress::{IngressPath, PathForm, PathKind};

/// nginx answers `/foo` with a redirect to `/foo/` where only `/foo/` is a location. A `pathType` of `Prefix` says
/// that both match (Ingress specification), so this is for `ImplementationSpecific` only.
pub(super) fn trailing_slash_redirect(
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
pub(super) fn implicit_root(
    neighbours: &Neighbours<'_>,
    locations: &[Location<'_>],
    is_regex_host: bool,
) -> Option<Route> {
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

pub(super) fn app_root(neighbours: &Neighbours<'_>, locations: &[Location<'_>]) -> Option<Route> {
    let location = locations.iter().find(|location| location.ingress.annotations.app_root.is_some())?;
    let template = location.ingress.annotations.app_root.clone()?;
    let filters = [deny(&location.ingress.annotations), Some(redirect(302, template))].into_iter().flatten().collect();
    let rule = rule(location.ingress, neighbours, "app-root", "/", filters, None);
    let rank = rank(location.ingress, location.rule, location.entry);
    Some(Route { matches: RouteMatch::path(PathMatch::Exact("/".into())), rank, rule })
}
