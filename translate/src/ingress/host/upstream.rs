//! The way of a rule to its upstream, from the annotations over the settings.

use std::sync::{Arc, LazyLock};

use routing::model::UpstreamPolicy;

use crate::ingress::Ingress;
use crate::ingress::annotations::Annotations;

/// The policy of a rule. Most rules have that of the settings: it is kept once.
pub(super) fn upstream(ingress: &Ingress, defaults: &Arc<UpstreamPolicy>) -> Arc<UpstreamPolicy> {
    let Annotations { backend_protocol, balance, proxying, affinity, upstream_tls, .. } = &*ingress.annotations;
    let policy = UpstreamPolicy {
        protocol: backend_protocol.or(defaults.protocol),
        // What cannot be had denies before anybody is connected to.
        tls: upstream_tls.resolve(&ingress.meta.namespace).unwrap_or_default(),
        timeouts: proxying.timeouts_over(&defaults.timeouts),
        retries: proxying.retries_over(&defaults.retries),
        balance: balance.over(&defaults.balance),
        affinity: affinity.affinity(),
        canary: None,
    };
    if policy == **defaults { Arc::clone(defaults) } else { Arc::new(policy) }
}

/// The policy where no annotation has a say.
pub(super) fn default_upstream() -> Arc<UpstreamPolicy> {
    static DEFAULT: LazyLock<Arc<UpstreamPolicy>> = LazyLock::new(Arc::default);
    Arc::clone(&DEFAULT)
}
