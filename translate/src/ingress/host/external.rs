//! External authentication of an Ingress: its own, else the one of the settings.

use routing::model::{ExternalAuth, UrlServer};
use routing::{HeaderText, HostPattern};

use super::Survey;
use crate::ingress::Ingress;
use crate::ingress::annotations::ExternalAnnotations;
use crate::ingress::annotations::external::request_header;
use crate::resources::NamespacedName;

/// The authentication that stands before the paths of an Ingress; an error says why they answer 503.
pub(super) fn external(ingress: &Ingress, survey: &Survey<'_>) -> Result<Option<ExternalAuth>, String> {
    let own = &ingress.annotations.external;
    let global = &survey.defaults.external;
    let (name, asked) = match &own.url {
        Some(_) => ("auth-url", own),
        None if own.is_global_on.unwrap_or(true) => ("global-auth-url", global),
        None => return Ok(None),
    };
    let Some(external) = asked.resolve(request_headers(ingress, asked, survey)?) else { return Ok(None) };
    if *survey.host == HostPattern::Any && matches!(external.url.server, UrlServer::OfHost(_)) {
        return Err(format!("{name}: a rule without host would let the client name the server that vouches for it"));
    }
    Ok(Some(external))
}

/// The headers of the ConfigMap that `auth-proxy-set-headers` names.
fn request_headers(
    ingress: &Ingress,
    asked: &ExternalAnnotations,
    survey: &Survey<'_>,
) -> Result<Box<[HeaderText]>, String> {
    let Some(reference) = &asked.request_headers else { return Ok(Box::default()) };
    let annotation = "auth-proxy-set-headers";
    let namespace = &*ingress.meta.namespace;
    let name = reference.within(namespace).map_err(|why| format!("{annotation}: {why}"))?;
    let map = survey.config_maps.get(&NamespacedName::new(namespace, name));
    let map = map.ok_or_else(|| format!("{annotation}: there is no ConfigMap {name} in namespace {namespace}"))?;
    let headers = map.data.iter().map(|(name, text)| request_header(name, text));
    headers.collect::<Result<_, _>>().map_err(|why| format!("{annotation}: {why}"))
}
