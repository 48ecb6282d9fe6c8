//! Parts of a rule: its rank, its filters, its way to the upstream.

use std::sync::{Arc, LazyLock};

use routing::model::{
    BackendRef, Filter, Order, Origin, PathRewrite, Rank, Redirect, RedirectTarget, RedirectWhen, Rewrite, Rule,
    UpstreamPolicy, WeightedBackend,
};
use routing::{HostPattern, Template};

use super::Neighbours;
use crate::index::fallback_ref;
use crate::ingress::Ingress;
use crate::ingress::annotations::Annotations;
use crate::settings::IngressDefaults;

pub(super) fn rank(ingress: &Ingress, rule: usize, entry: usize) -> Rank {
    let index = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    Rank { order: Order::Ingress, created: ingress.meta.created, rule: index(rule), entry: index(entry) }
}

pub(super) fn rule(
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

pub(super) fn default_upstream() -> Arc<UpstreamPolicy> {
    static DEFAULT: LazyLock<Arc<UpstreamPolicy>> = LazyLock::new(Arc::default);
    Arc::clone(&DEFAULT)
}

/// The filters of a path, in nginx's order: what denies, what `return`s, the redirect to HTTPS, the rewrite.
pub(super) fn filters(ingress: &Ingress, path: &str, has_backend: bool, defaults: &IngressDefaults) -> Arc<[Filter]> {
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

pub(super) fn deny(annotations: &Annotations) -> Option<Filter> {
    (!annotations.denials.is_empty()).then(|| Filter::Deny(annotations.denials.join("; ").into()))
}

pub(super) fn redirect(status: u16, location: Template) -> Filter {
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
