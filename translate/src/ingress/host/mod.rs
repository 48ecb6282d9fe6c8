//! From the Ingresses that speak of one host to what the host does: pure, and a function of nothing else.

mod implied;
mod location;
mod rule;
mod tls;

use std::sync::Arc;

use routing::model::{BackendRef, Host};
use routing::{HostPattern, PathMatch};

use self::implied::{app_root, implicit_root, trailing_slash_redirect};
use self::location::{claim, regex_of_literal, warn_victims};
use self::tls::tls;
use super::{Ingress, PathForm};
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
