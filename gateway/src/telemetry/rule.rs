//! The counters that a compiled rule keeps in its slot.

use std::sync::Arc;

use routing::CompiledRule;
use routing::model::BackendRef;

use super::metrics::Metrics;
use super::routes::{RouteLabels, RouteMetrics};

/// The counters of one rule.
pub(crate) struct RuleMetrics {
    own: Arc<RouteMetrics>,
    /// Of requests that went to the canary; without one, the same.
    canary: Arc<RouteMetrics>,
}

impl RuleMetrics {
    /// Those of a rule, which are looked up when it takes its first request.
    pub(crate) fn of<'r>(rule: &'r CompiledRule, metrics: &Metrics) -> Option<&'r Self> {
        rule.slot.get_or_init(|| {
            let own = metrics.route(labels(rule));
            let canary = rule.rule.upstream.canary.as_ref().map(|canary| {
                let BackendRef { namespace, service, port } = &canary.backend;
                metrics.route(RouteLabels { canary: format!("{namespace}-{service}-{port}").into(), ..labels(rule) })
            });
            Self { canary: canary.unwrap_or_else(|| Arc::clone(&own)), own }
        })
    }

    /// Those that count a request.
    pub(crate) fn counters(&self, is_canary: bool) -> Arc<RouteMetrics> {
        Arc::clone(if is_canary { &self.canary } else { &self.own })
    }
}

fn labels(rule: &CompiledRule) -> RouteLabels {
    let rule = &rule.rule;
    let service = rule.backends.first().and_then(|weighted| weighted.backend.as_ref());
    RouteLabels {
        namespace: rule.origin.namespace.clone(),
        ingress: rule.origin.name.clone(),
        service: service.map(|backend| backend.service.clone()).unwrap_or_default(),
        path: rule.path.clone(),
        host: rule.host.clone(),
        canary: "".into(),
    }
}
