//! A second backend for a share of the requests of a rule (ingress-nginx `canary`).

use std::num::NonZeroU32;
use std::sync::Arc;

use http::HeaderName;
use serde::{Serialize, Serializer};

use super::affinity::CookieAffinity;
use super::backend::BackendRef;
use super::balance::Balance;
use crate::matcher::RegexPattern;

/// A second backend, and which requests it takes. The header is asked first, then the cookie, then chance.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// The backend.
    pub backend: BackendRef,
    /// The header that decides.
    pub header: Option<CanaryHeader>,
    /// The cookie that decides: `always` or `never`.
    pub cookie: Option<Box<str>>,
    /// How many of the other requests it takes,
    pub weight: u32,
    /// out of so many.
    pub total: NonZeroU32,
    /// Which of its endpoints is chosen for a request without a session.
    pub balance: Balance,
    /// How sessions stay with it and with its endpoints; `None` for no sessions.
    pub affinity: Option<Arc<CookieAffinity>>,
}

/// A header that decides between a rule's backend and its canary.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CanaryHeader {
    /// Its name.
    #[serde(serialize_with = "name_as_text")]
    pub name: HeaderName,
    /// Which values speak for the canary.
    pub values: CanaryValues,
}

/// Which values of a header speak for a canary. What does not is as good as no header, but for `never`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CanaryValues {
    /// `always`; and `never` speaks against it.
    AlwaysOrNever,
    /// This one.
    Exact(Box<str>),
    /// Those in which the pattern is found.
    Pattern(RegexPattern),
}

fn name_as_text<S: Serializer>(name: &HeaderName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}
