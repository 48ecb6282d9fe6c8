//! Guards of a rule: what its requests must get past.

use std::sync::Arc;

use routing::model::{Access, AccessList, Guards};

use super::Survey;
use crate::ingress::Ingress;
use crate::ingress::annotations::{AccessAnnotations, Annotations};

/// The guards of the paths of an Ingress. An annotation replaces what the settings say, it does not add to it.
pub(super) fn guards(ingress: &Ingress, survey: &Survey<'_>) -> Option<Arc<Guards>> {
    let Annotations { access: AccessAnnotations { allow, deny, satisfy }, basic, .. } = &*ingress.annotations;
    let addresses = AccessList {
        deny: deny.as_ref().unwrap_or(&survey.defaults.deny).clone(),
        allow: allow.as_ref().unwrap_or(&survey.defaults.allow).clone(),
    };
    // What cannot be had denies before anybody is asked.
    let basic = basic.resolve(&ingress.meta.namespace).unwrap_or_default();
    let guards = Guards { access: Access { addresses, basic, satisfy: satisfy.unwrap_or_default() } };
    (!guards.is_empty()).then(|| Arc::new(guards))
}
