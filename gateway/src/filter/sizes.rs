//! Limits of bodies and heads that rules set. Bodies are counted as they pass and held nowhere.

use bytes::Bytes;
use http::{HeaderMap, Version, header};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType};
use routing::model::SizeLimits;

use crate::connections::Phase;
use crate::context::Context;
use crate::failure::Failure;

/// Marks an error of ours: the body has passed its limit.
pub(crate) const BODY_TOO_LARGE: ErrorType = ErrorType::Custom("request body too large");
/// Marks an error of ours: the head of the answer has passed its limit.
pub(crate) const RESPONSE_HEAD_TOO_LARGE: ErrorType = ErrorType::Custom("response head too large");

/// Refuses a body whose announced length is too large, before anything of it is read.
pub(crate) fn admit_body(limits: &SizeLimits, headers: &HeaderMap) -> Result<(), Failure> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match (limits.request_body, length) {
        (Some(limit), Some(length)) if length > limit => Err(Failure::BodyTooLarge),
        _ => Ok(()),
    }
}

/// Counts a piece of a body on its way to the upstream.
pub(crate) fn count_body(context: &mut Context, piece: Option<&Bytes>) -> pingora::Result<()> {
    let n_bytes = piece.map_or(0, Bytes::len);
    context.body_bytes = context.body_bytes.saturating_add(u64::try_from(n_bytes).unwrap_or(u64::MAX));
    let is_tunnel = context.connection.as_ref().is_some_and(|connection| connection.handle.phase() == Phase::Tunnel);
    if is_tunnel {
        // What passes there is no body any more.
        return Ok(());
    }
    let limit = context.rule.as_ref().and_then(|rule| rule.rule.sizes.request_body);
    match limit {
        Some(limit) if context.body_bytes > limit => {
            Error::e_explain(BODY_TOO_LARGE, format!("more than {limit} bytes"))
        }
        _ => Ok(()),
    }
}

/// Refuses the head of an answer that nginx would have no buffer for. HTTP/2 has limits of its own.
pub(crate) fn check_response_head(limits: &SizeLimits, response: &ResponseHeader) -> pingora::Result<()> {
    if response.version == Version::HTTP_2 {
        return Ok(());
    }
    let reason = response.get_reason_phrase().unwrap_or_default();
    let status_line = "HTTP/1.1 200 ".len() + reason.len() + "\r\n".len();
    let lines = response.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    let n_bytes = status_line + lines.sum::<usize>() + "\r\n".len();
    if n_bytes > limits.response_head {
        return Error::e_explain(RESPONSE_HEAD_TOO_LARGE, format!("{n_bytes} bytes"));
    }
    Ok(())
}
