//! Sessions that stay with an endpoint by a cookie (ingress-nginx `affinity: cookie`).

use serde::Serialize;

/// A cookie that keeps a session with its endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CookieAffinity {
    /// What happens to sessions when endpoints come.
    pub mode: AffinityMode,
    /// The name of the cookie.
    pub name: Box<str>,
    /// Its `Path`; `None` for the path of the rule.
    pub path: Option<Box<str>>,
    /// Its `Domain`.
    pub domain: Option<Box<str>>,
    /// Its `SameSite`.
    pub same_site: Option<SameSite>,
    /// Its `Max-Age`, in seconds.
    pub max_age: Option<i64>,
    /// Its `Expires`, in seconds from when it is set.
    pub expires: Option<i64>,
    /// Whether it has `Secure` although the client did not come by HTTPS.
    pub is_always_secure: bool,
    /// Whether a session gets another endpoint when its own fails. Else it stays, and fails with it.
    pub changes_on_failure: bool,
}

/// What happens to sessions when endpoints come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AffinityMode {
    /// Some of them move to the new ones.
    #[default]
    Balanced,
    /// They stay where they are.
    Persistent,
}

/// `SameSite` of a cookie, in the spelling of its author.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SameSite {
    /// `None`, `Lax` or `Strict`.
    pub value: Box<str>,
    /// Whether `None` is left out for browsers that would refuse the cookie because of it.
    pub is_conditional: bool,
}
