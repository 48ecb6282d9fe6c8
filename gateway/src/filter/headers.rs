//! Header edits of rules, and the headers that stay on their hop.

use http::{HeaderName, HeaderValue, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use routing::CompiledRule;
use routing::model::{Filter, HeaderEdits};

/// Applies the request header edits of a rule.
pub(crate) fn edit_request(rule: &CompiledRule, request: &mut RequestHeader) -> pingora::Result<()> {
    if rule.guards.as_ref().is_some_and(|guards| guards.basic.is_some()) {
        // The password was for the gateway; whoever runs the upstream need not learn it.
        request.remove_header(&header::AUTHORIZATION);
    }
    for filter in rule.rule.filters.iter() {
        if let Filter::RequestHeaders(HeaderEdits { remove, set, add }) = filter {
            for name in remove {
                request.remove_header(name);
            }
            for (name, value) in set {
                request.insert_header(name, value.clone())?;
            }
            for (name, value) in add {
                request.append_header(name, value.clone())?;
            }
        }
    }
    Ok(())
}

/// Applies the response header edits of a rule.
pub(crate) fn edit_response(rule: &CompiledRule, response: &mut ResponseHeader) -> pingora::Result<()> {
    for filter in rule.rule.filters.iter() {
        if let Filter::ResponseHeaders(HeaderEdits { remove, set, add }) = filter {
            for name in remove {
                response.remove_header(name);
            }
            for (name, value) in set {
                response.insert_header(name, value.clone())?;
            }
            for (name, value) in add {
                response.append_header(name, value.clone())?;
            }
        }
    }
    Ok(())
}

/// Sets a header; without a value the client's own must not pass either.
pub(super) fn set_or_remove(
    request: &mut RequestHeader,
    name: &'static str,
    value: Option<HeaderValue>,
) -> pingora::Result<()> {
    match value {
        Some(value) => request.insert_header(name, value),
        None => {
            request.remove_header(name);
            Ok(())
        }
    }
}

/// Drops what an upstream says about its own hop (RFC 9110 section 7.6.1). A switch of protocols needs its fields, and
/// the framing of a message is not for `Connection` to name.
pub(crate) fn drop_hop_headers(response: &mut ResponseHeader) {
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let fields = response.headers.get_all(header::CONNECTION).iter().filter_map(|field| field.to_str().ok());
    let named = fields.flat_map(|field| field.split(',')).filter_map(|name| name.trim().parse().ok());
    let named: Vec<HeaderName> =
        named.filter(|name| *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING).collect();
    for name in &named {
        response.remove_header(name);
    }
    response.remove_header("Keep-Alive");
    response.remove_header("Proxy-Connection");
}
