//! Values of the keys `global-auth-*`: those of the annotations, with words for what a value must be.

use http::{HeaderName, Method};
use routing::Template;
use routing::model::{CookieScope, ServerUrl, Validity};

use super::value::Parsed;
use crate::ingress::annotations::external;

/// Reads a value; the empty one is none.
fn some<T, E>(text: &str, parse: impl Fn(&str) -> Result<T, E>, wanted: &'static str) -> Parsed<Option<T>> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some).map_err(|_| wanted) }
}

pub(super) fn auth_url(text: &str) -> Parsed<Option<ServerUrl>> {
    some(text, external::url, "the URL of a server that may be asked")
}

pub(super) fn auth_method(text: &str) -> Parsed<Option<Method>> {
    some(text, external::method, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS or TRACE")
}

pub(super) fn auth_headers(text: &str) -> Parsed<Box<[HeaderName]>> {
    external::headers(text).map_err(|_| "a list of headers, separated by commas")
}

pub(super) fn auth_redirect(text: &str) -> Parsed<Option<Template>> {
    some(text, external::redirect, "a URL or a path")
}

pub(super) fn signin(text: &str) -> Parsed<Option<Template>> {
    some(text, external::page, "an http or https URL")
}

pub(super) fn parameter(text: &str) -> Parsed<Option<Box<str>>> {
    some(text, external::parameter, "the name of a query parameter")
}

pub(super) fn cache_key(text: &str) -> Parsed<Option<Template>> {
    some(text, external::cache_key, "a text with variables")
}

pub(super) fn cache_valid(text: &str) -> Parsed<Option<Box<[Validity]>>> {
    some(text, external::cache_valid, "a list of statuses and times such as \"200 202 401 5m\"")
}

pub(super) fn cookies(text: &str) -> Parsed<CookieScope> {
    external::cookies(text).map_err(|_| "\"true\" or \"false\"")
}
