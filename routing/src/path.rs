//! Request paths: one normalisation, and what a path is matched against.
//!
//! The normalised path is the one that is matched and the one that is forwarded: there is no second opinion that a
//! client could play against the first.

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::inline_text::InlineText;
use crate::matcher::RegexPattern;

/// Paths up to this length lie in the routes themselves, which are a cache line each then.
const INLINE_PATH: usize = 30;

/// Why the path of a request is refused with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Not an absolute path (RFC 9112 section 3.2.1).
    #[error("path does not start with a slash")]
    NotAbsolute,
    /// A raw control byte, space, `#`, backslash, or a byte outside of ASCII.
    #[error("path contains a byte that must be percent-encoded")]
    RawByte,
    /// `%` without two hexadecimal digits (RFC 3986 section 2.1).
    #[error("path contains a broken percent-encoding")]
    BrokenEscape,
    /// `%00` or `%5C`: bytes that back ends read as an end or as a separator.
    #[error("path contains an encoded NUL or backslash")]
    ForbiddenEscape,
    /// A dot segment with a parameter, as in `/..;/`: some back ends climb up on it, others do not.
    #[error("path contains a dot segment with a parameter")]
    DotSegmentParameter,
}

/// What the path of a request must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// Equal, byte for byte after normalisation.
    Exact(PathText),
    /// Equal, or followed by `/` and anything: element-wise, as `Prefix` of Ingress and `PathPrefix` of Gateway API.
    Prefix(PathPrefix),
    /// A regular expression.
    Regex(RegexPattern),
}

/// A path prefix without its trailing slash; the prefix `/` is the empty text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathPrefix(PathText);

/// The text of a path that others are compared with.
pub type PathText = InlineText<INLINE_PATH>;

/// Removes dot segments (RFC 3986 section 5.2.4) and decodes percent-encoded unreserved characters (section 6.2.2.2).
///
/// Everything else stays as it was received: `%2F` is an opaque byte of its segment and never a separator.
/// Paths that need no change are not copied.
///
/// # Errors
///
/// [`PathError`] for a path that two parsers could read differently.
pub fn normalize_path(path: &str) -> Result<Cow<'_, str>, PathError> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    let mut previous = 0;
    for &byte in bytes {
        // `/.` may start a dot segment, `%` an escape: both are rare, and both leave the fast path.
        if byte == b'%' || (byte == b'.' && previous == b'/') {
            return normalize_slowly(bytes).map(Cow::Owned);
        }
        if !is_allowed_raw(byte) {
            return Err(PathError::RawByte);
        }
        previous = byte;
    }
    Ok(Cow::Borrowed(path))
}

fn is_allowed_raw(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && !matches!(byte, b'#' | b'\\')
}

fn normalize_slowly(bytes: &[u8]) -> Result<String, PathError> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            if !is_allowed_raw(byte) {
                return Err(PathError::RawByte);
            }
            decoded.push(byte);
            continue;
        }
        let (&[high, low], tail) = rest.split_first_chunk::<2>().ok_or(PathError::BrokenEscape)?;
        let value = hex(high).zip(hex(low)).map(|(high, low)| high << 4 | low).ok_or(PathError::BrokenEscape)?;
        match value {
            0 | b'\\' => return Err(PathError::ForbiddenEscape),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => decoded.push(value),
            _ => decoded.extend_from_slice(&[b'%', high, low]),
        }
        rest = tail;
    }
    let decoded = String::from_utf8(decoded).map_err(|_| PathError::RawByte)?;
    remove_dot_segments(&decoded)
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn remove_dot_segments(path: &str) -> Result<String, PathError> {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            other if other.starts_with(".;") || other.starts_with("..;") => return Err(PathError::DotSegmentParameter),
            other => kept.push(other),
        }
    }
    let mut normalized = String::with_capacity(path.len());
    for segment in kept {
        normalized.push('/');
        normalized.push_str(segment);
    }
    Ok(normalized)
}

// === impl PathPrefix ===

impl PathPrefix {
    /// Makes a prefix of a normalised path. A trailing slash does not matter: Ingress `pathType: Prefix` and Gateway
    /// API `PathPrefix` both ignore it.
    #[must_use]
    pub fn new(path: &str) -> Self {
        Self(path.strip_suffix('/').unwrap_or(path).into())
    }

    /// The prefix without its trailing slash: empty for `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether `path` is the prefix or lies below it.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let rest = path.as_bytes().strip_prefix(self.as_bytes());
        rest.is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
    }
}

// === impl PathMatch ===

impl PathMatch {
    /// Whether the normalised `path` satisfies this match.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(expected) => expected.as_bytes() == path.as_bytes(),
            Self::Prefix(prefix) => prefix.matches(path),
            Self::Regex(pattern) => pattern.is_match(path),
        }
    }

    /// The length that precedence compares: the characters of the path as the author of the rule wrote it.
    #[must_use]
    pub fn n_characters(&self) -> usize {
        match self {
            Self::Exact(path) => path.as_bytes().len(),
            // Without the trailing slash, which means nothing: `/a` and `/a/` are the same prefix.
            Self::Prefix(prefix) => prefix.as_bytes().len(),
            Self::Regex(pattern) => pattern.as_str().len(),
        }
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "Exact {path}"),
            Self::Prefix(prefix) if prefix.as_str().is_empty() => f.write_str("Prefix /"),
            Self::Prefix(prefix) => write!(f, "Prefix {}", prefix.as_str()),
            Self::Regex(pattern) => write!(f, "Regex {pattern}"),
        }
    }
}

impl Serialize for PathMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_normalised_once_and_for_all() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("//a//b", "//a//b"),
            ("/pub/../admin", "/admin"),
            ("/pub/%2e%2E/admin", "/admin"),
            ("/pub/.%2E/admin", "/admin"),
            ("/../../x", "/x"),
            ("/a/./b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/%61dmin", "/admin"),
            ("/%7Euser", "/~user"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a%2fb", "/a%2fb"),
            ("/a%20b%2C%3B", "/a%20b%2C%3B"),
            ("/%252e%252e%252f", "/%252e%252e%252f"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/...", "/a/..."),
            ("/admin;x=1", "/admin;x=1"),
        ] {
            assert_eq!(normalize_path(path).as_deref(), Ok(expected), "{path}");
        }
    }

    #[test]
    fn a_path_that_two_parsers_could_read_differently_is_refused() {
        for (path, error) in [
            ("", PathError::NotAbsolute),
            ("a", PathError::NotAbsolute),
            ("/a b", PathError::RawByte),
            ("/a\u{7f}", PathError::RawByte),
            ("/é", PathError::RawByte),
            ("/%41é", PathError::RawByte),
            ("/x#/../admin", PathError::RawByte),
            ("/a\\b", PathError::RawByte),
            ("/a%", PathError::BrokenEscape),
            ("/a%2", PathError::BrokenEscape),
            ("/a%zz", PathError::BrokenEscape),
            ("/a%00", PathError::ForbiddenEscape),
            ("/a%5c", PathError::ForbiddenEscape),
            ("/pub/..;/admin", PathError::DotSegmentParameter),
            ("/.;x/admin", PathError::DotSegmentParameter),
            ("/%2e%2e;/admin", PathError::DotSegmentParameter),
        ] {
            assert_eq!(normalize_path(path), Err(error), "{path}");
        }
    }

    #[test]
    fn a_prefix_matches_element_by_element() {
        for (prefix, path, expected) in [
            ("/foo", "/foo", true),
            ("/foo", "/foo/", true),
            ("/foo", "/foo/bar", true),
            ("/foo", "/foobar", false),
            ("/foo", "/FOO", false),
            ("/foo/", "/foo", true),
            ("/foo/", "/foo/bar", true),
            ("/", "/anything", true),
            ("/", "/", true),
        ] {
            assert_eq!(PathPrefix::new(prefix).matches(path), expected, "{prefix} {path}");
        }
    }
}
