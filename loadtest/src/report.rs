//! Lines for people, on the standard output.

use std::io::Write as _;

/// Writes a line. Whoever closed the pipe has seen enough.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Writes whether a goal is met.
pub(crate) fn goal(what: &str, is_met: bool, found: &str) {
    line(&format!("goal {}: {what} ({found})", if is_met { "met" } else { "NOT met" }));
}
