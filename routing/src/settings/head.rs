//! How large the head of a request may be.

use serde::Serialize;

/// How large the head of a request may be. What is larger is refused before it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HeadLimits {
    /// Bytes of the target: more answers 414.
    pub target: usize,
    /// Bytes of one header line: more answers 431, as all that follows.
    pub header_line: usize,
    /// Bytes of the whole head.
    pub head: usize,
    /// Header lines.
    pub headers: usize,
}

impl HeadLimits {
    /// `large-client-header-buffers`: a line fits into one buffer, the head into all of them.
    #[must_use]
    pub fn of_buffers(n_buffers: usize, buffer: usize) -> Self {
        let head = n_buffers.saturating_mul(buffer);
        Self { target: buffer, header_line: buffer, head, ..Self::default() }
    }
}

impl Default for HeadLimits {
    /// The limits that Envoy recommends at the edge, and nginx's for the target. One header may take what there
    /// is: a browser with 8 KiB of cookies is not an attack.
    fn default() -> Self {
        Self { target: 8 << 10, header_line: 60 << 10, head: 60 << 10, headers: 128 }
    }
}
