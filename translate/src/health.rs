//! The annotation `penstock.dev/health-check` of a Service or an Ingress.
//!
//! `http:/path`, `https:/path`, `tcp`, `grpc` or `grpc:service`, and after it, separated by spaces and in any order,
//! `host=` (for HTTP), `interval=`, `timeout=`, `fall=` and `rise=`: `http:/healthz host=shop.example.com interval=5s`.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use routing::model::{HealthCheck, Probe};

use crate::ingress::annotations::duration;

/// The name of the annotation.
pub(crate) const ANNOTATION: &str = "penstock.dev/health-check";

/// Endpoints are not asked more often than this.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// What holds where the annotation says nothing else.
const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(1);
const FALL: NonZeroU32 = NonZeroU32::new(3).unwrap();
const RISE: NonZeroU32 = NonZeroU32::new(2).unwrap();
const HOST: &str = "localhost";

/// Reads the annotation; the error says what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Arc<HealthCheck>, String> {
    let mut words = text.split_ascii_whitespace();
    let mut check = HealthCheck {
        probe: probe(words.next().unwrap_or_default())?,
        interval: INTERVAL,
        timeout: TIMEOUT,
        fall: FALL,
        rise: RISE,
    };
    for word in words {
        let wrong = |what: &str| format!("{word:?} is not {what}");
        match (word.split_once('='), &mut check.probe) {
            (Some(("interval", value)), _) => {
                let interval = duration(value).ok().filter(|interval| *interval >= SHORTEST_INTERVAL);
                check.interval = interval.ok_or_else(|| wrong("a duration of 100ms or more"))?;
            }
            (Some(("timeout", value)), _) => {
                let timeout = duration(value).ok().filter(|timeout| !timeout.is_zero());
                check.timeout = timeout.ok_or_else(|| wrong("a duration such as 500ms"))?;
            }
            (Some(("fall", value)), _) => check.fall = value.parse().map_err(|_| wrong("a number from 1 up"))?,
            (Some(("rise", value)), _) => check.rise = value.parse().map_err(|_| wrong("a number from 1 up"))?,
            (Some(("host", value)), Probe::Http { host, .. }) if is_plain(value) => *host = value.into(),
            _ => return Err(wrong("one of host=, interval=, timeout=, fall=, rise=")),
        }
    }
    Ok(Arc::new(check))
}

/// Writes the annotation: read again, it gives the same check.
pub(crate) fn write(check: &HealthCheck) -> String {
    let HealthCheck { probe, interval, timeout, fall, rise } = check;
    let (what, host) = match probe {
        Probe::Http { path, host, is_tls } => {
            (format!("http{}:{path}", if *is_tls { "s" } else { "" }), format!(" host={host}"))
        }
        Probe::Tcp => ("tcp".to_owned(), String::new()),
        Probe::Grpc { service } if service.is_empty() => ("grpc".to_owned(), String::new()),
        Probe::Grpc { service } => (format!("grpc:{service}"), String::new()),
    };
    let text = |duration: &Duration| match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    };
    format!("{what}{host} interval={} timeout={} fall={fall} rise={rise}", text(interval), text(timeout))
}

fn probe(word: &str) -> Result<Probe, String> {
    let http = |path: &str, is_tls| Probe::Http { path: path.into(), host: HOST.into(), is_tls };
    match word.split_once(':').unwrap_or((word, "")) {
        ("http", path) if path.starts_with('/') && is_plain(path) => Ok(http(path, false)),
        ("https", path) if path.starts_with('/') && is_plain(path) => Ok(http(path, true)),
        ("tcp", "") => Ok(Probe::Tcp),
        ("grpc", service) if service.is_empty() || is_plain(service) => Ok(Probe::Grpc { service: service.into() }),
        _ => Err(format!("{word:?} is not one of http:/path, https:/path, tcp, grpc, grpc:service")),
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_what_its_words_say() {
        let check = parse("http:/healthz?full interval=500ms timeout=2s fall=1 rise=5 host=a.example").unwrap();
        let probe = Probe::Http { path: "/healthz?full".into(), host: "a.example".into(), is_tls: false };
        let numbers = (check.fall.get(), check.rise.get());
        assert_eq!((&check.probe, check.interval, check.timeout), (&probe, Duration::from_millis(500), 2 * TIMEOUT));
        assert_eq!(numbers, (1, 5));
        assert_eq!(parse("tcp").unwrap().interval, INTERVAL);
        assert_eq!(parse("grpc").unwrap().probe, Probe::Grpc { service: "".into() });
        assert_eq!(parse("grpc:a.B").unwrap().probe, Probe::Grpc { service: "a.B".into() });
    }

    #[test]
    fn what_is_no_check_is_refused() {
        for text in [
            "",
            "http",
            "http:",
            "http:healthz",
            "http:/\u{fc}",
            "tcp:80",
            "udp",
            "tcp interval=1",
            "tcp interval=10ms",
            "tcp timeout=0s",
            "tcp fall=0",
            "tcp rise=x",
            "tcp host=a",
            "tcp often",
            "http:/ host=",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
