//! Parts of a rule: its rank, its filters, its way to the upstream.

use std::fmt;
use std::sync::{Arc, LazyLock};

use routing::model::{
    BackendRef, Filter, Order, Origin, PathRewrite, Rank, Redirect, RedirectTarget, RedirectWhen, Rewrite, Rule,
    SizeLimits, WeightedBackend,
};
use routing::{HostPattern, Template};

use super::guard::guards;
use super::headers::custom_headers;
use super::upstream::upstream;
use super::{Survey, errors, external};
use crate::index::fallback_ref;
use crate::ingress::Ingress;
use crate::ingress::annotations::{Annotations, Place, SizeAnnotations, is_url};
use crate::settings::IngressDefaults;

pub(super) fn rank(ingress: &Ingress, rule: usize, entry: usize) -> Rank {
    let index = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    Rank { order: Order::Ingress, created: ingress.meta.created, rule: index(rule), entry: index(entry) }
}

pub(super) fn rule(
    ingress: &Ingress,
    survey: &Survey<'_>,
    place: &str,
    path: &str,
    filters: Arc<[Filter]>,
    backend: Option<BackendRef>,
) -> Arc<Rule> {
    let host = match survey.host {
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
        guards: guards(ingress, path, survey),
        backends: backend.map(WeightedBackend::only).into_iter().collect(),
        fallback: fallback_ref(ingress),
        error_pages: errors::error_pages(ingress, survey),
        logged: ingress.annotations.logged.unwrap_or_default(),
        sizes: sizes(&ingress.annotations.sizes, survey.defaults),
        upstream: upstream(ingress, &survey.defaults.upstream),
    })
}

fn sizes(annotations: &SizeAnnotations, defaults: &IngressDefaults) -> SizeLimits {
    let SizeAnnotations { request_body, response_head } = *annotations;
    SizeLimits {
        request_body: request_body.unwrap_or(defaults.sizes.request_body),
        response_head: response_head.unwrap_or(defaults.sizes.response_head),
    }
}

/// The filters of a path, in nginx's order: what denies, the answer to a preflight, what `return`s, a rewrite to a URL,
/// the redirect to HTTPS, the rewrite, the mirror. A path without a place has a backend that is no Service.
pub(super) fn filters(ingress: &Ingress, path: &str, place: Option<&Place<'_>>, survey: &Survey<'_>) -> Arc<[Filter]> {
    let annotations = &*ingress.annotations;
    if let Some(denial) = denial(ingress, survey) {
        return Arc::new([denial]);
    }
    let mut filters: Vec<Filter> = annotations.cors.resolve().map(Filter::Cors).into_iter().collect();
    let Annotations { temporal_redirect, temporal_redirect_code, permanent_redirect, permanent_redirect_code, .. } =
        annotations;
    if let Some(url) = temporal_redirect {
        filters.push(redirect(temporal_redirect_code.unwrap_or(302), url.clone()));
    } else if let Some(url) = permanent_redirect {
        let status = permanent_redirect_code.unwrap_or(301);
        let is_path = url.as_str().starts_with('/');
        filters.push(if is_path {
            path_redirect(status, url.clone(), ingress, survey)
        } else {
            redirect(status, url.clone())
        });
    }
    let target = annotations.rewrite_target.as_ref().filter(|target| target.as_str() != path);
    let (url, target) =
        target.map_or(
            (None, None),
            |target| {
                if is_url(target.as_str()) { (Some(target), None) } else { (None, Some(target)) }
            },
        );
    // "If a replacement string starts with http://, https://, or $scheme, the redirect is returned to a client", with
    // the query behind it.
    let url = url.and_then(|url| Template::parse(&format!("{}$is_args$args", url.as_str())).ok());
    filters.extend(url.map(|url| redirect(302, url)));
    filters.extend(https_redirect(annotations, survey.defaults));
    match custom_headers(ingress, survey) {
        Ok(headers) => filters.extend(headers),
        Err(why) => return Arc::new([Filter::Deny(why.into())]),
    }
    if place.is_none() {
        filters.push(Filter::Deny("the backend of the path is not a Service".into()));
    }
    let rewrite = Rewrite {
        host: place.and_then(|place| annotations.forwarding.host(place)),
        path: target.map(|target| PathRewrite::Captures(target.clone())),
        // As in ingress-nginx: what no rewrite takes away needs no telling.
        prefix: target.and(annotations.forwarding.prefix.clone()),
    };
    if rewrite != Rewrite::default() {
        filters.push(Filter::Rewrite(rewrite));
    }
    filters.extend(annotations.mirror.resolve().map(Filter::Mirror));
    shared(filters)
}

/// What keeps everybody out: the global settings, the Ingress itself, or another one for the whole host.
pub(super) fn denial(ingress: &Ingress, survey: &Survey<'_>) -> Option<Filter> {
    let Annotations { denials, host_denials, .. } = &*ingress.annotations;
    let external = external::external(ingress, survey).err();
    let own = survey.defaults.denials.iter().chain(denials).chain(host_denials).map(|denial| &**denial);
    let own: Vec<&str> = own.chain(external.as_deref()).collect();
    if !own.is_empty() {
        return Some(Filter::Deny(own.join("; ").into()));
    }
    survey.denial.as_ref().map(|denial| Filter::Deny(denial.to_string().into()))
}

/// What keeps everybody out of a host.
pub(super) struct HostDenial<'a>(&'a Ingress);

impl<'a> HostDenial<'a> {
    /// The oldest Ingress of the host that asks for a restriction of the whole host.
    pub(super) fn of(ingresses: &[&'a Arc<Ingress>]) -> Option<Self> {
        let mut denying = ingresses.iter().filter(|ingress| !ingress.annotations.host_denials.is_empty());
        // ingress-nginx looks at rules for this, so that an Ingress without any restricts itself only.
        denying.find(|ingress| !ingress.rules.is_empty()).map(|ingress| Self(ingress))
    }
}

impl fmt::Display for HostDenial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (Ingress {})", self.0.annotations.host_denials.join("; "), self.0.meta.key())
    }
}

pub(super) fn redirect(status: u16, location: Template) -> Filter {
    Filter::Redirect(Redirect { when: RedirectWhen::Always, to: RedirectTarget::Location(location), status })
}

/// A redirect to a path of the same host.
pub(super) fn path_redirect(status: u16, target: Template, ingress: &Ingress, survey: &Survey<'_>) -> Filter {
    let to = RedirectTarget::Path { target, base: ingress.annotations.redirects.base(survey.defaults) };
    Filter::Redirect(Redirect { when: RedirectWhen::Always, to, status })
}

/// What ingress-nginx's variables say of a path.
pub(super) fn variables<'a>(ingress: &'a Ingress, backend: Option<&'a BackendRef>) -> Place<'a> {
    Place {
        namespace: &ingress.meta.namespace,
        ingress: &ingress.meta.name,
        service: backend.map_or("", |backend| &backend.service),
        port: backend.map(|backend| backend.port.to_string()).unwrap_or_default(),
    }
}

fn https_redirect(annotations: &Annotations, defaults: &IngressDefaults) -> Option<Filter> {
    let when = if annotations.force_ssl_redirect.unwrap_or(defaults.force_ssl_redirect) {
        RedirectWhen::PlainText
    } else if annotations.ssl_redirect.unwrap_or(defaults.ssl_redirect) {
        RedirectWhen::PlainTextWithCertificate
    } else {
        return None;
    };
    let keep_trailing_slash = annotations.preserve_trailing_slash.unwrap_or(defaults.preserve_trailing_slash);
    let to = RedirectTarget::Https { keep_trailing_slash, with_port: annotations.redirects.has_port(defaults) };
    Some(Filter::Redirect(Redirect { when, to, status: defaults.http_redirect_code }))
}

/// Nearly every rule has the same list: it is kept once.
fn shared(filters: Vec<Filter>) -> Arc<[Filter]> {
    static USUAL: LazyLock<Arc<[Filter]>> =
        LazyLock::new(|| https_redirect(&Annotations::default(), &IngressDefaults::default()).into_iter().collect());
    if *filters == **USUAL { Arc::clone(&USUAL) } else { filters.into() }
}
