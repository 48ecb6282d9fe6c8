//! What whoever answers in place of an upstream is told about the error (ingress-nginx `custom-http-errors`).

use http::HeaderValue;
use routing::CompiledRule;

use crate::request_head::{FieldName, REQUEST_ID, RequestHead, field_value};

const CODE: FieldName<'static> = FieldName::new("x-code", "X-Code");
const FORMAT: FieldName<'static> = FieldName::new("x-format", "X-Format");
const NAMESPACE: FieldName<'static> = FieldName::new("x-namespace", "X-Namespace");
const INGRESS_NAME: FieldName<'static> = FieldName::new("x-ingress-name", "X-Ingress-Name");
const SERVICE_NAME: FieldName<'static> = FieldName::new("x-service-name", "X-Service-Name");
const SERVICE_PORT: FieldName<'static> = FieldName::new("x-service-port", "X-Service-Port");

/// Tells about an error of a rule. What the client says in these headers does not count.
pub(crate) fn tell_error(
    rule: &CompiledRule,
    status: u16,
    accept: Option<&HeaderValue>,
    request_id: Option<&HeaderValue>,
    request: &mut RequestHead<'_>,
) -> pingora::Result<()> {
    let origin = &rule.rule.origin;
    let backend = rule.rule.backends.first().and_then(|backend| backend.backend.as_ref());
    request.insert(CODE, status.into());
    request.set_or_remove(FORMAT, accept.cloned());
    request.insert(NAMESPACE, field_value(&*origin.namespace)?);
    request.insert(INGRESS_NAME, field_value(&*origin.name)?);
    request.insert(SERVICE_NAME, field_value(backend.map_or("", |backend| &backend.service))?);
    request.insert(SERVICE_PORT, field_value(backend.map(|backend| backend.port.to_string()).unwrap_or_default())?);
    request.set_or_remove(REQUEST_ID, request_id.cloned());
    Ok(())
}
