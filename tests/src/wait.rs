//! Waiting for a condition, with a limit that only a failed test reaches.

use std::time::{Duration, Instant};

/// How long a condition may take to hold. Far above what anything needs, so that a loaded machine fails no test.
pub const LIMIT: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `probe` gives a value.
///
/// # Panics
/// When it does not within [`LIMIT`]; the text says what was waited for.
pub async fn until<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    within(LIMIT, what, probe).await
}

/// The same with another limit.
///
/// # Panics
/// When it does not within the limit; the text says what was waited for.
pub async fn within<T>(limit: Duration, what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(began.elapsed() < limit, "waited {limit:?} in vain: {what}");
        tokio::time::sleep(INTERVAL).await;
    }
}
