//! `custom-headers`: response headers from a ConfigMap, as far as the settings allow them.

use http::{HeaderName, HeaderValue};
use routing::model::{Filter, HeaderEdits};

use super::Survey;
use crate::ingress::Ingress;
use crate::resources::NamespacedName;

/// The headers that an Ingress asks for; an error says why its paths answer 503, as they do in ingress-nginx.
pub(super) fn custom_headers(ingress: &Ingress, survey: &Survey<'_>) -> Result<Option<Filter>, String> {
    let Some(reference) = &ingress.annotations.custom_headers else { return Ok(None) };
    let own = &*ingress.meta.namespace;
    let (namespace, name) = reference.split_once('/').unwrap_or((own, reference));
    let map = NamespacedName::new(namespace, name);
    // A ConfigMap of another namespace is its owners' secret (`allow-cross-namespace-resources` is off).
    let Some(map) = survey.config_maps.get(&map).filter(|_| namespace == own) else {
        return Err(format!("custom-headers: there is no ConfigMap {name} in namespace {own}"));
    };
    let allowed = &survey.defaults.allowed_response_headers;
    let mut set = Vec::new();
    for (name, value) in &map.data {
        let (Ok(parsed), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
            return Err(format!("custom-headers: {name:?} is not a header, or its value cannot be one"));
        };
        if !allowed.contains(&parsed) {
            return Err(format!("custom-headers: header {name} is not one of global-allowed-response-headers"));
        }
        set.push((parsed, value));
    }
    Ok((!set.is_empty()).then(|| Filter::ResponseHeaders(HeaderEdits { set, ..HeaderEdits::default() })))
}
