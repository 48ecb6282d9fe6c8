//! From the model of one host to what a request is looked up in.

mod client_tls;
mod cors;
mod external;
mod guard;
mod mirror;
mod stream;
mod upstream_tls;
mod url;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use smallvec::SmallVec;

pub use client_tls::CompiledClientTls;
pub use cors::CompiledCors;
pub use external::{CompiledExternalAuth, Question};
pub use guard::{CompiledBasicAuth, CompiledGuards, CompiledLimits};
pub use mirror::{CompiledMirror, CopyTarget};
pub use stream::CompiledStream;
pub use upstream_tls::{CompiledUpstreamTls, UpstreamTrust};

use crate::authority::Authority;
use crate::certificate::Certificate;
use crate::credentials::Credentials;
use crate::endpoint::Backend;
use crate::host::{HostPattern, WildcardDepth};
use crate::inline_text::InlineText;
use crate::lane::{Lane, LaneCell};
use crate::matcher::{HeaderMatch, QueryMatch};
use crate::model::{
    AuthorityRef, BackendRef, CertificateRef, CredentialsRef, Filter, Host, HostTls, RouteMatch, Rule, StreamRoute,
    WeightedBackend,
};
use crate::path::PathMatch;
use crate::precedence;
use crate::request::RequestView;
use crate::slot::Slot;
use crate::table::RouteTable;

/// A host, ready for lookups. What a lookup touches lies together: with many hosts, its cost is that of the cache lines
/// which have to come from memory.
#[derive(Clone)]
pub(crate) struct CompiledHost {
    name: InlineText<INLINE_NAME>,
    kind: PatternKind,
    pub(crate) routes: RouteTable,
    /// `None` where it has no TLS of its own and asks clients for none.
    security: Option<Arc<HostSecurity>>,
}

/// What TLS connections for a host are: few lookups want it, so it lies elsewhere.
struct HostSecurity {
    tls: CompiledTls,
    client_tls: Option<Arc<CompiledClientTls>>,
}

/// Which kind of pattern the name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PatternKind {
    Exact,
    OneLabel,
    ManyLabels,
    Any,
}

/// Covers `tenant.application.environment.example.com` and the like.
const INLINE_NAME: usize = 46;

/// What happens to a TLS connection for a host.
pub(crate) enum CompiledTls {
    /// Nobody asked for TLS here: the default certificate.
    Default,
    /// One of these certificates.
    Terminate(Box<[Arc<CertificateCell>]>),
    /// The bytes go on as they are.
    Passthrough(Arc<StreamRoute>),
}

/// The place of a certificate that hosts refer to.
pub(crate) type CertificateCell = LaneCell<CertificateRef, Certificate>;

/// A route, ready for lookups.
#[derive(Clone)]
pub struct CompiledRoute {
    /// What the path must be.
    pub path: PathMatch,
    /// What else a request must be; most routes want nothing else.
    pub conditions: Option<Arc<Conditions>>,
    /// What happens then.
    pub rule: Arc<CompiledRule>,
    /// Where its requests go, when nothing but the route decides that.
    pub(crate) only_backend: Option<Arc<Backend>>,
}

/// What a request must be beside its path.
pub struct Conditions {
    /// The method; `None` for every method.
    pub method: Option<Method>,
    /// Headers that must be there.
    pub headers: Box<[HeaderMatch]>,
    /// Query parameters that must be there.
    pub query: Box<[QueryMatch]>,
}

/// A rule with the backends that it refers to.
#[derive(Debug)]
pub struct CompiledRule {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The filters of the rule, without a way through it.
    pub filters: Arc<[Filter]>,
    /// Where requests go.
    pub targets: SmallVec<[Target; 1]>,
    /// Where they go instead when the chosen target has no endpoint.
    pub fallback: Option<Arc<Backend>>,
    /// Who serves its error pages: the first that has endpoints.
    pub error_pages: Box<[Arc<Backend>]>,
    /// The backend of the canary.
    pub canary: Option<Arc<Backend>>,
    /// What the clients of its host must show.
    pub client_tls: Option<Arc<CompiledClientTls>>,
    /// What connections to its upstreams are made with, beside the defaults.
    pub upstream_tls: Option<Box<CompiledUpstreamTls>>,
    /// What a request must get past before it goes on.
    pub guards: Option<Box<CompiledGuards>>,
    /// Who gets copies of its requests.
    pub mirror: Option<Box<CompiledMirror>>,
    /// What answers to other origins are marked with.
    pub cors: Option<Box<CompiledCors>>,
    /// Room for what the data plane derives from the rule, such as its metric handles.
    pub slot: Slot,
    total_weight: u32,
    /// Whether some of its requests find their endpoint by a key.
    pub(crate) has_key: bool,
}

/// A backend and its share of the requests of a rule.
#[derive(Debug)]
pub struct Target {
    /// The backend; `None` for a reference that cannot be followed.
    pub backend: Option<Arc<Backend>>,
    /// The sum of the weights up to and with this target.
    cumulative_weight: u32,
}

/// What a host is compiled against.
pub(crate) struct Linker<'a> {
    pub(crate) backends: &'a mut dyn FnMut(&BackendRef) -> Arc<Backend>,
    pub(crate) certificates: &'a mut Lane<CertificateRef, Certificate>,
    pub(crate) credentials: &'a mut Lane<CredentialsRef, Credentials>,
    pub(crate) authorities: &'a mut Lane<AuthorityRef, Authority>,
}

// === impl CompiledHost ===

impl CompiledHost {
    pub(crate) fn compile(pattern: HostPattern, host: &Host, linker: &mut Linker<'_>) -> Self {
        let mut sorted: Vec<_> = host.routes.iter().collect();
        sorted.sort_by(|a, b| precedence::compare(a, b));
        let client_tls = host.client_tls.as_ref().map(|tls| Arc::new(CompiledClientTls::compile(tls, linker)));
        let mut rules: BTreeMap<*const Rule, Arc<CompiledRule>> = BTreeMap::new();
        let routes = sorted
            .into_iter()
            .map(|route| {
                let rule = rules
                    .entry(Arc::as_ptr(&route.rule))
                    .or_insert_with(|| Arc::new(CompiledRule::compile(&route.rule, client_tls.as_ref(), linker)));
                CompiledRoute::new(&route.matches, Arc::clone(rule))
            })
            .collect();
        let tls = match &host.tls {
            None => CompiledTls::Default,
            Some(HostTls::Terminate(certificates)) => CompiledTls::Terminate(
                certificates.iter().map(|reference| linker.certificates.cell(reference)).collect(),
            ),
            Some(HostTls::Passthrough(route)) => CompiledTls::Passthrough(Arc::new(route.clone())),
        };
        let (kind, name) = match &pattern {
            HostPattern::Exact(name) => (PatternKind::Exact, &**name),
            HostPattern::Wildcard { suffix, depth: WildcardDepth::One } => (PatternKind::OneLabel, &**suffix),
            HostPattern::Wildcard { suffix, depth: WildcardDepth::OneOrMore } => (PatternKind::ManyLabels, &**suffix),
            HostPattern::Any => (PatternKind::Any, ""),
        };
        let is_plain = matches!(tls, CompiledTls::Default) && client_tls.is_none();
        let security = (!is_plain).then(|| Arc::new(HostSecurity { tls, client_tls }));
        Self { name: name.into(), kind, routes: RouteTable::new(routes), security }
    }

    pub(crate) fn tls(&self) -> &CompiledTls {
        self.security.as_ref().map_or(&CompiledTls::Default, |security| &security.tls)
    }

    pub(crate) fn client_tls(&self) -> Option<&Arc<CompiledClientTls>> {
        self.security.as_ref()?.client_tls.as_ref()
    }

    pub(crate) fn pattern(&self) -> HostPattern {
        let wildcard = |depth| HostPattern::Wildcard { suffix: self.name().into(), depth };
        match self.kind {
            PatternKind::Exact => HostPattern::Exact(self.name().into()),
            PatternKind::OneLabel => wildcard(WildcardDepth::One),
            PatternKind::ManyLabels => wildcard(WildcardDepth::OneOrMore),
            PatternKind::Any => HostPattern::Any,
        }
    }

    pub(crate) fn is_any(&self) -> bool {
        self.kind == PatternKind::Any
    }

    /// The text that lookups compare: the name, or what follows the `*.`.
    pub(crate) fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Whether the name is this one, without looking at it as text.
    pub(crate) fn has_name(&self, other: &str) -> bool {
        self.name.as_bytes() == other.as_bytes()
    }
}

// === impl CompiledRoute ===

impl CompiledRoute {
    fn new(matches: &RouteMatch, rule: Arc<CompiledRule>) -> Self {
        let RouteMatch { path, method, headers, query } = matches;
        let is_unconditional = method.is_none() && headers.is_empty() && query.is_empty();
        let conditions = (!is_unconditional)
            .then(|| Arc::new(Conditions { method: method.clone(), headers: headers.clone(), query: query.clone() }));
        let only_backend = rule.only_backend().map(Arc::clone);
        Self { path: path.clone(), conditions, rule, only_backend }
    }

    /// Whether the route is for this request.
    #[must_use]
    pub fn matches(&self, request: &RequestView<'_>) -> bool {
        self.path.matches(request.path) && self.matches_beside_path(request)
    }

    pub(crate) fn matches_beside_path(&self, request: &RequestView<'_>) -> bool {
        self.conditions.as_ref().is_none_or(|conditions| conditions.hold(request))
    }
}

impl Conditions {
    fn hold(&self, request: &RequestView<'_>) -> bool {
        let Self { method, headers, query } = self;
        method.as_ref().is_none_or(|method| method == request.method)
            && headers.iter().all(|header| header.matches(request.headers))
            && query.iter().all(|parameter| parameter.matches(request.query))
    }
}

// === impl CompiledRule ===

impl CompiledRule {
    fn compile(rule: &Arc<Rule>, client_tls: Option<&Arc<CompiledClientTls>>, linker: &mut Linker<'_>) -> Self {
        let (targets, total_weight) = targets(&rule.backends, linker);
        let fallback = rule.fallback.as_ref().map(&mut *linker.backends);
        let mut has_key = rule.upstream.balance.needs_index();
        if has_key || rule.upstream.affinity.is_some() {
            let backends = targets.iter().filter_map(|target| target.backend.as_ref()).chain(&fallback);
            backends.for_each(|backend| backend.require_index());
        }
        let canary = rule.upstream.canary.as_ref().map(|canary| {
            let backend = (linker.backends)(&canary.backend);
            has_key |= canary.balance.needs_index();
            if canary.balance.needs_index() || canary.affinity.is_some() {
                backend.require_index();
            }
            backend
        });
        let filters = Arc::clone(&rule.filters);
        let pages = rule.error_pages.iter().flat_map(|pages| &pages.backends);
        let error_pages = pages.map(&mut *linker.backends).collect();
        let guards = rule.guards.as_ref().map(|guards| Box::new(CompiledGuards::compile(rule, guards, linker)));
        let cors = CompiledCors::of(&filters).map(Box::new);
        let mirror = CompiledMirror::of(&filters, linker).map(Box::new);
        let upstream_tls = CompiledUpstreamTls::compile(&rule.upstream.tls, linker).map(Box::new);
        Self {
            rule: Arc::clone(rule),
            filters,
            targets,
            fallback,
            error_pages,
            canary,
            client_tls: client_tls.map(Arc::clone),
            upstream_tls,
            guards,
            mirror,
            cors,
            slot: Slot::default(),
            total_weight,
            has_key,
        }
    }

    /// Picks a target in proportion to the weights. `None` when there is none with a weight.
    #[must_use]
    pub fn pick(&self, entropy: u32) -> Option<&Target> {
        pick(&self.targets, self.total_weight, entropy)
    }

    /// The backend of all its requests; `None` where something of a request decides what becomes of it, or chance.
    fn only_backend(&self) -> Option<&Arc<Backend>> {
        let decides = self.canary.is_some() || self.has_key || self.filters.iter().any(Filter::decides);
        match &*self.targets {
            [only] if self.total_weight > 0 && !decides => only.backend.as_ref(),
            _ => None,
        }
    }
}

// === targets ===

/// The targets of weighted backends, and the sum of their weights.
fn targets(backends: &[WeightedBackend], linker: &mut Linker<'_>) -> (SmallVec<[Target; 1]>, u32) {
    let mut total_weight = 0_u32;
    let target = |WeightedBackend { backend, weight, filters: _ }: &WeightedBackend| {
        total_weight = total_weight.saturating_add(*weight);
        Target { backend: backend.as_ref().map(&mut *linker.backends), cumulative_weight: total_weight }
    };
    (backends.iter().map(target).collect(), total_weight)
}

fn pick(targets: &[Target], total_weight: u32, entropy: u32) -> Option<&Target> {
    match targets {
        [only] if total_weight > 0 => Some(only),
        targets => {
            // Multiplying instead of dividing keeps the shares even and costs no division.
            let at = (u64::from(entropy) * u64::from(total_weight)) >> 32;
            targets.iter().find(|target| at < u64::from(target.cumulative_weight))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HeaderEdits;

    fn rule(weights: &[u32]) -> CompiledRule {
        let mut total_weight = 0;
        let targets = weights
            .iter()
            .map(|weight| {
                total_weight += weight;
                Target { backend: None, cumulative_weight: total_weight }
            })
            .collect();
        let rule = Arc::new(Rule::new(
            crate::model::Origin { kind: "Ingress", namespace: "".into(), name: "".into(), place: "".into() },
            Vec::new(),
        ));
        let slot = Slot::default();
        CompiledRule {
            rule,
            filters: Arc::default(),
            targets,
            fallback: None,
            error_pages: Box::default(),
            canary: None,
            client_tls: None,
            upstream_tls: None,
            guards: None,
            mirror: None,
            cors: None,
            slot,
            total_weight,
            has_key: false,
        }
    }

    #[test]
    fn a_host_takes_two_cache_lines() {
        assert_eq!(size_of::<Option<CompiledHost>>(), 128);
    }

    #[test]
    fn targets_are_picked_in_proportion_to_their_weights() {
        let rule = rule(&[1, 0, 3]);
        let mut counts = [0; 3];
        for step in 0..4000_u32 {
            let picked = rule.pick(step * (u32::MAX / 4000)).unwrap();
            let index = rule.targets.iter().position(|target| std::ptr::eq(target, picked)).unwrap();
            counts[index] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((990..=1010).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn a_rule_without_weight_has_no_target() {
        assert!(rule(&[]).pick(0).is_none());
        assert!(rule(&[0]).pick(u32::MAX).is_none());
        assert!(rule(&[0, 0]).pick(7).is_none());
        assert!(rule(&[5]).pick(u32::MAX).is_some());
    }

    #[test]
    fn a_rule_has_one_backend_only_where_nothing_else_decides() {
        let backend = || {
            let port = crate::model::PortRef::Number(80);
            Some(Arc::new(Backend::new(BackendRef { namespace: "ns".into(), service: "web".into(), port })))
        };
        let has_only = |change: &dyn Fn(&mut CompiledRule), weights: &[u32]| {
            let mut rule = rule(weights);
            rule.targets.iter_mut().for_each(|target| target.backend = backend());
            change(&mut rule);
            rule.only_backend().is_some()
        };
        assert!(has_only(&|_| {}, &[5]));
        assert!(has_only(&|rule| rule.filters = Arc::new([Filter::ResponseHeaders(HeaderEdits::default())]), &[5]));
        assert!(!has_only(&|rule| rule.filters = Arc::new([Filter::NotFound]), &[5]));
        assert!(!has_only(&|rule| rule.canary = backend(), &[5]));
        assert!(!has_only(&|rule| rule.has_key = true, &[5]));
        assert!(!has_only(&|rule| rule.targets[0].backend = None, &[5]));
        assert!(!has_only(&|_| {}, &[0]));
        assert!(!has_only(&|_| {}, &[1, 1]));
    }
}
