//! Paths of a host that won their place, and what becomes of them on a host of regular expressions.

use routing::model::{Route, RouteMatch};
use routing::{MatchError, PathMatch, RegexPattern};

use super::Neighbours;
use super::rule::{filters, rank, rule};
use crate::index::backend_ref;
use crate::ingress::{Ingress, IngressPath, PathForm, PathKind};
use crate::problem::{Problem, Reason};
use crate::resources::NamespacedName;

/// A path of the host that won its place.
pub(super) struct Location<'a> {
    pub(super) ingress: &'a Ingress,
    pub(super) path: &'a IngressPath,
    pub(super) rule: usize,
    pub(super) entry: usize,
}

/// Gives each path to the oldest Ingress that claims it.
///
/// As in ingress-nginx, two paths are one when their text and their type are: the same path as `Exact` and as `Prefix`
/// stand side by side, and a missing type is `Prefix`.
pub(super) fn claim<'a>(
    neighbours: &Neighbours<'a>,
    problems: &mut Vec<(NamespacedName, Problem)>,
) -> Vec<Location<'a>> {
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

    pub(super) fn field(&self) -> String {
        format!("spec.rules[{}].http.paths[{}].path", self.rule, self.entry)
    }

    pub(super) fn route(&self, path: PathMatch, neighbours: &Neighbours<'_>) -> Route {
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
pub(super) fn regex_of_literal(
    location: &Location<'_>,
    locations: &[Location<'_>],
) -> Result<RegexPattern, MatchError> {
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

pub(super) fn warn_victims(
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
