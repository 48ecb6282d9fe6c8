//! Paths of a host that won their place, and what becomes of them on a host of regular expressions.

use std::collections::HashMap;

use routing::model::{BackendRef, Route, RouteMatch};
use routing::{MatchError, PathMatch, RegexPattern};

use super::rule::{filters, rank, rule, variables};
use super::{Neighbours, Survey};
use crate::index::backend_ref;
use crate::ingress::{Ingress, IngressPath, PathForm, PathKind};
use crate::problem::{Problem, Reason};
use crate::resources::NamespacedName;

/// A path of the host that won its place.
#[derive(Clone, Copy)]
pub(super) struct Location<'a> {
    pub(super) ingress: &'a Ingress,
    pub(super) path: &'a IngressPath,
    rule: usize,
    entry: usize,
}

/// The paths of a host that won their places, those of the oldest Ingress first.
#[derive(Default)]
pub(super) struct Locations<'a> {
    all: Vec<Location<'a>>,
    /// By whether they are exact, and by their text.
    by_text: HashMap<(bool, &'a str), usize>,
    /// The literal ones, by whether they are exact, and by what they match.
    by_literal: HashMap<(bool, &'a str), usize>,
}

// === impl Locations ===

impl<'a> Locations<'a> {
    /// Gives each path to the oldest Ingress that claims it.
    ///
    /// As in ingress-nginx, two paths are one when their text and their type are: the same path as `Exact` and as
    /// `Prefix` stand side by side, and a missing type is `Prefix`. Prefixes that differ by a trailing slash only are
    /// one too: the Ingress specification has them match the same requests.
    pub(super) fn claim(neighbours: &Neighbours<'a>, problems: &mut Vec<(NamespacedName, Problem)>) -> Self {
        let mut locations = Self::default();
        for ingress in &neighbours.ingresses {
            let rules = ingress.rules.iter().enumerate().filter(|(_, rule)| rule.host == *neighbours.host);
            let paths = rules.flat_map(|(rule, found)| found.paths.iter().enumerate().map(move |path| (rule, path)));
            for (rule, (entry, path)) in paths {
                let location = Location { ingress, path, rule, entry };
                let Some(winner) = locations.add(location) else { continue };
                let message = format_args!(
                    "host {:?} path {:?} is already claimed by Ingress {}",
                    neighbours.host.to_string(),
                    path.path,
                    winner.ingress.meta.key(),
                )
                .to_string();
                problems.push((ingress.meta.key(), Problem::error(Reason::Conflict, location.field(), message)));
            }
        }
        locations
    }

    /// Adds a location, unless its place is taken: then by the one that is returned.
    fn add(&mut self, location: Location<'a>) -> Option<Location<'a>> {
        let is_exact = location.path.kind == PathKind::Exact;
        let by_text = (is_exact, &*location.path.path);
        let by_literal = location.path.literal_text().map(|text| (is_exact, text));
        let taken = self.by_text.get(&by_text).or_else(|| self.by_literal.get(&by_literal?));
        if let Some(winner) = taken {
            return Some(self.all[*winner]);
        }
        self.by_text.insert(by_text, self.all.len());
        self.by_literal.extend(by_literal.map(|text| (text, self.all.len())));
        self.all.push(location);
        None
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Location<'a>> {
        self.all.iter()
    }

    /// The location with this text that is exact, or not.
    pub(super) fn find(&self, is_exact: bool, text: &str) -> Option<&Location<'a>> {
        self.by_text.get(&(is_exact, text)).map(|index| &self.all[*index])
    }
}

impl IngressPath {
    /// The text that a literal path matches.
    fn literal_text(&self) -> Option<&str> {
        match &self.form {
            PathForm::Literal(PathMatch::Exact(path)) => Some(path),
            PathForm::Literal(PathMatch::Prefix(prefix)) => Some(prefix.as_str()),
            PathForm::Literal(PathMatch::Regex(_)) | PathForm::Regex(_) => None,
        }
    }
}

// === impl Location ===

impl Location<'_> {
    /// Where its requests go.
    pub(super) fn backend(&self) -> Option<BackendRef> {
        self.path.backend.as_ref().map(|backend| backend_ref(self.ingress, backend))
    }

    pub(super) fn field(&self) -> String {
        format!("spec.rules[{}].http.paths[{}].path", self.rule, self.entry)
    }

    pub(super) fn route(&self, path: PathMatch, survey: &Survey<'_>) -> Route {
        let backend = self.backend();
        let place = format!("rules[{}].paths[{}]", self.rule, self.entry);
        let variables = backend.as_ref().map(|backend| variables(self.ingress, Some(backend)));
        let filters = filters(self.ingress, &self.path.path, variables.as_ref(), survey);
        let rule = rule(self.ingress, survey, &place, &self.path.path, filters, backend);
        let rule = survey.canaries.add(self, rule, survey.defaults);
        Route { matches: RouteMatch::path(path), rank: rank(self.ingress, self.rule, self.entry), rule }
    }
}

/// On a host of regular expressions a literal becomes one too. ingress-nginx writes a `Prefix` as two locations,
/// `/foo/` and `/foo`, of which the shorter one matches all that the longer one does; only where the same path is also
/// there as `Exact` does the longer one stand alone.
///
/// A literal that is no regular expression would be the end of nginx; here it matches itself.
pub(super) fn regex_of_literal(location: &Location<'_>, locations: &Locations<'_>) -> Result<RegexPattern, MatchError> {
    let path = &*location.path.path;
    let is_prefix = location.path.kind != PathKind::Exact;
    let has_exact_twin = is_prefix && path != "/" && locations.find(true, path).is_some();
    let slash = if has_exact_twin && !path.ends_with('/') { "/" } else { "" };
    let pattern = format!("{path}{slash}");
    RegexPattern::ingress_location(&pattern).or_else(|_| RegexPattern::ingress_location(&escaped(&pattern)))
}

/// The regular expression that matches a text and no other.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| ['\\'].into_iter().filter(move |_| r".+*?()|[]{}^$\".contains(c)).chain([c])).collect()
}
