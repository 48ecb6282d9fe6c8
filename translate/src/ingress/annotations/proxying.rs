//! How long an upstream may take: `proxy-connect-timeout` and its like.

use std::time::Duration;

use routing::model::Timeouts;

use super::value::{ValueError, number};

/// The longest time that a value may name, in seconds: more than any connection lives.
const MAX_SECONDS: u64 = 366 * 86_400;

/// The annotations that say how long an upstream may take.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProxyingAnnotations {
    /// `proxy-connect-timeout`.
    pub connect_timeout: Option<Duration>,
    /// `proxy-send-timeout`.
    pub send_timeout: Option<Duration>,
    /// `proxy-read-timeout`.
    pub read_timeout: Option<Duration>,
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
}

/// A number of seconds without a unit, as ingress-nginx wants it. nginx would give up at once with 0.
pub(super) fn timeout(text: &str) -> Result<Duration, ValueError> {
    let seconds = u64::try_from(number(text)?).ok().filter(|seconds| (1..=MAX_SECONDS).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| ValueError::Seconds(text.to_owned()))
}
