//! Canaries of a host: Ingresses that add a second backend to a path which another one has.

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::{BackendRef, Canary, Rule, UpstreamPolicy};

use super::Neighbours;
use super::location::{Location, Locations};
use crate::index::backend_ref;
use crate::ingress::{Ingress, PathKind};
use crate::problem::{Problem, Reason};
use crate::resources::NamespacedName;
use crate::settings::IngressDefaults;

/// The canaries of a host, by the paths that they add to: by whether they are exact, and by their text.
#[derive(Default)]
pub(super) struct Canaries<'a>(BTreeMap<(bool, &'a str), Attached<'a>>);

struct Attached<'a> {
    ingress: &'a Ingress,
    backend: BackendRef,
}

impl<'a> Canaries<'a> {
    /// Gives each path the canary of the oldest Ingress that has one for it, as ingress-nginx does: with equal host, path
    /// and type. What finds no place is told to its author.
    pub(super) fn attach(
        neighbours: &Neighbours<'a>,
        locations: &Locations<'a>,
        problems: &mut Vec<(NamespacedName, Problem)>,
    ) -> Self {
        let mut canaries = Self::default();
        for ingress in &neighbours.canaries {
            let rules = ingress.rules.iter().enumerate().filter(|(_, rule)| rule.host == *neighbours.host);
            let paths = rules.flat_map(|(rule, found)| found.paths.iter().enumerate().map(move |path| (rule, path)));
            for (rule, (entry, path)) in paths {
                let place = (path.kind == PathKind::Exact, &*path.path);
                let backend = path.backend.as_ref().map(|backend| backend_ref(ingress, backend));
                let why = match (locations.find(place.0, place.1), canaries.0.get(&place), backend) {
                    (_, _, None) => "its backend is not a Service".to_owned(),
                    (None, _, _) => "no other Ingress has this host and path with this type".to_owned(),
                    (_, Some(first), _) => format!("the path already has the canary {}", first.ingress.meta.key()),
                    (Some(primary), None, Some(backend)) if primary.backend().as_ref() == Some(&backend) => {
                        format!("Ingress {} sends the path there already", primary.ingress.meta.key())
                    }
                    (Some(_), None, Some(backend)) => {
                        canaries.0.insert(place, Attached { ingress, backend });
                        continue;
                    }
                };
                let field = format!("spec.rules[{rule}].http.paths[{entry}]");
                let message = format_args!("the canary has no effect: {why}").to_string();
                problems.push((ingress.meta.key(), Problem::warning(Reason::AnnotationIgnored, field, message)));
            }
        }
        canaries
    }

    /// The rule of a location, with its canary if it has one. Of the canary's annotations only those count
    /// that say which of its endpoints is chosen; sessions are the primary's unless it is to be apart.
    pub(super) fn add(&self, location: &Location<'_>, rule: Arc<Rule>, defaults: &IngressDefaults) -> Arc<Rule> {
        let place = (location.path.kind == PathKind::Exact, &*location.path.path);
        let Some(Attached { ingress, backend }) = self.0.get(&place) else { return rule };
        let annotations = &*ingress.annotations;
        let affinity = if annotations.affinity.is_canary_apart {
            annotations.affinity.affinity()
        } else {
            rule.upstream.affinity.clone()
        };
        let canary = Canary {
            backend: backend.clone(),
            header: annotations.canary.header(),
            cookie: annotations.canary.cookie.clone(),
            weight: annotations.canary.weight,
            total: annotations.canary.total(),
            balance: annotations.balance.over(&defaults.upstream.balance),
            affinity,
        };
        let upstream = UpstreamPolicy { canary: Some(Arc::new(canary)), ..UpstreamPolicy::clone(&rule.upstream) };
        Arc::new(Rule { upstream: Arc::new(upstream), ..Rule::clone(&rule) })
    }
}
