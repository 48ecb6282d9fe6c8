//! Copies of requests: `mirror-target`, `mirror-host` and `mirror-request-body`.

use std::net::Ipv4Addr;

use routing::model::{Fraction, Mirror, MirroredBody, ServerUrl};
use routing::{HostPattern, WildcardDepth};

use super::sizes::switch;
use super::url::server_url;
use super::value::{ValueError, short};

/// What an Ingress says of copies of its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MirrorAnnotations {
    /// `mirror-target`; without it the others say nothing.
    pub url: Option<ServerUrl>,
    /// `mirror-host`; `None` for the host of the target.
    pub host: Option<Box<str>>,
    /// `mirror-request-body`.
    pub body: MirroredBody,
}

impl MirrorAnnotations {
    /// The mirror that is asked for.
    pub(crate) fn resolve(&self) -> Option<Mirror> {
        let Self { url, host, body } = self;
        Some(Mirror { url: url.clone()?, host: host.clone(), body: *body, share: Fraction::ALL })
    }
}

/// Who gets copies. The variables begin behind the host, with the target of the request: who gets them is not for the
/// client to say. Without a path it is that of the request.
pub(super) fn target(text: &str) -> Result<ServerUrl, ValueError> {
    let url = server_url(text, &['/', '?', '$'], "$request_uri")?;
    let is_path = ["/", "$request_uri", "$uri"].iter().any(|start| url.target.as_str().starts_with(start));
    if is_path { Ok(url) } else { Err(ValueError::Url(text.to_owned())) }
}

/// The host that copies are for: a name or an address, and a port where it has one.
pub(super) fn host(text: &str) -> Result<Box<str>, ValueError> {
    let (name, port) = match short(text)?.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    };
    let is_name = matches!(HostPattern::parse(name, WildcardDepth::One), Ok(HostPattern::Exact(_)));
    let is_host = is_name || name.parse::<Ipv4Addr>().is_ok();
    let is_number = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if is_host && port.is_none_or(is_number) { Ok(text.into()) } else { Err(ValueError::Authority(text.to_owned())) }
}

/// Whether the body goes along.
pub(super) fn body(text: &str) -> Result<MirroredBody, ValueError> {
    switch(text).map(|is_on| if is_on { MirroredBody::Whole } else { MirroredBody::Nothing })
}
