//! What whoever answers in place of an upstream is told about the error (ingress-nginx `custom-http-errors`).

use http::HeaderValue;
use pingora::http::RequestHeader;
use routing::CompiledRule;

use super::headers::set_or_remove;

/// Tells about an error of a rule. What the client says in these headers does not count.
pub(crate) fn tell_error(
    rule: &CompiledRule,
    status: u16,
    accept: Option<&HeaderValue>,
    request_id: Option<&HeaderValue>,
    request: &mut RequestHeader,
) -> pingora::Result<()> {
    let origin = &rule.rule.origin;
    let backend = rule.rule.backends.first().and_then(|backend| backend.backend.as_ref());
    request.insert_header("X-Code", status)?;
    set_or_remove(request, "X-Format", accept.cloned())?;
    request.insert_header("X-Namespace", &*origin.namespace)?;
    request.insert_header("X-Ingress-Name", &*origin.name)?;
    request.insert_header("X-Service-Name", backend.map_or("", |backend| &backend.service))?;
    request.insert_header("X-Service-Port", backend.map(|backend| backend.port.to_string()).unwrap_or_default())?;
    set_or_remove(request, "X-Request-ID", request_id.cloned())
}
