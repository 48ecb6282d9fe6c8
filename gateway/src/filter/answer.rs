//! Headers that every answer has, those of the gateway itself included.

use http::header;
use pingora::http::{RequestHeader, ResponseHeader};
use routing::{Scheme, Settings};

use crate::context::Context;

/// What `server-tokens` says.
const SERVER: &str = "penstock";

/// Takes away what an upstream says that clients should not know.
pub(crate) fn hide_headers(settings: &Settings, response: &mut ResponseHeader) {
    if !settings.upstream_server_header {
        response.remove_header(&header::SERVER);
    }
    for name in &settings.hide_headers {
        response.remove_header(name);
    }
}

/// Marks an answer before it goes to the client.
pub(crate) fn mark_answer(
    context: &Context,
    request: &RequestHeader,
    response: &mut ResponseHeader,
) -> pingora::Result<()> {
    let (Some(snapshot), Some(connection)) = (&context.snapshot, &context.connection) else { return Ok(()) };
    let settings = snapshot.settings();
    if settings.server_header && !response.headers.contains_key(header::SERVER) {
        response.insert_header(header::SERVER, SERVER)?;
    }
    if !settings.response_headers.is_empty() {
        let (request, connection) = context.views(request, connection);
        for header in &settings.response_headers {
            if let Some(value) = header.value(&request, &connection) {
                response.insert_header(&header.name, value)?;
            }
        }
    }
    // ingress-nginx goes by the connection here, not by what a proxy in front says about it.
    if connection.scheme == Scheme::Https
        && let Some(policy) = &settings.tls.strict_transport_security
    {
        response.insert_header(header::STRICT_TRANSPORT_SECURITY, policy.clone())?;
    }
    Ok(())
}
