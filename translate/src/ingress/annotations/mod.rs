//! Annotations of an Ingress: typed values only, one total parser for each, and a state for every name that
//! ingress-nginx knows.

mod access;
mod affinity;
mod balance;
mod basic;
mod canary;
mod client_tls;
mod cors;
mod difference;
mod errors;
pub(crate) mod external;
mod forwarding;
mod limits;
mod mirror;
mod proxying;
mod redirects;
mod sizes;
mod table;
mod upstream_tls;
mod url;
mod value;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use routing::model::{HealthCheck, LoggedRequests, MirroredBody, UpstreamProtocol};
use routing::{HostPattern, Template};

pub use access::AccessAnnotations;
pub(crate) use access::networks;
pub use affinity::AffinityAnnotations;
pub use balance::BalanceAnnotations;
pub(crate) use balance::{algorithm, ejection};
pub use basic::BasicAnnotations;
pub use canary::CanaryAnnotations;
pub use client_tls::ClientTlsAnnotations;
pub use cors::CorsAnnotations;
pub use difference::{DIFFERENCES, difference};
pub use errors::ErrorAnnotations;
pub(crate) use errors::statuses;
pub use external::ExternalAnnotations;
pub use forwarding::ForwardingAnnotations;
pub(crate) use forwarding::Place;
pub use limits::LimitAnnotations;
pub use mirror::MirrorAnnotations;
pub use proxying::ProxyingAnnotations;
pub(crate) use proxying::{conditions, optional_timeout};
pub use redirects::RedirectAnnotations;
pub(crate) use redirects::www_twin;
pub use sizes::SizeAnnotations;
pub(crate) use sizes::{body_size, buffer_size};
pub use table::{ANNOTATIONS, AnnotationRow, OWN_ANNOTATIONS, State, When};
pub use upstream_tls::UpstreamTlsAnnotations;
pub use value::{SecretName, ValueError};
pub(crate) use value::{boolean, duration, is_url};

use super::parse::Problems;
use crate::problem::{Problem, Reason};

/// The legacy annotation that names the class of an Ingress.
pub const CLASS: &str = "kubernetes.io/ingress.class";

/// The annotations of one Ingress that have an effect, parsed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotations {
    /// `ssl-redirect`; `None` leaves it to the settings.
    pub ssl_redirect: Option<bool>,
    /// `force-ssl-redirect`; `None` leaves it to the settings.
    pub force_ssl_redirect: Option<bool>,
    /// `preserve-trailing-slash`; `None` leaves it to the settings.
    pub preserve_trailing_slash: Option<bool>,
    /// `rewrite-target`.
    pub rewrite_target: Option<Template>,
    /// `use-regex`.
    pub use_regex: bool,
    /// `app-root`.
    pub app_root: Option<Template>,
    /// `permanent-redirect`.
    pub permanent_redirect: Option<Template>,
    /// `permanent-redirect-code`.
    pub permanent_redirect_code: Option<u16>,
    /// `temporal-redirect`.
    pub temporal_redirect: Option<Template>,
    /// `temporal-redirect-code`.
    pub temporal_redirect_code: Option<u16>,
    /// How redirects are written.
    pub redirects: RedirectAnnotations,
    /// What upstreams are told about requests.
    pub forwarding: ForwardingAnnotations,
    /// `backend-protocol`.
    pub backend_protocol: Option<UpstreamProtocol>,
    /// Which endpoint takes a request.
    pub balance: BalanceAnnotations,
    /// Sessions.
    pub affinity: AffinityAnnotations,
    /// How long an upstream may take, and what happens when it fails.
    pub proxying: ProxyingAnnotations,
    /// TLS towards upstreams.
    pub upstream_tls: UpstreamTlsAnnotations,
    /// `penstock.dev/health-check`.
    pub health_check: Option<Arc<HealthCheck>>,
    /// `service-upstream`; `None` leaves it to the settings.
    pub service_upstream: Option<bool>,
    /// `default-backend`: a Service in the namespace of the Ingress.
    pub default_backend: Option<Box<str>>,
    /// What replaces errors.
    pub errors: ErrorAnnotations,
    /// Who gets copies of requests.
    pub mirror: MirrorAnnotations,
    /// `server-alias`.
    pub server_alias: Box<[HostPattern]>,
    /// What makes a canary of the Ingress.
    pub canary: CanaryAnnotations,
    /// Which clients get through.
    pub access: AccessAnnotations,
    /// Basic authentication.
    pub basic: BasicAnnotations,
    /// Certificates of clients.
    pub client_tls: ClientTlsAnnotations,
    /// External authentication.
    pub external: ExternalAnnotations,
    /// What one client may do at a time.
    pub limits: LimitAnnotations,
    /// Who may read answers from another origin.
    pub cors: CorsAnnotations,
    /// `enable-access-log`.
    pub logged: Option<LoggedRequests>,
    /// `custom-headers`: a ConfigMap in the namespace of the Ingress.
    pub custom_headers: Option<Box<str>>,
    /// How large bodies and heads may be.
    pub sizes: SizeAnnotations,
    /// Why the paths of the Ingress answer 503; empty when they do not.
    pub denials: Vec<Box<str>>,
    /// Why all paths of its hosts answer 503, those of other Ingresses too; empty when they do not.
    pub host_denials: Vec<Box<str>>,
    /// What was written, of what is known: names of today with their prefixes, and values. Read again, it gives the same.
    pub written: Box<[(Box<str>, Box<str>)]>,
}

impl Annotations {
    /// Reads the annotations of an Ingress, as far as they can be read: a value that is none refuses the object.
    pub(super) fn parse(
        annotations: Option<&BTreeMap<String, String>>,
        prefixes: &[String],
        problems: &mut Problems,
    ) -> Arc<Self> {
        let mut parsed = Self::default();
        let mut written = Vec::new();
        for (key, name, value) in recognized(annotations.into_iter().flatten(), prefixes) {
            let field = format!("metadata.annotations[{key}]");
            let Some(row) = table::find(name).or_else(|| table::find_own(key)) else {
                let message = format_args!("annotation {key} is not known").to_string();
                problems.warnings.push(Problem::warning(Reason::AnnotationUnknown, field, message));
                continue;
            };
            let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
            written.push((format!("{prefix}/{name}").into(), value.into()));
            match row.apply(value, &mut parsed) {
                Ok(None) => {}
                Ok(Some(warning)) => problems.warnings.push(Problem { field, ..warning }),
                Err(error) => {
                    let message = format_args!("annotation {key}: {error}").to_string();
                    problems.errors.push(Problem::error(Reason::AnnotationParsingFailed, field, message));
                }
            }
        }
        // Most Ingresses have no annotation of ours: they share one value.
        static NONE: LazyLock<Arc<Annotations>> = LazyLock::new(Arc::default);
        if parsed == **NONE {
            return Arc::clone(&NONE);
        }
        Arc::new(Self { written: written.into(), ..parsed })
    }

    /// Annotations that say nothing without another one, whether that one is there, and which of them are.
    pub(crate) fn followers(&self) -> [(&'static str, bool, Vec<&'static str>); 3] {
        let set =
            |all: &[(&'static str, bool)]| all.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
        let ClientTlsAnnotations { secret, demand, depth, error_page, told: _, subject } = &self.client_tls;
        let client_tls = [
            ("auth-tls-verify-client", demand.is_some_and(|demand| demand.is_some())),
            ("auth-tls-verify-depth", depth.is_some()),
            ("auth-tls-error-page", error_page.is_some()),
            ("auth-tls-match-cn", subject.is_some()),
        ];
        let external = [
            ("auth-method", self.external.method.is_some()),
            ("auth-signin", self.external.signin.is_some()),
            ("auth-response-headers", !self.external.response_headers.is_empty()),
            ("auth-cache-key", self.external.cache_key.is_some()),
            ("auth-proxy-set-headers", self.external.request_headers.is_some()),
        ];
        let mirror = [
            ("mirror-host", self.mirror.host.is_some()),
            ("mirror-request-body", self.mirror.body == MirroredBody::Nothing),
        ];
        [
            ("auth-tls-secret", secret.is_some(), set(&client_tls)),
            ("auth-url", self.external.url.is_some(), set(&external)),
            ("mirror-target", self.mirror.url.is_some(), set(&mirror)),
        ]
    }

    /// Whether a path becomes a regular expression by these annotations, and with it every path of its host.
    #[must_use]
    pub fn forces_regex(&self, path: &str) -> bool {
        self.use_regex || self.rewrite_target.as_ref().is_some_and(|target| target.as_str() != path)
    }
}

/// The annotations under our prefixes as key, name without prefix and value, each name once: a value that says something
/// wins, then the prefix that stands first, then the spelling of today.
pub fn recognized<'a>(
    annotations: impl IntoIterator<Item = (&'a String, &'a String)>,
    prefixes: &[String],
) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
    let mut own: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    let mut ranks: BTreeMap<&str, (bool, usize, bool)> = BTreeMap::new();
    for (key, value) in annotations {
        let Some((prefix, name)) = key.split_once('/') else { continue };
        let Some(prefix) = prefixes.iter().position(|known| known == prefix) else { continue };
        let canonical = table::canonical(name);
        let rank = (value.trim().is_empty(), prefix, name != canonical);
        if ranks.get(canonical).is_none_or(|known| rank < *known) {
            ranks.insert(canonical, rank);
            own.insert(canonical, (key, value));
        }
    }
    own.into_iter().map(|(name, (key, value))| (key, name, value))
}

#[cfg(test)]
mod tests;
