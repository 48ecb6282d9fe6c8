//! Rewrites of a rule: what an upstream sees otherwise than the client asked for it.

use std::borrow::Cow;

use http::uri::PathAndQuery;

use crate::compile::CompiledRoute;
use crate::model::{PathRewrite, Rewrite};
use crate::path::{PathMatch, normalize_path};
use crate::template::Values;

/// What an upstream sees otherwise than the client asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RewrittenRequest {
    /// The path.
    pub path: Option<String>,
    /// The host.
    pub host: Option<String>,
    /// What it is told in `X-Forwarded-Prefix`.
    pub prefix: Option<String>,
}

impl RewrittenRequest {
    /// Adds a rewrite; `None` when what comes out cannot be forwarded.
    pub(crate) fn apply(&mut self, rewrite: &Rewrite, route: &CompiledRoute, values: &Values<'_>) -> Option<()> {
        let Rewrite { host, path, prefix } = rewrite;
        if let Some(path) = path {
            self.path = Some(rewritten_path(path, route, values)?);
        }
        if let Some(host) = host {
            let host = host.render(values);
            is_authority(&host).then_some(())?;
            self.host = Some(host);
        }
        if let Some(prefix) = prefix {
            let prefix = prefix.render(values);
            // What a header must not have comes in through variables only.
            prefix.bytes().all(|byte| (b' '..0x7f).contains(&byte)).then_some(())?;
            // nginx sends no header without a value.
            self.prefix = Some(prefix).filter(|prefix| !prefix.is_empty());
        }
        Some(())
    }
}

/// Whether a text is a host, perhaps with a port, as far as its characters tell (RFC 3986 section 3.2.2).
fn is_authority(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte);
    (1..=255).contains(&text.len()) && text.bytes().all(is_part)
}

/// The path after a rewrite, normalised again: a capture can put a dot segment where there was none.
pub(crate) fn rewritten_path(rewrite: &PathRewrite, route: &CompiledRoute, values: &Values<'_>) -> Option<String> {
    let path = values.request.path;
    let rewritten = match rewrite {
        PathRewrite::Full(path) => path.to_string(),
        PathRewrite::Captures(template) => template.render(values),
        PathRewrite::Prefix(replacement) => {
            let matched = if let PathMatch::Prefix(prefix) = &route.path { prefix.as_str() } else { "" };
            let rest = path.strip_prefix(matched).unwrap_or(path);
            let replacement = replacement.strip_suffix('/').unwrap_or(replacement);
            if rest.is_empty() && replacement.is_empty() { "/".to_owned() } else { format!("{replacement}{rest}") }
        }
    };
    // What comes in through variables need not be what a target may have (RFC 9112 section 3.2).
    normalize_path(&rewritten).ok().map(Cow::into_owned).filter(|path| PathAndQuery::try_from(path).is_ok())
}
