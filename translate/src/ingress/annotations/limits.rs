//! Annotations that limit what one client may do at a time.

use routing::Networks;
use routing::model::Rate;

use super::value::{self, ValueError};

/// The burst of ingress-nginx: this many times the limit.
const BURST_MULTIPLIER: u32 = 5;

/// What an Ingress says of limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitAnnotations {
    /// `limit-rps`.
    pub per_second: Option<u32>,
    /// `limit-rpm`.
    pub per_minute: Option<u32>,
    /// `limit-connections`.
    pub connections: Option<u32>,
    /// `limit-burst-multiplier`.
    pub burst_multiplier: Option<u32>,
    /// `limit-allowlist`.
    pub exempt: Networks,
}

impl LimitAnnotations {
    /// A rate with its burst.
    pub(crate) fn rate(&self, limit: Option<u32>) -> Option<Rate> {
        let multiplier = self.burst_multiplier.unwrap_or(BURST_MULTIPLIER);
        limit.map(|limit| Rate { limit, burst: limit.saturating_mul(multiplier) })
    }
}

/// A limit; what is not above 0 stands for none.
pub(super) fn limit(text: &str) -> Result<Option<u32>, ValueError> {
    let number = value::number(text)?;
    if number <= 0 {
        return Ok(None);
    }
    u32::try_from(number).map(Some).map_err(|_| ValueError::Number(text.to_owned()))
}

/// How many times the limit a burst is: 0 for no burst at all.
pub(super) fn multiplier(text: &str) -> Result<u32, ValueError> {
    u32::try_from(value::number(text)?).map_err(|_| ValueError::Number(text.to_owned()))
}
