//! Guards of a rule: what its requests must get past.

use std::sync::Arc;

use routing::model::{Access, AccessList, Guards, LimitZone, Limits};

use super::{Survey, external};
use crate::ingress::Ingress;
use crate::ingress::annotations::{AccessAnnotations, Annotations, LimitAnnotations};

/// The guards of a path of an Ingress. An annotation replaces what the settings say, it does not add to it.
pub(super) fn guards(ingress: &Ingress, path: &str, survey: &Survey<'_>) -> Option<Arc<Guards>> {
    let Annotations { access: AccessAnnotations { allow, deny, satisfy }, basic, .. } = &*ingress.annotations;
    let addresses = AccessList {
        deny: deny.as_ref().unwrap_or(&survey.defaults.deny).clone(),
        allow: allow.as_ref().unwrap_or(&survey.defaults.allow).clone(),
    };
    // ingress-nginx lets everybody through to these, so that others can prove whose host it is.
    let is_open = survey.defaults.no_auth_locations.iter().any(|location| path.starts_with(&**location));
    // What cannot be had denies before anybody is asked.
    let basic = basic.resolve(&ingress.meta.namespace).unwrap_or_default().filter(|_| !is_open);
    let external = external::external(ingress, survey).unwrap_or_default().filter(|_| !is_open).map(Arc::new);
    let limits = limits(ingress, survey).map(Arc::new);
    let guards = Guards { limits, access: Access { addresses, basic, external, satisfy: satisfy.unwrap_or_default() } };
    (!guards.is_empty()).then(|| Arc::new(guards))
}

/// ingress-nginx has one zone for each Ingress: its paths count together.
fn limits(ingress: &Ingress, survey: &Survey<'_>) -> Option<Limits> {
    let annotations = &ingress.annotations.limits;
    let LimitAnnotations { per_second, per_minute, connections, burst_multiplier: _, exempt } = annotations;
    let is_limited = per_second.is_some() || per_minute.is_some() || connections.is_some();
    is_limited.then(|| Limits {
        zone: LimitZone { namespace: ingress.meta.namespace.clone(), name: ingress.meta.name.clone() },
        per_second: annotations.rate(*per_second),
        per_minute: annotations.rate(*per_minute),
        connections: *connections,
        exempt: exempt.clone(),
        rate_status: survey.defaults.limit_req_status,
        connection_status: survey.defaults.limit_conn_status,
    })
}
