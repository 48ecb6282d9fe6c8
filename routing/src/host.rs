//! Host names: what a manifest says, what a request says, and when the two are equal.
//!
//! Hosts are compared without case, port and trailing dot (RFC 3986 section 3.2.2, RFC 1034 section 3.1).

use std::fmt;

use serde::{Serialize, Serializer};

/// The longest host name that DNS can carry, in bytes (RFC 1035 section 2.3.4).
const MAX_HOST: usize = 253;

/// How many labels the `*` of a wildcard stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WildcardDepth {
    /// One, as an Ingress host has it.
    One,
    /// One or more, as a Gateway API hostname has it.
    OneOrMore,
}

/// The hosts that a rule, a listener or a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This name only.
    Exact(Box<str>),
    /// Names that end in `.suffix`.
    Wildcard {
        /// What follows `*.`, in lower case and without a trailing dot.
        suffix: Box<str>,
        /// How many labels may stand for the `*`.
        depth: WildcardDepth,
    },
    /// Every name, and requests that name no host.
    Any,
}

/// Why a text is not a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Longer than DNS allows.
    #[error("host is longer than {MAX_HOST} bytes")]
    TooLong,
    /// An empty label, as in `a..b`.
    #[error("host {0:?} has an empty label")]
    EmptyLabel(String),
    /// A `*` that is not the whole first label.
    #[error("host {0:?}: a wildcard must be the whole first label, as in *.example.com")]
    Wildcard(String),
    /// A byte that no host name has.
    #[error("host {host:?} must not contain {byte:?}")]
    Byte {
        /// The host as it was written.
        host: String,
        /// The first byte that is out of place.
        byte: char,
    },
}

/// The host of one request in the form that hosts are compared in: lower case, without port and trailing dot.
///
/// It lives on the stack, because a look-up must not allocate.
#[derive(Clone)]
pub struct HostName {
    bytes: [u8; MAX_HOST],
    len: u8,
}

// === impl HostPattern ===

impl HostPattern {
    /// Reads the host of a manifest. An empty text and `*` mean [`HostPattern::Any`].
    pub fn parse(text: &str, depth: WildcardDepth) -> Result<Self, HostError> {
        let host = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if host.len() > MAX_HOST {
            return Err(HostError::TooLong);
        }
        if host.is_empty() || host == "*" {
            return Ok(Self::Any);
        }
        let name = host.strip_prefix("*.").unwrap_or(&host);
        if name.contains('*') {
            return Err(HostError::Wildcard(text.to_owned()));
        }
        if let Some(byte) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
            return Err(HostError::Byte { host: text.to_owned(), byte });
        }
        if name.split('.').any(str::is_empty) {
            return Err(HostError::EmptyLabel(text.to_owned()));
        }
        Ok(if name.len() < host.len() {
            Self::Wildcard { suffix: name.into(), depth }
        } else {
            Self::Exact(name.into())
        })
    }

    /// Whether this pattern speaks of `host`.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => **name == *host,
            Self::Wildcard { suffix, depth } => {
                host.strip_suffix(&**suffix).and_then(|rest| rest.strip_suffix('.')).is_some_and(|labels| {
                    !labels.is_empty() && (*depth == WildcardDepth::OneOrMore || !labels.contains('.'))
                })
            }
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard { suffix, .. } => write!(f, "*.{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Wildcard { suffix, depth: WildcardDepth::OneOrMore } => {
                serializer.collect_str(&format_args!("**.{suffix}"))
            }
            other => serializer.collect_str(other),
        }
    }
}

// === impl HostName ===

impl HostName {
    /// Reads the authority of a request: `host[:port]`, an IPv6 literal keeps its brackets.
    ///
    /// `None` when it is longer than any host that a rule can name. The syntax of the authority is the business of the
    /// strict request gate; here a byte that no host has simply matches no rule.
    #[must_use]
    pub fn new(authority: &str) -> Option<Self> {
        let end = match authority.bytes().next() {
            Some(b'[') => authority.find(']').map(|at| at + 1),
            _ => authority.bytes().position(|byte| byte == b':'),
        };
        let host = &authority.as_bytes()[..end.unwrap_or(authority.len())];
        let host = host.strip_suffix(b".").unwrap_or(host);
        let mut name = Self { bytes: [0; MAX_HOST], len: u8::try_from(host.len()).ok()? };
        name.bytes.get_mut(..host.len())?.copy_from_slice(host);
        name.bytes[..host.len()].make_ascii_lowercase();
        Some(name)
    }

    /// The normalised text; empty when the request named no host.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Lower-casing ASCII bytes of a `str` and cutting it at ASCII delimiters leaves it UTF-8.
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_host_is_compared_without_case_port_and_trailing_dot() {
        for (authority, host) in [
            ("Example.COM", "example.com"),
            ("example.com:8080", "example.com"),
            ("example.com.", "example.com"),
            ("example.com.:443", "example.com"),
            ("[2001:DB8::1]:8080", "[2001:db8::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(HostName::new(authority).unwrap().as_str(), host, "{authority}");
        }
        assert!(HostName::new(&"a".repeat(254)).is_none());
    }

    #[test]
    fn a_wildcard_of_an_ingress_stands_for_one_label() {
        let pattern = HostPattern::parse("*.Example.com", WildcardDepth::One).unwrap();
        for (host, expected) in [
            ("a.example.com", true),
            ("a.b.example.com", false),
            ("example.com", false),
            (".example.com", false),
            ("aexample.com", false),
        ] {
            assert_eq!(pattern.matches(host), expected, "{host}");
        }
        let pattern = HostPattern::parse("*.example.com", WildcardDepth::OneOrMore).unwrap();
        assert!(pattern.matches("a.b.example.com"));
        assert!(!pattern.matches("example.com"));
    }

    #[test]
    fn a_host_that_dns_cannot_carry_is_refused() {
        for text in ["a..b", "a/b", "a b", "foo.*.com", "*foo.com", "a:80", "ü.de", &"a".repeat(254)] {
            assert!(HostPattern::parse(text, WildcardDepth::One).is_err(), "{text}");
        }
        let long = "a".repeat(64 << 10);
        for part in [";", "{", "}", "$(", "${", "\"", "'", "#", "\n", "\r\n", "\0", "../", "\\", "`", &long] {
            for text in [format!("{part}.test"), format!("a{part}b.test"), format!("a.test{part}")] {
                assert!(HostPattern::parse(&text, WildcardDepth::One).is_err(), "{text:?}");
            }
        }
        assert_eq!(HostPattern::parse("", WildcardDepth::One), Ok(HostPattern::Any));
        assert_eq!(HostPattern::parse("a_b.c.", WildcardDepth::One), Ok(HostPattern::Exact("a_b.c".into())));
    }
}
