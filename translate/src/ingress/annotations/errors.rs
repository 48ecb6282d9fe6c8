//! Pages in place of errors: `custom-http-errors` and `disable-proxy-intercept-errors`.

use super::value::{ValueError, short};

/// The annotations that replace errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorAnnotations {
    /// `custom-http-errors`.
    pub statuses: Option<Box<[u16]>>,
    /// `disable-proxy-intercept-errors`; `None` leaves it to the settings.
    pub keeps_upstream: Option<bool>,
}

/// Statuses from 400 to 599, separated by commas.
pub(crate) fn statuses(text: &str) -> Result<Box<[u16]>, ValueError> {
    let refuse = || ValueError::ErrorStatuses(text.to_owned());
    let status = |entry: &str| {
        let status = entry.parse().ok().filter(|status| (400..=599).contains(status));
        // A number may have a sign.
        status.filter(|_| entry.len() == 3).ok_or_else(refuse)
    };
    let entries = short(text)?.split(',').map(|entry| entry.trim_matches(' ')).filter(|entry| !entry.is_empty());
    let mut statuses: Vec<u16> = entries.map(status).collect::<Result<_, _>>()?;
    statuses.sort_unstable();
    statuses.dedup();
    if statuses.is_empty() { Err(refuse()) } else { Ok(statuses.into()) }
}
