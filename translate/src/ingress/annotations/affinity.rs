//! Sessions: `affinity` and the `session-cookie-*` annotations.

use std::sync::Arc;

use routing::model::{AffinityMode, CookieAffinity, SameSite};

use super::value::{ValueError, number, short};

/// The name of the cookie when nothing else is said (`session-cookie-name`).
const DEFAULT_NAME: &str = "INGRESSCOOKIE";

/// The annotations of sessions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AffinityAnnotations {
    /// `affinity: cookie`; without it the others say nothing.
    pub is_on: bool,
    /// `affinity-mode`.
    pub mode: AffinityMode,
    /// `affinity-canary-behavior: legacy`: a canary has the sessions of its own annotations, not those of the primary.
    pub is_canary_apart: bool,
    /// `session-cookie-name`.
    pub name: Option<Box<str>>,
    /// `session-cookie-path`.
    pub path: Option<Box<str>>,
    /// `session-cookie-domain`.
    pub domain: Option<Box<str>>,
    /// `session-cookie-samesite`.
    pub same_site: Option<Box<str>>,
    /// `session-cookie-conditional-samesite-none`.
    pub is_same_site_conditional: bool,
    /// `session-cookie-max-age`.
    pub max_age: Option<i64>,
    /// `session-cookie-expires`.
    pub expires: Option<i64>,
    /// `session-cookie-secure`; ingress-nginx takes `false` for no opinion.
    pub is_secure: bool,
    /// `session-cookie-change-on-failure`.
    pub changes_on_failure: bool,
}

impl AffinityAnnotations {
    /// The sessions of a rule.
    pub(crate) fn affinity(&self) -> Option<Arc<CookieAffinity>> {
        if !self.is_on {
            return None;
        }
        let same_site =
            self.same_site.clone().map(|value| SameSite { value, is_conditional: self.is_same_site_conditional });
        Some(Arc::new(CookieAffinity {
            mode: self.mode,
            name: self.name.clone().unwrap_or_else(|| DEFAULT_NAME.into()),
            path: self.path.clone(),
            domain: self.domain.clone(),
            same_site,
            max_age: self.max_age,
            expires: self.expires,
            is_always_secure: self.is_secure,
            changes_on_failure: self.changes_on_failure,
        }))
    }
}

/// `cookie`, the only kind.
pub(super) fn kind(text: &str) -> Result<bool, ValueError> {
    if text.trim() == "cookie" { Ok(true) } else { Err(ValueError::Affinity(text.to_owned())) }
}

/// `balanced` or `persistent`.
pub(super) fn mode(text: &str) -> Result<AffinityMode, ValueError> {
    match text.trim() {
        "balanced" => Ok(AffinityMode::Balanced),
        "persistent" => Ok(AffinityMode::Persistent),
        _ => Err(ValueError::AffinityMode(text.to_owned())),
    }
}

/// `sticky` or `legacy`.
pub(super) fn canary_behavior(text: &str) -> Result<bool, ValueError> {
    match text.trim() {
        "sticky" => Ok(false),
        "legacy" => Ok(true),
        _ => Err(ValueError::CanaryBehavior(text.to_owned())),
    }
}

/// `^[/\-._~a-zA-Z0-9:]*$`, ingress-nginx's grammar for names and domains.
pub(super) fn name(text: &str) -> Result<Box<str>, ValueError> {
    checked(text, |c| c.is_ascii_alphanumeric() || "-._~/:".contains(c))
}

/// The same, and `,?&=`: its grammar for paths.
pub(super) fn path(text: &str) -> Result<Box<str>, ValueError> {
    checked(text, |c| c.is_ascii_alphanumeric() || "-._~/:,?&=".contains(c))
}

/// `None`, `Lax` or `Strict`, in any case.
pub(super) fn same_site(text: &str) -> Result<Box<str>, ValueError> {
    let text = text.trim();
    let is_known = ["none", "lax", "strict"].iter().any(|known| text.eq_ignore_ascii_case(known));
    if is_known { Ok(text.into()) } else { Err(ValueError::SameSite(text.to_owned())) }
}

/// A number of seconds; a negative one ends the cookie.
pub(super) fn seconds(text: &str) -> Result<i64, ValueError> {
    number(text)
}

fn checked(text: &str, is_allowed: impl Fn(char) -> bool) -> Result<Box<str>, ValueError> {
    short(text)?.chars().find(|c| !is_allowed(*c)).map_or_else(|| Ok(text.into()), |c| Err(ValueError::Byte(c)))
}
