//! Canaries: `canary` and the `canary-*` annotations.

use std::num::NonZeroU32;

use http::HeaderName;
use routing::RegexPattern;
use routing::model::{CanaryHeader, CanaryValues};

use super::value::{ValueError, number, short};

/// The total of the weights when nothing else is said, and the least there is (`canary-weight-total`).
const LEAST_TOTAL: NonZeroU32 = NonZeroU32::new(100).unwrap();

/// The annotations of a canary.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CanaryAnnotations {
    /// `canary`; without it the others say nothing.
    pub is_on: bool,
    /// `canary-by-header`.
    pub header: Option<HeaderName>,
    /// `canary-by-header-value`.
    pub value: Option<Box<str>>,
    /// `canary-by-header-pattern`.
    pub pattern: Option<RegexPattern>,
    /// `canary-by-cookie`.
    pub cookie: Option<Box<str>>,
    /// `canary-weight`.
    pub weight: u32,
    /// `canary-weight-total`.
    pub total: Option<NonZeroU32>,
}

impl CanaryAnnotations {
    /// The header that decides. A value goes before a pattern.
    pub(crate) fn header(&self) -> Option<CanaryHeader> {
        let name = self.header.clone()?;
        let values = match (&self.value, &self.pattern) {
            (Some(value), _) => CanaryValues::Exact(value.clone()),
            (None, Some(pattern)) => CanaryValues::Pattern(pattern.clone()),
            (None, None) => CanaryValues::AlwaysOrNever,
        };
        Some(CanaryHeader { name, values })
    }

    /// The total of the weights. ingress-nginx hears of one only when it is above 100.
    pub(crate) fn total(&self) -> NonZeroU32 {
        self.total.unwrap_or(LEAST_TOTAL).max(LEAST_TOTAL)
    }
}

/// The name of a header. nginx's variables have underscores for its dashes, so both mean the same.
pub(super) fn header(text: &str) -> Result<HeaderName, ValueError> {
    checked(text)?.trim().replace('_', "-").parse().map_err(|_| ValueError::HeaderName(text.to_owned()))
}

/// `^[/\-._~a-zA-Z0-9:]*$`, ingress-nginx's grammar for names and values; it does not mind spaces.
pub(super) fn text(text: &str) -> Result<Box<str>, ValueError> {
    checked(text).map(str::trim).map(Into::into)
}

/// A regular expression of its grammar.
pub(super) fn pattern(text: &str) -> Result<RegexPattern, ValueError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._~/:^$[](){}*+?|&=\\".contains(c);
    match short(text)?.chars().find(|c| !is_allowed(*c)) {
        Some(c) => Err(ValueError::Byte(c)),
        None => Ok(RegexPattern::search(text, false)?),
    }
}

/// A share.
pub(super) fn weight(text: &str) -> Result<u32, ValueError> {
    u32::try_from(number(text)?).map_err(|_| ValueError::Number(text.to_owned()))
}

fn checked(text: &str) -> Result<&str, ValueError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._~/: ".contains(c);
    short(text)?.chars().find(|c| !is_allowed(*c)).map_or(Ok(text), |c| Err(ValueError::Byte(c)))
}
