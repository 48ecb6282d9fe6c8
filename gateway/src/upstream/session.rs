//! Sessions that stay with an endpoint by a cookie, as ingress-nginx has them: the same keys, the same choices, the same
//! `Set-Cookie`, so that sessions survive a migration.

use std::fmt::Write as _;
use std::sync::Arc;

use routing::model::{AffinityMode, CookieAffinity};
use routing::{Backend, BackendState, Endpoint};

use super::select::Choice;

/// New sessions try so many keys for an endpoint that is well (`MAX_UPSTREAM_CHECKS_COUNT` of ingress-nginx).
const MAX_KEYS: u32 = 20;

/// The endpoint of a session.
pub(crate) struct Seat {
    /// The endpoint.
    pub(crate) endpoint: Arc<Endpoint>,
    /// Whether the session had it before.
    pub(crate) is_kept: bool,
    /// The key of a new session, for its cookie.
    pub(crate) new_key: Option<String>,
}

/// What a cookie is set for.
pub(crate) struct SetCookie<'a> {
    /// How sessions are kept.
    pub(crate) affinity: &'a CookieAffinity,
    /// The backend of the session.
    pub(crate) backend: &'a Backend,
    /// The key of the session.
    pub(crate) key: &'a str,
    /// The path of the rule.
    pub(crate) path: &'a str,
    /// Whether the client came by HTTPS.
    pub(crate) is_https: bool,
    /// `User-Agent`.
    pub(crate) user_agent: &'a str,
    /// The time of day, in seconds since 1970.
    pub(crate) unix_now: i64,
}

/// The endpoint that a session has by the key of its cookie.
pub(crate) fn seat_of(state: &BackendState, affinity: &CookieAffinity, key: &str) -> Option<Arc<Endpoint>> {
    let index = state.index.as_ref()?;
    let place = match affinity.mode {
        AffinityMode::Balanced => index.ring.walk(crc32fast::hash(key.as_bytes())).next(),
        AffinityMode::Persistent => index.endpoint_of(key),
    };
    state.endpoints.get(place?).cloned()
}

/// Finds the endpoint of a session, and gives one to a new session. A session leaves an endpoint only when that is gone,
/// when active checks find it down, or, where it `changes_on_failure`, when it has failed.
pub(crate) fn seat(
    backend: &Backend,
    choice: &Choice<'_>,
    affinity: &CookieAffinity,
    key: Option<&str>,
    unix_now: i64,
) -> Option<Seat> {
    let state = backend.state();
    if let Some(endpoint) = key.and_then(|key| seat_of(&state, affinity, key)) {
        let stays = if affinity.changes_on_failure {
            choice.failed.is_empty() && choice.is_usable(&endpoint)
        } else {
            choice.is_up(&endpoint)
        };
        if stays {
            return choice.is_new(&endpoint).then_some(Seat { endpoint, is_kept: true, new_key: None });
        }
    }
    let index = state.index.as_ref()?;
    match affinity.mode {
        AffinityMode::Balanced => {
            for number in 1..=MAX_KEYS {
                let key = new_key(unix_now + i64::from(number));
                if let Some(endpoint) = seat_of(&state, affinity, &key).filter(|endpoint| choice.is_usable(endpoint)) {
                    return Some(Seat { endpoint, is_kept: false, new_key: Some(key) });
                }
            }
            // Nobody is well: as without a session, somebody gets the request.
            super::select(backend, choice).map(|endpoint| Seat { endpoint, is_kept: false, new_key: None })
        }
        AffinityMode::Persistent => {
            let endpoint = choice.any(&state.endpoints)?;
            let place = state.endpoints.iter().position(|other| Arc::ptr_eq(other, endpoint))?;
            let new_key = index.key_of(place).map(str::to_owned);
            Some(Seat { endpoint: Arc::clone(endpoint), is_kept: false, new_key })
        }
    }
}

/// A key that says nothing: a time, the process, a random number.
fn new_key(unix: i64) -> String {
    let (pid, random) = (std::process::id(), fastrand::u32(1..1_000_000));
    format!("{unix}.{:03}.{pid}.{random}", fastrand::u32(..1000))
}

impl SetCookie<'_> {
    /// The value of the `Set-Cookie` header, its attributes in ingress-nginx's order.
    pub(crate) fn text(&self) -> String {
        let Self { affinity, backend, key, path, is_https, user_agent, unix_now } = self;
        let mut text = format!("{}={key}|{}", affinity.name, backend.session_key());
        // Writing to a text cannot fail.
        if let Some(expires) = affinity.expires {
            let _ = write!(text, "; Expires={}", cookie_time(unix_now.saturating_add(expires)));
        }
        if let Some(max_age) = affinity.max_age {
            let _ = write!(text, "; Max-Age={max_age}");
        }
        if let Some(domain) = &affinity.domain {
            let _ = write!(text, "; Domain={domain}");
        }
        let _ = write!(text, "; Path={}", affinity.path.as_deref().unwrap_or(path));
        if affinity.is_always_secure || *is_https {
            text.push_str("; Secure");
        }
        text.push_str("; HttpOnly");
        if let Some(same_site) = &affinity.same_site {
            let is_left_out =
                same_site.is_conditional && &*same_site.value == "None" && !takes_same_site_none(user_agent);
            if !is_left_out {
                let _ = write!(text, "; SameSite={}", same_site.value);
            }
        }
        text
    }
}

/// A time as nginx writes it for cookies: the year has two digits up to 2037.
fn cookie_time(unix: i64) -> String {
    let time = jiff::Timestamp::from_second(unix).unwrap_or_default();
    let year = time.to_zoned(jiff::tz::TimeZone::UTC).year();
    let format = if year > 2037 { "%a, %d-%b-%Y %H:%M:%S GMT" } else { "%a, %d-%b-%y %H:%M:%S GMT" };
    time.strftime(format).to_string()
}

/// Whether a browser takes a cookie with `SameSite=None`: those of the list that the Chromium project gives
/// ("SameSite=None: Known Incompatible Clients"), as far as ingress-nginx knows them.
fn takes_same_site_none(user_agent: &str) -> bool {
    let has = |part: &str| user_agent.contains(part);
    let is_old_chrome = has("Chrome/4") || has("Chrome/5") || has("Chrome/6");
    let is_ios_12 = has("CPU iPhone OS 12") || has("iPad; CPU OS 12");
    let is_safari_of_mojave = has("Macintosh") && has("Intel Mac OS X 10_14") && has("Safari") && !has("Chrome");
    !(is_old_chrome || is_ios_12 || is_safari_of_mojave)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_year_of_a_cookie_has_two_digits_until_2037() {
        // nginx's ngx_http_cookie_time().
        for (unix, expected) in [
            (1_290_079_655, "Thu, 18-Nov-10 11:27:35 GMT"),
            (2_145_916_799, "Thu, 31-Dec-37 23:59:59 GMT"),
            (2_145_916_800, "Fri, 01-Jan-2038 00:00:00 GMT"),
        ] {
            assert_eq!(cookie_time(unix), expected);
        }
    }

    #[test]
    fn browsers_that_refuse_same_site_none_are_known() {
        for (user_agent, takes) in [
            ("", true),
            ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126.0.0.0 Safari/537.36", true),
            ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/52.0.2743.116 Safari/537.36", false),
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 12_1 like Mac OS X)", false),
            ("Mozilla/5.0 (iPad; CPU OS 12_2 like Mac OS X)", false),
            ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_14_5) Version/12.1 Safari/605.1.15", false),
            ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_14_5) Chrome/76.0 Safari/537.36", true),
        ] {
            assert_eq!(takes_same_site_none(user_agent), takes, "{user_agent}");
        }
    }
}
