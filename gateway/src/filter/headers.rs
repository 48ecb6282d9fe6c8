//! Header edits of rules.

use pingora::http::{RequestHeader, ResponseHeader};
use routing::CompiledRule;
use routing::model::{Filter, HeaderEdits};

/// Applies the request header edits of a rule.
pub(crate) fn edit_request(rule: &CompiledRule, request: &mut RequestHeader) -> pingora::Result<()> {
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
