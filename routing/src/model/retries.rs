//! What happens when an attempt at an endpoint fails (nginx `proxy_next_upstream`).

use std::time::Duration;

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

/// When a request is given to another endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Retries {
    /// How many endpoints are tried, the first included; 0 for all.
    pub tries: u32,
    /// No other endpoint is tried after this time; `None` for no such limit.
    #[serde(serialize_with = "optional_seconds")]
    pub timeout: Option<Duration>,
    /// After which failures another one is tried.
    pub conditions: RetryConditions,
}

/// A failure after which another endpoint is tried, in nginx's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryCondition {
    /// Connecting, sending the request or reading the head of the answer failed.
    Error,
    /// One of these took too long.
    Timeout,
    /// The answer was empty or no HTTP.
    InvalidHeader,
    /// The answer was 403.
    Http403,
    /// The answer was 404.
    Http404,
    /// The answer was 429.
    Http429,
    /// The answer was 500.
    Http500,
    /// The answer was 502.
    Http502,
    /// The answer was 503.
    Http503,
    /// The answer was 504.
    Http504,
    /// Requests that an endpoint may have acted upon are repeated too, whatever their method.
    NonIdempotent,
}

/// A set of failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryConditions(u16);

impl RetryCondition {
    /// All of them, with their names in nginx's directive.
    pub const ALL: [(&'static str, Self); 11] = [
        ("error", Self::Error),
        ("timeout", Self::Timeout),
        ("invalid_header", Self::InvalidHeader),
        ("http_403", Self::Http403),
        ("http_404", Self::Http404),
        ("http_429", Self::Http429),
        ("http_500", Self::Http500),
        ("http_502", Self::Http502),
        ("http_503", Self::Http503),
        ("http_504", Self::Http504),
        ("non_idempotent", Self::NonIdempotent),
    ];

    /// The condition that stands for an answer with this status.
    #[must_use]
    pub fn of_status(status: u16) -> Option<Self> {
        Some(match status {
            403 => Self::Http403,
            404 => Self::Http404,
            429 => Self::Http429,
            500 => Self::Http500,
            502 => Self::Http502,
            503 => Self::Http503,
            504 => Self::Http504,
            _ => return None,
        })
    }
}

// === impl RetryConditions ===

impl RetryConditions {
    /// The set with one more.
    #[must_use]
    pub fn with(self, condition: RetryCondition) -> Self {
        Self(self.0 | 1 << condition as u16)
    }

    /// Whether a condition is in the set.
    #[must_use]
    pub fn contain(self, condition: RetryCondition) -> bool {
        self.0 >> condition as u16 & 1 == 1
    }
}

impl Serialize for RetryConditions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut names = serializer.serialize_seq(None)?;
        for (name, _) in RetryCondition::ALL.iter().filter(|(_, condition)| self.contain(*condition)) {
            names.serialize_element(name)?;
        }
        names.end()
    }
}

// === impl Retries ===

impl Default for Retries {
    /// `proxy-next-upstream`, `-tries` and `-timeout` of ingress-nginx.
    fn default() -> Self {
        let conditions = RetryConditions::default().with(RetryCondition::Error).with(RetryCondition::Timeout);
        Self { tries: 3, timeout: None, conditions }
    }
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn optional_seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.collect_str(&format_args!("{}s", duration.as_secs_f64())),
        None => serializer.serialize_none(),
    }
}
