//! Which endpoint of a backend takes a request.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::template::HashKey;

/// How the endpoint for a request is chosen.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Balance {
    /// How requests without a session are shared out.
    pub algorithm: Algorithm,
    /// For this long a new endpoint, or one that is back, gets less than its share; `None` for the whole share at once.
    #[serde(serialize_with = "optional_seconds")]
    pub slow_start: Option<Duration>,
    /// What takes an endpoint out of the rotation for a while.
    pub ejection: Ejection,
}

/// How requests are shared out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Algorithm {
    /// One after the other.
    #[default]
    RoundRobin,
    /// Of two endpoints at random, the one that answers sooner: by a moving average of the time to the head of the
    /// answer, times the requests that it works on.
    Ewma,
    /// Of two endpoints at random, the one that works on fewer requests.
    LeastRequests,
    /// By a key of the request, on a [ring](crate::HashRing).
    Hash {
        /// What is hashed.
        key: HashKey,
        /// Spreads the requests of a key over so many endpoints; `None` for one.
        subset: Option<NonZeroU32>,
    },
}

/// What counts against an endpoint. One that has failed five times in a row is left out for ten seconds, and twice as
/// long each time after that, up to five minutes; half of the endpoints of a backend stay in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Ejection {
    /// Nothing.
    Off,
    /// Connections that cannot be made or break, and time that runs out.
    #[default]
    Failures,
    /// The same, and answers from 500 up.
    FailuresAndServerErrors,
}

impl Balance {
    /// Whether endpoints are looked up by a key, for which something has to be prepared.
    pub(crate) fn needs_index(&self) -> bool {
        matches!(self.algorithm, Algorithm::Hash { .. })
    }
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn optional_seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.collect_str(&format_args!("{}s", duration.as_secs_f64())),
        None => serializer.serialize_none(),
    }
}
