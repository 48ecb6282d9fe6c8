//! How long an upstream may take, and what happens when it fails: `proxy-connect-timeout`, `proxy-next-upstream` and
//! their like.

use std::time::Duration;

use routing::model::{Retries, RetryCondition, RetryConditions, Timeouts};

use super::value::{ValueError, number};

/// The longest time that a value may name, in seconds: more than any connection lives.
const MAX_SECONDS: u64 = 366 * 86_400;

/// The annotations that say how long an upstream may take, and what happens when it fails.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProxyingAnnotations {
    /// `proxy-connect-timeout`.
    pub connect_timeout: Option<Duration>,
    /// `proxy-send-timeout`.
    pub send_timeout: Option<Duration>,
    /// `proxy-read-timeout`.
    pub read_timeout: Option<Duration>,
    /// `proxy-next-upstream`.
    pub next_upstream: Option<RetryConditions>,
    /// `proxy-next-upstream-tries`.
    pub next_upstream_tries: Option<u32>,
    /// `proxy-next-upstream-timeout`; `Some(None)` for no limit.
    pub next_upstream_timeout: Option<Option<Duration>>,
}

impl ProxyingAnnotations {
    /// The timeouts of a rule.
    pub(crate) fn timeouts_over(&self, defaults: &Timeouts) -> Timeouts {
        Timeouts {
            connect: self.connect_timeout.unwrap_or(defaults.connect),
            write: self.send_timeout.unwrap_or(defaults.write),
            read: self.read_timeout.unwrap_or(defaults.read),
            ..*defaults
        }
    }

    /// The retries of a rule. `retry-non-idempotent` of the settings holds for every rule.
    pub(crate) fn retries_over(&self, defaults: &Retries) -> Retries {
        let conditions = match self.next_upstream {
            Some(conditions) if defaults.conditions.contain(RetryCondition::NonIdempotent) => {
                conditions.with(RetryCondition::NonIdempotent)
            }
            Some(conditions) => conditions,
            None => defaults.conditions,
        };
        Retries {
            tries: self.next_upstream_tries.unwrap_or(defaults.tries),
            timeout: self.next_upstream_timeout.unwrap_or(defaults.timeout),
            conditions,
        }
    }
}

/// A number of seconds without a unit, as ingress-nginx wants it. nginx would give up at once with 0.
pub(super) fn timeout(text: &str) -> Result<Duration, ValueError> {
    optional_timeout(text)?.ok_or_else(|| ValueError::Seconds(text.to_owned()))
}

/// The same, where 0 stands for no limit.
pub(crate) fn optional_timeout(text: &str) -> Result<Option<Duration>, ValueError> {
    let seconds = u64::try_from(number(text)?).ok().filter(|seconds| *seconds <= MAX_SECONDS);
    let seconds = seconds.ok_or_else(|| ValueError::Seconds(text.to_owned()))?;
    Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
}

/// How many endpoints are tried; 0 for all.
pub(super) fn tries(text: &str) -> Result<u32, ValueError> {
    u32::try_from(number(text)?).map_err(|_| ValueError::Number(text.to_owned()))
}

/// nginx's conditions, separated by spaces; `off` goes before all others.
pub(crate) fn conditions(text: &str) -> Result<RetryConditions, ValueError> {
    let mut conditions = RetryConditions::default();
    let mut is_off = false;
    for name in text.split_ascii_whitespace() {
        match RetryCondition::ALL.iter().find(|(known, _)| *known == name) {
            Some((_, condition)) => conditions = conditions.with(*condition),
            None if name == "off" => is_off = true,
            None => return Err(ValueError::RetryCondition(name.to_owned())),
        }
    }
    Ok(if is_off { RetryConditions::default() } else { conditions })
}
