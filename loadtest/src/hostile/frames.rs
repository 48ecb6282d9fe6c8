//! Frames of HTTP/2 (RFC 9113), written byte by byte: no library writes what is wrong.

use super::site::HOST;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// Bytes of frames.
#[derive(Default)]
pub(super) struct Frames(pub(super) Vec<u8>);

impl Frames {
    /// How a client begins, with settings.
    pub(super) fn preface(settings: &[(u16, u32)]) -> Self {
        let mut frames = Self(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec());
        let payload = settings.iter().flat_map(|(name, value)| {
            let ([a, b], [c, d, e, f]) = (name.to_be_bytes(), value.to_be_bytes());
            [a, b, c, d, e, f]
        });
        frames.frame(SETTINGS, 0, 0, &payload.collect::<Vec<_>>());
        frames
    }

    /// Appends a frame.
    pub(super) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let [_, a, b, c] = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
        self.0.extend([a, b, c, kind, flags]);
        self.0.extend(stream.to_be_bytes());
        self.0.extend(payload);
    }

    /// Appends the head of a request for a path.
    pub(super) fn request(&mut self, method: Method, flags: u8, stream: u32, path: &str) {
        self.frame(HEADERS, flags, stream, &head(method, path));
    }
}

/// The method of a request.
#[derive(Clone, Copy)]
pub(super) enum Method {
    Get,
    Post,
}

/// The head of a request as RFC 7541 writes it, without Huffman codes and without entries in the dynamic table.
pub(super) fn head(method: Method, path: &str) -> Vec<u8> {
    // `:method`, and `:scheme: http`.
    let mut head = vec![if matches!(method, Method::Get) { 0x82 } else { 0x83 }, 0x86];
    for (name, value) in [(4, path), (1, HOST)] {
        head.extend([name, u8::try_from(value.len()).unwrap_or_default()]);
        head.extend(value.as_bytes());
    }
    head
}

/// A header field that is not indexed.
pub(super) fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap_or_default();
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}
