//! The request that an upstream gets.

use http::{HeaderValue, header};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};
use routing::RewrittenRequest;

use super::{client_tls, edit_request, external, set_forwarded_headers, tell_error};
use crate::context::Context;
use crate::gate;
use crate::request_head::{FieldName, HOST, RequestHead, field_value};

pub(crate) const ORIGINAL_URI: FieldName<'static> = FieldName::new("x-original-uri", "X-Original-URI");
const FORWARDED_PREFIX: FieldName<'static> = FieldName::new("x-forwarded-prefix", "X-Forwarded-Prefix");

/// Makes the request that the upstream gets out of the one that was received.
pub(crate) fn prepare_request(
    received: &RequestHeader,
    request: &mut RequestHead<'_>,
    context: &Context,
) -> pingora::Result<()> {
    let Context {
        connection: Some(connection),
        snapshot: Some(snapshot),
        client: Some(client),
        rule: Some(rule),
        route: Some(route),
        request_id,
        admission,
        ..
    } = context
    else {
        return Error::e_explain(ErrorType::InternalError, "request without a route");
    };
    let settings = snapshot.settings();
    set_forwarded_headers(request, gate::authority(received), connection, *client, request_id.as_ref(), settings)?;
    if settings.original_uri_header {
        let target = context.received_target.as_deref().map_or(received.raw_path(), str::as_bytes);
        if let Ok(target) = HeaderValue::from_bytes(target) {
            request.insert(ORIGINAL_URI, target);
        }
    }
    if !settings.request_headers.is_empty() {
        let (view, connection) = context.views(received, connection);
        for header in &settings.request_headers {
            if let Some(value) = header.value(&view, &connection) {
                request.insert(header.name.clone(), value);
            }
        }
    }
    edit_request(rule, request);
    client_tls::tell(rule, connection, request);
    external::edit_request(rule, admission.grant.as_deref(), request);
    if route.is_fallback {
        // As if the error of a backend without endpoints had been replaced.
        tell_error(rule, 503, received.headers.get(header::ACCEPT), request_id.as_ref(), request)?;
    }
    let RewrittenRequest { path, host, prefix } = &route.rewritten;
    if let Some(path) = path {
        // A rewritten target loses a question mark that nothing follows, as nginx's does.
        if let Some(authority) = received.uri.authority()
            && request.get(&HOST.name).is_none()
        {
            // HTTP/2 has the authority in the target alone, and a target that is set has none.
            request.insert(HOST, field_value(authority.as_str())?);
        }
        request.set_target(match received.uri.query().filter(|query| !query.is_empty()) {
            Some(query) => format!("{path}?{query}"),
            None => path.clone(),
        });
    }
    if let Some(host) = host {
        request.insert(HOST, field_value(host.as_str())?);
    }
    if let Some(prefix) = prefix {
        request.insert(FORWARDED_PREFIX, field_value(prefix.as_str())?);
    }
    Ok(())
}
