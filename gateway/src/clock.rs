//! The clock of the data plane: the time since it was first read, which an atomic number can hold.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// The time of now. Functions that depend on it take it as a value.
pub(crate) fn now() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}
