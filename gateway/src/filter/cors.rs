//! Cross-origin resource sharing: what a browser is told about who may read an answer.

use http::{HeaderMap, header};
use pingora::http::ResponseHeader;
use routing::CompiledRule;

/// Marks an answer for the origin that asked, replacing what the upstream says of it; nothing for origins that are not
/// allowed.
pub(crate) fn mark(rule: &CompiledRule, request: &HeaderMap, response: &mut ResponseHeader) -> pingora::Result<()> {
    let Some(cors) = &rule.cors else { return Ok(()) };
    let Some(origin) = cors.allowed_origin(request) else { return Ok(()) };
    response.insert_header(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)?;
    for (name, value) in &cors.fields {
        response.insert_header(name, value.clone())?;
    }
    Ok(())
}
