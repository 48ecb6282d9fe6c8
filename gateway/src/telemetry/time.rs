//! The time of day as logs want it, computed once a second for each thread.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

thread_local! {
    static LAST: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// Calls `use_text` with the time in nginx's `$time_local` form, in UTC: `21/Nov/2026:03:13:09 +0000`.
pub(super) fn with_local_time<R>(use_text: impl FnOnce(&str) -> R) -> R {
    let now = unix_seconds();
    LAST.with_borrow_mut(|(second, text)| {
        if *second != now {
            *second = now;
            *text = format_time(now);
        }
        use_text(text)
    })
}

/// Seconds since 1970.
pub(super) fn unix_seconds() -> u64 {
    since_epoch().as_secs()
}

/// The time since 1970.
pub(super) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A time in nginx's `$time_iso8601` form, in UTC: `2026-11-21T03:13:09+00:00`.
pub(super) fn iso8601(unix: u64) -> String {
    timestamp(unix).strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

fn timestamp(unix: u64) -> jiff::Timestamp {
    i64::try_from(unix).ok().and_then(|second| jiff::Timestamp::from_second(second).ok()).unwrap_or_default()
}

fn format_time(unix: u64) -> String {
    timestamp(unix).strftime("%d/%b/%Y:%H:%M:%S +0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_is_written_as_nginx_writes_it() {
        for (unix, expected) in [
            (0, "01/Jan/1970:00:00:00 +0000"),
            (951_782_399, "28/Feb/2000:23:59:59 +0000"),
            (951_782_400, "29/Feb/2000:00:00:00 +0000"),
            (1_795_230_789, "21/Nov/2026:03:13:09 +0000"),
            (4_107_542_400, "01/Mar/2100:00:00:00 +0000"),
        ] {
            assert_eq!(format_time(unix), expected);
        }
        assert_eq!(iso8601(1_795_230_789), "2026-11-21T03:13:09+00:00");
    }
}
