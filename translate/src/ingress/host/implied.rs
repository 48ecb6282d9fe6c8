//! Routes that nobody wrote: those that follow from others, or from there being none.

use std::cmp::Reverse;
use std::sync::Arc;

use routing::model::{
    BackendRef, Filter, LoggedRequests, Order, Origin, Rank, Route, RouteMatch, Rule, WeightedBackend,
};
use routing::{HostPattern, PathMatch, PathPrefix, RegexPattern, Template};

use super::location::{Location, Locations};
use super::rule::{denial, filters, path_redirect, rank, redirect, rule, variables};
use super::upstream::default_upstream;
use super::{Neighbours, Survey};
use crate::index::backend_ref;
use crate::ingress::{Ingress, IngressPath, PathForm, PathKind};
use crate::problem::{Problem, Reason};
use crate::resources::NamespacedName;

/// The rule of the root for an Ingress: after those that its author wrote.
const ROOT_RULE: usize = usize::MAX;

/// nginx answers `/foo` with a redirect to `/foo/` where only `/foo/` is a location. A `pathType` of `Prefix` says
/// that both match (Ingress specification), so this is for `ImplementationSpecific` only.
pub(super) fn trailing_slash_redirect(location: &Location<'_>, survey: &Survey<'_>) -> Option<Route> {
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
    let is_claimed = [true, false].into_iter().any(|is_exact| survey.locations.find(is_exact, without_slash).is_some());
    if survey.regex_cause.is_some() || without_slash.is_empty() || !path.ends_with('/') || is_claimed {
        return None;
    }
    let target = Template::parse(&format!("{path}$is_args$args")).ok()?;
    let mut route = location.route(PathMatch::Exact(without_slash.into()), survey);
    let filters: Vec<Filter> =
        route.rule.filters.iter().cloned().chain([path_redirect(301, target, location.ingress, survey)]).collect();
    route.rule = Arc::new(Rule { filters: filters.into(), ..Rule::clone(&route.rule) });
    Some(route)
}

/// Who answers what no path of a host matches.
pub(super) enum Root<'a> {
    /// A path that somebody wrote.
    Claimed,
    /// This Ingress, with its annotations: by its default backend, else by the global one, else with 404.
    Owned(&'a Ingress),
    /// The global default backend, if there is one.
    Unowned,
}

impl<'a> Root<'a> {
    /// On a host it is the oldest Ingress that has a rule for it. On the catch-all host it is the oldest one without
    /// rules, else the oldest one whose rule without host comes with a default backend of its own.
    pub(super) fn of(
        neighbours: &Neighbours<'a>,
        locations: &Locations<'a>,
        problems: &mut Vec<(NamespacedName, Problem)>,
    ) -> Self {
        let claimed = locations.find(false, "/").map(|location| location.ingress);
        let is_any = *neighbours.host == HostPattern::Any;
        let ingresses = neighbours.ingresses.iter().map(|ingress| &***ingress);
        let owner = if is_any {
            let with_backend = |ingress: &&Ingress| ingress.default_backend.is_some();
            ingresses.clone().find(|ingress| ingress.rules.is_empty()).or_else(|| ingresses.clone().find(with_backend))
        } else {
            ingresses.clone().next()
        };
        if let Some(winner) = claimed.or(owner).map(|winner| winner.meta.key()) {
            for loser in ingresses.filter(|ingress| ingress.rules.is_empty() && ingress.meta.key() != winner) {
                let message = format_args!("requests that no rule matches already go to Ingress {winner}").to_string();
                let problem = Problem::error(Reason::Conflict, "spec.defaultBackend", message);
                problems.push((loser.meta.key(), problem));
            }
        }
        match (claimed, owner) {
            (Some(_), _) => Self::Claimed,
            (None, Some(owner)) => Self::Owned(owner),
            (None, None) => Self::Unowned,
        }
    }

    pub(super) fn owner(&self) -> Option<&'a Ingress> {
        if let Self::Owned(owner) = self { Some(owner) } else { None }
    }

    pub(super) fn route(&self, survey: &Survey<'_>) -> Option<Route> {
        let root = PathMatch::Prefix(PathPrefix::new("/"));
        let path = match survey.regex_cause {
            Some(_) => RegexPattern::ingress_location("/").map_or(root, PathMatch::Regex),
            None => root,
        };
        let (rank, rule) = match self {
            Self::Claimed => return None,
            Self::Owned(owner) => (rank(owner, ROOT_RULE, 0), owned_root(owner, survey)),
            Self::Unowned => {
                let rank = Rank { order: Order::Ingress, created: None, rule: 0, entry: 0 };
                (rank, unowned_root(survey.default_backend?, survey))
            }
        };
        Some(Route { matches: RouteMatch::path(path), rank, rule })
    }
}

fn owned_root(owner: &Ingress, survey: &Survey<'_>) -> Arc<Rule> {
    let backend = owner.default_backend.as_ref().map(|backend| backend_ref(owner, backend));
    // ingress-nginx keeps redirects and rewrites away from an Ingress without rules.
    let filters = if owner.rules.is_empty() {
        denial(owner, survey).into_iter().collect()
    } else {
        filters(owner, "/", Some(&variables(owner, backend.as_ref())), survey)
    };
    if backend.is_some() {
        return rule(owner, survey, "defaultBackend", "/", filters, backend);
    }
    let global = survey.default_backend.cloned();
    let not_found = global.is_none().then_some(Filter::NotFound);
    let filters = filters.iter().cloned().chain(not_found).collect();
    let rule = rule(owner, survey, "defaultBackend", "/", filters, global);
    // The global default backend is nobody's upstream: it is spoken to in plain HTTP, whatever the annotations say.
    Arc::new(Rule { fallback: None, upstream: default_upstream(), ..Rule::clone(&rule) })
}

/// The global default backend on the catch-all host.
fn unowned_root(backend: &BackendRef, survey: &Survey<'_>) -> Arc<Rule> {
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
        guards: None,
        logged: LoggedRequests::All,
        sizes: survey.defaults.sizes,
        backends: vec![WeightedBackend::only(backend.clone())],
        fallback: None,
        error_pages: None,
        upstream: default_upstream(),
    })
}

/// The redirect of `/`: that of the location which ingress-nginx writes first, the one with the longest path.
pub(super) fn app_root(survey: &Survey<'_>) -> Option<Route> {
    let written = survey.locations.iter().map(|location| (&*location.path.path, location.ingress));
    let root = survey.root.owner().filter(|owner| !owner.rules.is_empty()).map(|owner| ("/", owner));
    let candidates = written.chain(root).filter(|(_, ingress)| ingress.annotations.app_root.is_some());
    let (_, ingress) = candidates.min_by_key(|(path, _)| Reverse((path.len(), *path)))?;
    let redirect = ingress.annotations.app_root.clone().map(|template| redirect(302, template));
    let filters = denial(ingress, survey).into_iter().chain(redirect).collect();
    let rule = rule(ingress, survey, "app-root", "/", filters, None);
    Some(Route { matches: RouteMatch::path(PathMatch::Exact("/".into())), rank: rank(ingress, ROOT_RULE, 1), rule })
}
