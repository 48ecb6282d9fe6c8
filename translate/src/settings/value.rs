//! Values of settings: one total parser for each type, whose error says what a value must be.

use std::net::IpAddr;
use std::time::Duration;

use routing::model::{Algorithm, Ejection, RetryConditions};
use routing::{HeadLimits, Networks, TextPattern, TrustedProxies};

use crate::ingress::annotations;

/// A value, or what it must be.
pub(super) type Parsed<T> = Result<T, &'static str>;

pub(super) fn boolean(text: &str) -> Parsed<bool> {
    annotations::boolean(text).map_err(|_| "\"true\" or \"false\"")
}

/// A number of seconds; the unit `s` may stand behind it.
pub(super) fn seconds(text: &str) -> Parsed<Duration> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok().filter(|seconds| (1..=86_400).contains(seconds));
    seconds.map(Duration::from_secs).ok_or("a number of seconds from 1 to 86400")
}

pub(super) fn algorithm(text: &str) -> Parsed<Algorithm> {
    annotations::algorithm(text).map_err(|_| "one of round_robin, ewma, least_requests")
}

pub(super) fn conditions(text: &str) -> Parsed<RetryConditions> {
    annotations::conditions(text).map_err(|_| "a list of conditions of proxy_next_upstream")
}

pub(super) fn retry_time(text: &str) -> Parsed<Option<Duration>> {
    annotations::optional_timeout(text).map_err(|_| "a number of seconds, or 0 for no limit")
}

pub(super) fn ejection(text: &str) -> Parsed<Ejection> {
    annotations::ejection(text).map_err(|_| "one of on, off, 5xx")
}

pub(super) fn slow_start(text: &str) -> Parsed<Option<Duration>> {
    annotations::duration(text).map(Some).map_err(|_| "a duration such as 30s")
}

pub(super) fn count(text: &str) -> Parsed<u32> {
    text.parse().map_err(|_| "a number from 0 up")
}

pub(super) fn positive(text: &str) -> Parsed<u32> {
    text.parse().ok().filter(|number| *number > 0).ok_or("a number from 1 up")
}

pub(super) fn number(text: &str) -> Parsed<u32> {
    text.parse().map_err(|_| "a number")
}

/// A time as nginx has it, in whole seconds: a number, with the unit `s`, `m` or `h`, or without for seconds.
pub(super) fn time(text: &str) -> Parsed<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let seconds = scale.zip(number.parse::<u64>().ok()).and_then(|(scale, number)| number.checked_mul(scale));
    let seconds = seconds.filter(|seconds| *seconds <= 86_400);
    seconds.map(Duration::from_secs).ok_or("a time such as 600s, of a day at most")
}

/// The same, but not none.
pub(super) fn positive_time(text: &str) -> Parsed<Duration> {
    time(text).ok().filter(|time| !time.is_zero()).ok_or("a time such as 600s, from a second to a day")
}

/// A number and a size of buffers, as nginx's `large_client_header_buffers` has them.
pub(super) fn head_buffers(text: &str) -> Parsed<HeadLimits> {
    let (number, size) = text.split_once(' ').ok_or(HEAD_BUFFERS)?;
    let number = number.parse().ok().filter(|number| (1..=64).contains(number)).ok_or(HEAD_BUFFERS)?;
    let size = buffer(size.trim_start()).ok().filter(|size| (1024..=1 << 20).contains(size)).ok_or(HEAD_BUFFERS)?;
    Ok(HeadLimits::of_buffers(number, size))
}

const HEAD_BUFFERS: &str = "a number from 1 to 64, a space, and a size from 1k to 1m";

pub(super) fn buffer(text: &str) -> Parsed<usize> {
    annotations::buffer_size(text).map_err(|_| SIZE)
}

pub(super) fn body(text: &str) -> Parsed<Option<u64>> {
    annotations::body_size(text).map_err(|_| SIZE)
}

const SIZE: &str = "a size, such as 8k or 10m";

pub(super) fn level(text: &str, best: u8) -> Parsed<u8> {
    text.parse().ok().filter(|level| (1..=best).contains(level)).ok_or("a level of compression that there is")
}

/// Media types, separated by spaces.
pub(super) fn media_types(text: &str) -> Parsed<Vec<Box<str>>> {
    let types = || text.split_ascii_whitespace();
    let is_type = |media: &str| {
        media == "*" || media.split_once('/').is_some_and(|(kind, sub)| !kind.is_empty() && !sub.is_empty())
    };
    if types().all(is_type) {
        Ok(types().map(|media| media.to_ascii_lowercase().into()).collect())
    } else {
        Err("a list of media types, separated by spaces")
    }
}

/// Any text; the empty one is none.
pub(super) fn text(text: &str) -> Parsed<Option<Box<str>>> {
    Ok(Some(text).filter(|text| !text.is_empty()).map(Into::into))
}

pub(super) fn redirect_code(text: &str) -> Parsed<u16> {
    text.parse().ok().filter(|code| matches!(code, 301 | 302 | 307 | 308)).ok_or("301, 302, 307 or 308")
}

pub(super) fn error_code(text: &str) -> Parsed<u16> {
    text.parse().ok().filter(|code| (400..=599).contains(code)).ok_or("a status from 400 to 599")
}

pub(super) fn error_statuses(text: &str) -> Parsed<Box<[u16]>> {
    annotations::statuses(text).map_err(|_| "a list of statuses from 400 to 599, separated by commas")
}

pub(super) fn header(text: &str) -> Parsed<http::HeaderName> {
    text.parse().map_err(|_| "the name of a header")
}

pub(super) fn header_names(text: &str) -> Parsed<Vec<http::HeaderName>> {
    entries(text).map(str::parse).collect::<Result<_, _>>().map_err(|_| "a list of headers, separated by commas")
}

/// Patterns of nginx's `map`.
pub(super) fn patterns(text: &str) -> Parsed<Vec<TextPattern>> {
    let patterns: Result<_, _> = entries(text).map(TextPattern::parse).collect();
    patterns.map_err(|_| "a list of texts, and of regular expressions with ~ or ~* before them, separated by commas")
}

pub(super) fn locations(text: &str) -> Parsed<Vec<Box<str>>> {
    let is_path = |location: &str| location.starts_with('/');
    if entries(text).all(is_path) {
        Ok(entries(text).map(Into::into).collect())
    } else {
        Err("a list of paths, separated by commas")
    }
}

pub(super) fn networks(text: &str) -> Parsed<TrustedProxies> {
    let network = |text: &str| text.parse().ok().or_else(|| text.parse().ok().map(|address: IpAddr| address.into()));
    let parsed: Option<Vec<ipnet::IpNet>> = entries(text).map(network).collect();
    parsed.map(TrustedProxies::new).ok_or("a list of networks in CIDR form, separated by commas")
}

/// The networks of an access list; no value is none.
pub(super) fn address_set(text: &str) -> Parsed<Networks> {
    if text.is_empty() {
        return Ok(Networks::default());
    }
    annotations::networks(text).map_err(|_| "a list of networks in CIDR form, separated by commas")
}

/// The entries of a list that commas separate; empty ones do not count.
fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}
