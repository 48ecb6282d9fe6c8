//! The request that an upstream gets.

use http::{HeaderValue, header};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};
use routing::RewrittenRequest;

use super::{client_tls, edit_request, external, set_forwarded_headers, tell_error};
use crate::context::Context;

/// Makes the request that the upstream gets out of the one that was received.
pub(crate) fn prepare_request(
    received: &RequestHeader,
    request: &mut RequestHeader,
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
    set_forwarded_headers(request, connection, *client, request_id.as_ref(), settings)?;
    if settings.original_uri_header {
        let target = context.received_target.as_deref().map_or(received.raw_path(), str::as_bytes);
        if let Ok(target) = HeaderValue::from_bytes(target) {
            request.insert_header("X-Original-URI", target)?;
        }
    }
    if !settings.request_headers.is_empty() {
        let (view, connection) = context.views(received, connection);
        for header in &settings.request_headers {
            if let Some(value) = header.value(&view, &connection) {
                request.insert_header(&header.name, value)?;
            }
        }
    }
    edit_request(rule, request)?;
    client_tls::tell(rule, connection, request)?;
    external::edit_request(rule, admission.grant.as_deref(), request)?;
    if route.is_fallback {
        // As if the error of a backend without endpoints had been replaced.
        tell_error(rule, 503, received.headers.get(header::ACCEPT), request_id.as_ref(), request)?;
    }
    let RewrittenRequest { path, host, prefix } = &route.rewritten;
    if let Some(path) = path {
        // A rewritten target loses a question mark that nothing follows, as nginx's does.
        let target = match request.uri.query().filter(|query| !query.is_empty()) {
            Some(query) => format!("{path}?{query}"),
            None => path.clone(),
        };
        request.set_raw_path(target.as_bytes())?;
    }
    if let Some(host) = host {
        request.insert_header(header::HOST, host.as_str())?;
    }
    if let Some(prefix) = prefix {
        request.insert_header("X-Forwarded-Prefix", prefix.as_str())?;
    }
    Ok(())
}
