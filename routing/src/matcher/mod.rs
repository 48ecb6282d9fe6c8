//! One file for each dimension of a match: header, query parameter, and the regular expressions that both share with
//! paths.

mod header;
mod query;
mod regex;

use serde::Serialize;

pub use header::HeaderMatch;
pub use query::QueryMatch;
pub(crate) use regex::RegexSet;
pub use regex::{MatchError, RegexPattern};

/// What a header or a query parameter must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ValueMatch {
    /// Equal, byte for byte.
    Exact(Box<str>),
    /// A regular expression that the whole value must satisfy.
    Regex(RegexPattern),
}

impl ValueMatch {
    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(expected) => expected.as_bytes() == value,
            Self::Regex(pattern) => pattern.is_match_bytes(value),
        }
    }
}
