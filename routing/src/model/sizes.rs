//! How large bodies and heads may be.

use serde::Serialize;

/// How large the bodies of requests, and the heads of upstreams' answers, may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SizeLimits {
    /// Bytes of a request body; `None` for no limit. More answers 413.
    pub request_body: Option<u64>,
    /// Bytes of the head of an HTTP/1 answer. More is taken for a broken upstream.
    pub response_head: usize,
}

impl SizeLimits {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for SizeLimits {
    /// ingress-nginx's: `proxy-body-size` and `proxy-buffer-size`.
    fn default() -> Self {
        Self { request_body: Some(1 << 20), response_head: 4 << 10 }
    }
}
