//! What whoever answers in place of an upstream is told about the error (ingress-nginx `custom-http-errors`).

use http::HeaderValue;
use pingora::http::RequestHeader;
use routing::CompiledRule;

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
    set_or_remove(request, "X-Format", accept)?;
    request.insert_header("X-Namespace", &*origin.namespace)?;
    request.insert_header("X-Ingress-Name", &*origin.name)?;
    request.insert_header("X-Service-Name", backend.map_or("", |backend| &backend.service))?;
    request.insert_header("X-Service-Port", backend.map(|backend| backend.port.to_string()).unwrap_or_default())?;
    set_or_remove(request, "X-Request-ID", request_id)
}

fn set_or_remove(request: &mut RequestHeader, name: &'static str, value: Option<&HeaderValue>) -> pingora::Result<()> {
    match value {
        Some(value) => request.insert_header(name, value.clone()),
        None => {
            request.remove_header(name);
            Ok(())
        }
    }
}
