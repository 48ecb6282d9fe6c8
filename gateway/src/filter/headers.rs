//! Header edits of rules, and the headers that stay on their hop.

use http::{HeaderName, StatusCode, header};
use pingora::http::ResponseHeader;
use routing::CompiledRule;
use routing::model::{Filter, HeaderEdits};

use crate::hop::nominations;
use crate::request_head::RequestHead;

/// Applies the request header edits of a rule.
pub(super) fn edit_request(rule: &CompiledRule, request: &mut RequestHead<'_>) {
    if rule.guards.as_ref().is_some_and(|guards| guards.basic.is_some()) {
        // The password was for the gateway; whoever runs the upstream need not learn it.
        request.remove(&header::AUTHORIZATION);
    }
    for filter in rule.rule.filters.iter() {
        if let Filter::RequestHeaders(HeaderEdits { remove, set, add }) = filter {
            for name in remove {
                request.remove(name);
            }
            for (name, value) in set {
                request.insert(name.clone(), value.clone());
            }
            for (name, value) in add {
                request.append(name.clone(), value.clone());
            }
        }
    }
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

/// Drops what an upstream says about its own hop (RFC 9110 section 7.6.1). A switch of protocols needs its fields, and
/// the framing of a message is not for `Connection` to name.
pub(crate) fn drop_hop_headers(response: &mut ResponseHeader) {
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let named: Vec<HeaderName> = nominations(&response.headers)
        .filter(|name| *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING)
        .collect();
    for name in &named {
        response.remove_header(name);
    }
    response.remove_header("Keep-Alive");
    response.remove_header("Proxy-Connection");
}
