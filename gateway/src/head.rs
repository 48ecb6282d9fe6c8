//! Limits of complete request heads, of any version of HTTP.

use http::Version;
use pingora::http::RequestHeader;
use routing::HeadLimits;

use crate::failure::Failure;

/// Checks a complete head, of any version of HTTP, as HTTP/1 would write it.
pub(crate) fn check(request: &RequestHeader, limits: &HeadLimits) -> Result<(), Failure> {
    let request_line = request.method.as_str().len() + request.raw_path().len() + " ".len() * 2 + "HTTP/1.1".len();
    if request.raw_path().len() > limits.target {
        return Err(Failure::TargetTooLong);
    }
    let authority = match request.version {
        // HTTP/2 has it beside the headers.
        Version::HTTP_2 => request.uri.authority().map_or(0, |authority| authority.as_str().len()),
        _ => 0,
    };
    let (mut n_bytes, mut n_headers) = (request_line + authority, 0);
    for (name, value) in &request.headers {
        let line = name.as_str().len() + ": ".len() + value.len();
        if line > limits.header_line {
            return Err(Failure::HeadTooLarge);
        }
        n_bytes += line + "\r\n".len();
        n_headers += 1;
    }
    if n_bytes > limits.head || n_headers > limits.headers { Err(Failure::HeadTooLarge) } else { Ok(()) }
}
