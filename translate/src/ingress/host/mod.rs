//! From the Ingresses that speak of one host to what the host does: pure, and a function of nothing else.

mod canary;
mod client_tls;
mod errors;
mod external;
mod guard;
mod headers;
mod implied;
mod location;
mod rule;
mod tls;
mod upstream;

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::{BackendRef, Host};
use routing::{HostPattern, PathMatch};

use self::canary::Canaries;
use self::client_tls::client_tls;
use self::implied::{Root, app_root, trailing_slash_redirect};
use self::location::{Locations, regex_of_literal};
use self::rule::HostDenial;
use self::tls::tls;
use super::{Ingress, PathForm};
use crate::problem::{Problem, Reason};
use crate::resources::{ConfigMap, NamespacedName};
use crate::settings::IngressDefaults;

/// What a host is translated from.
pub(crate) struct Neighbours<'a> {
    /// The host.
    pub(crate) host: &'a HostPattern,
    /// The Ingresses that have a rule for it, in the order of precedence: the oldest first.
    pub(crate) ingresses: Vec<&'a Arc<Ingress>>,
    /// The canaries that have a rule for it, in the same order.
    pub(crate) canaries: Vec<&'a Arc<Ingress>>,
    /// The ConfigMaps that are known.
    pub(crate) config_maps: &'a BTreeMap<NamespacedName, ConfigMap>,
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

/// What has to be known of a host before any of its routes is written.
struct Survey<'a> {
    host: &'a HostPattern,
    config_maps: &'a BTreeMap<NamespacedName, ConfigMap>,
    defaults: &'a IngressDefaults,
    default_backend: Option<&'a BackendRef>,
    locations: Locations<'a>,
    canaries: Canaries<'a>,
    root: Root<'a>,
    /// The Ingress that makes a regular expression of every path of the host.
    regex_cause: Option<&'a Ingress>,
    /// Why every path of the host answers 503.
    denial: Option<HostDenial<'a>>,
}

/// Translates a host.
pub(crate) fn translate_host(neighbours: &Neighbours<'_>) -> HostTranslation {
    let mut problems = Vec::new();
    let survey = Survey::new(neighbours, &mut problems);
    survey.warn_victims(neighbours, &mut problems);
    survey.warn_denied(neighbours, &mut problems);
    survey.warn_without_pages(neighbours, &mut problems);
    let mut routes = Vec::new();
    for location in survey.locations.iter() {
        let matched = match (&location.path.form, survey.regex_cause) {
            (PathForm::Literal(literal), None) => literal.clone(),
            (PathForm::Regex(pattern), _) => PathMatch::Regex(pattern.clone()),
            (PathForm::Literal(_), Some(_)) => match regex_of_literal(location, &survey.locations) {
                Ok(pattern) => PathMatch::Regex(pattern),
                Err(error) => {
                    let problem = Problem::error(Reason::InvalidValue, location.field(), error);
                    problems.push((location.ingress.meta.key(), problem));
                    continue;
                }
            },
        };
        routes.extend(trailing_slash_redirect(location, &survey));
        routes.push(location.route(matched, &survey));
    }
    routes.extend(survey.root.route(&survey));
    if let Some(route) = app_root(&survey) {
        // nginx looks at the app root before it looks for a location.
        routes.retain(|other| !matches!(&other.matches.path, PathMatch::Exact(path) if **path == *"/"));
        routes.push(route);
    }
    let (tls, client_tls) = (tls(neighbours, &mut problems), client_tls(neighbours, &mut problems));
    HostTranslation { host: Host { tls, client_tls, routes: routes.into() }, problems }
}

impl<'a> Survey<'a> {
    fn new(neighbours: &Neighbours<'a>, problems: &mut Vec<(NamespacedName, Problem)>) -> Self {
        let Neighbours { host, ingresses, canaries: _, config_maps, defaults, default_backend } = neighbours;
        let locations = Locations::claim(neighbours, problems);
        let canaries = Canaries::attach(neighbours, &locations, problems);
        let root = Root::of(neighbours, &locations, problems);
        let forced = locations.iter().find(|location| matches!(location.path.form, PathForm::Regex(_)));
        // The implied root is a location with the annotations of its Ingress, as any other.
        let regex_cause = forced
            .map(|location| location.ingress)
            .or_else(|| root.owner().filter(|owner| !owner.rules.is_empty() && owner.annotations.forces_regex("/")));
        let denial = HostDenial::of(ingresses);
        let default_backend = *default_backend;
        Self { host, config_maps, defaults, default_backend, locations, canaries, root, regex_cause, denial }
    }

    /// Tells the authors who ask for something that cannot be had, and whose paths are closed for it.
    fn warn_denied(&self, neighbours: &Neighbours<'_>, problems: &mut Vec<(NamespacedName, Problem)>) {
        for ingress in &neighbours.ingresses {
            let whys = [external::external(ingress, self).err(), headers::custom_headers(ingress, self).err()];
            for why in whys.into_iter().flatten() {
                let message = format_args!("annotation {why}; the paths of this Ingress answer 503").to_string();
                problems.push((ingress.meta.key(), Problem::error(Reason::Denied, "metadata.annotations", message)));
            }
        }
    }

    /// Tells the authors who ask for error pages that nobody serves.
    fn warn_without_pages(&self, neighbours: &Neighbours<'_>, problems: &mut Vec<(NamespacedName, Problem)>) {
        for ingress in &neighbours.ingresses {
            if let Some(why) = errors::why_none(ingress, self) {
                let problem = Problem::warning(Reason::AnnotationIgnored, "metadata.annotations", why);
                problems.push((ingress.meta.key(), problem));
            }
        }
    }

    /// Tells the authors whose paths mean something else because of another object.
    fn warn_victims(&self, neighbours: &Neighbours<'_>, problems: &mut Vec<(NamespacedName, Problem)>) {
        let host = self.host.to_string();
        if let Some(cause) = self.regex_cause {
            let cause = cause.meta.key();
            for location in self.locations.iter().filter(|one| matches!(one.path.form, PathForm::Literal(_))) {
                let message = format_args!(
                    "every path of host {host:?} is a regular expression, matched without case and as a prefix, \
                     because of use-regex or rewrite-target on Ingress {cause}"
                )
                .to_string();
                let problem = Problem::warning(Reason::RegexHost, location.field(), message);
                problems.push((location.ingress.meta.key(), problem));
            }
        }
        if let Some(denial) = &self.denial {
            let victims = neighbours.ingresses.iter().filter(|ingress| ingress.annotations.host_denials.is_empty());
            for victim in victims {
                let message = format_args!("the paths of host {host:?} answer 503: {denial}").to_string();
                problems.push((victim.meta.key(), Problem::error(Reason::Denied, "", message)));
            }
        }
    }
}
