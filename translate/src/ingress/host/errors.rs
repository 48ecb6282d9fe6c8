//! Error pages of a rule: those that its Ingress asks for, else those of the settings.

use std::sync::Arc;

use routing::model::{BackendRef, ErrorPages, ErrorScope};

use super::Survey;
use crate::index::fallback_ref;
use crate::ingress::Ingress;
use crate::ingress::annotations::ErrorAnnotations;

/// What replaces the errors of an Ingress. As in ingress-nginx, the statuses of the settings are for the global default
/// backend, those of the Ingress for its own one first.
pub(super) fn error_pages(ingress: &Ingress, survey: &Survey<'_>) -> Option<Arc<ErrorPages>> {
    let ErrorAnnotations { statuses, keeps_upstream } = &ingress.annotations.errors;
    let own = fallback_ref(ingress).filter(|_| statuses.is_some());
    let backends: Box<[BackendRef]> = own.into_iter().chain(survey.default_backend.cloned()).collect();
    let statuses = statuses.as_ref().unwrap_or(&survey.defaults.error_statuses);
    let scope = if keeps_upstream.unwrap_or(survey.defaults.keeps_upstream_errors) {
        ErrorScope::OwnAnswers
    } else {
        ErrorScope::All
    };
    let is_needed = !statuses.is_empty() && !backends.is_empty();
    is_needed.then(|| Arc::new(ErrorPages { statuses: statuses.clone(), scope, backends }))
}

/// Why an Ingress has no error pages although it asks for them.
pub(super) fn why_none(ingress: &Ingress, survey: &Survey<'_>) -> Option<&'static str> {
    let is_asked_for = ingress.annotations.errors.statuses.is_some();
    (is_asked_for && error_pages(ingress, survey).is_none())
        .then_some("custom-http-errors has no effect: there is neither a default-backend nor a global one")
}
