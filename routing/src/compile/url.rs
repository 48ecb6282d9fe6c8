//! Addresses of servers, as one request makes them out.

use std::borrow::Cow;

use http::uri::PathAndQuery;

use crate::model::{ServerUrl, UrlServer};
use crate::template::Values;

/// The server of a URL, by name or address, and the target there; `None` when the URL comes out as none.
pub(super) fn resolve<'a>(url: &'a ServerUrl, values: &Values<'_>) -> Option<(Cow<'a, str>, String)> {
    let server = match &url.server {
        UrlServer::Address(address) => address.to_string().into(),
        UrlServer::Name(name) | UrlServer::Backend { backend: _, name } => Cow::Borrowed(&**name),
        UrlServer::OfHost(template) => template.render(values).into(),
    };
    let target = url.target.render(values);
    let is_sound = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let is_target = target.starts_with('/') && is_sound(&target) && PathAndQuery::try_from(&*target).is_ok();
    (!server.is_empty() && is_sound(&server) && is_target).then_some((server, target))
}
