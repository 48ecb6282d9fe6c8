//! Texts that settings look for in requests, as nginx's `map` has them.

use serde::{Serialize, Serializer};

use crate::matcher::{MatchError, RegexPattern};

/// A text to look for: `~` before a regular expression, `~*` before one without case, and everything else stands for
/// itself, without case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPattern {
    source: Box<str>,
    regex: Option<RegexPattern>,
}

impl TextPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// When it is a regular expression that cannot be read.
    pub fn parse(text: &str) -> Result<Self, MatchError> {
        let regex = match (text.strip_prefix("~*"), text.strip_prefix('~')) {
            (Some(pattern), _) => Some(RegexPattern::search(pattern, true)?),
            (None, Some(pattern)) => Some(RegexPattern::search(pattern, false)?),
            (None, None) => None,
        };
        Ok(Self { source: text.into(), regex })
    }

    /// Whether a text is it, or has it.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        match &self.regex {
            Some(regex) => regex.is_match_bytes(text),
            None => self.source.as_bytes().eq_ignore_ascii_case(text),
        }
    }
}

impl Serialize for TextPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_those_of_nginx_maps() {
        for (pattern, text, expected) in [
            ("curl/8.0", "curl/8.0", true),
            ("curl/8.0", "CURL/8.0", true),
            ("curl/8.0", "curl/8.0.1", false),
            ("~curl", "libcurl/8", true),
            ("~curl", "libCURL/8", false),
            ("~*curl", "libCURL/8", true),
            ("~^curl", "libcurl", false),
            ("~a|b$", "xb", true),
            ("", "", true),
        ] {
            assert_eq!(TextPattern::parse(pattern).unwrap().matches(text.as_bytes()), expected, "{pattern} {text}");
        }
        assert!(TextPattern::parse("~(").is_err());
    }
}
