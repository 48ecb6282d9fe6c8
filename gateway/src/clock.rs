//! The clock of the data plane: the time since a while before it was first read, which an atomic number can hold.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time of day, in seconds since 1970.
pub(crate) fn unix_now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}

/// What is known from before the start of the process, because another one has told, is not older than this.
const PAST: Duration = Duration::from_secs(24 * 3600);

/// The time of now. Functions that depend on it take it as a value.
pub(crate) fn now() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    PAST + START.elapsed()
}
