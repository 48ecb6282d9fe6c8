//! What belongs to one connection and not to the message on it (RFC 9110 section 7.6.1).

use http::{HeaderMap, HeaderName, header};

/// Fields that stay on their hop.
pub(crate) const HOP_FIELDS: [HeaderName; 8] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    // Those that no standard knows any more.
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// What proxies ask of each other (RFC 9110 section 11.7).
pub(crate) const PROXY_FIELDS: [HeaderName; 2] = [header::PROXY_AUTHENTICATE, header::PROXY_AUTHORIZATION];

/// The fields that a message names in `Connection`, but for what is no name.
pub(crate) fn nominations(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    nominated(headers).filter_map(|name| HeaderName::from_bytes(name).ok())
}

/// What a message names in `Connection`.
pub(crate) fn nominated(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let fields = headers.get_all(header::CONNECTION).into_iter();
    fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}
