//! Matching on request headers (Gateway API `HTTPHeaderMatch`).

use http::{HeaderMap, HeaderName};
use serde::{Serialize, Serializer};

use super::ValueMatch;

/// A header that a request must carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeaderMatch {
    /// The name of the header; compared without case (RFC 9110 section 5.1).
    #[serde(serialize_with = "name_as_text")]
    pub name: HeaderName,
    /// What its value must be.
    pub value: ValueMatch,
}

impl HeaderMatch {
    /// Whether the header is there with the right value.
    ///
    /// Several lines of one header are compared as RFC 9110 section 5.2 combines them, joined by a comma: the upstream
    /// sees the same list, so a line that is added cannot dodge the match.
    #[must_use]
    pub fn matches(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(&self.name).iter();
        match (values.next(), values.next()) {
            (None, _) => false,
            (Some(only), None) => self.value.matches(only.as_bytes()),
            (Some(first), Some(second)) => {
                let mut joined = [first.as_bytes(), second.as_bytes()].join(&b',');
                for value in values {
                    joined.push(b',');
                    joined.extend_from_slice(value.as_bytes());
                }
                self.value.matches(&joined)
            }
        }
    }
}

fn name_as_text<S: Serializer>(name: &HeaderName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::matcher::RegexPattern;

    #[test]
    fn several_lines_of_a_header_are_one_list() {
        let mut headers = HeaderMap::new();
        headers.append("x-role", HeaderValue::from_static("user"));
        let exact = |value: &str| HeaderMatch {
            name: HeaderName::from_static("x-role"),
            value: ValueMatch::Exact(value.into()),
        };
        assert!(exact("user").matches(&headers));
        headers.append("x-role", HeaderValue::from_static("admin"));
        assert!(!exact("user").matches(&headers));
        assert!(!exact("admin").matches(&headers));
        assert!(exact("user,admin").matches(&headers));
    }

    #[test]
    fn a_regular_expression_must_match_the_whole_value() {
        let mut headers = HeaderMap::new();
        headers.insert("x-v", HeaderValue::from_static("v10"));
        let regex = |pattern: &str| HeaderMatch {
            name: HeaderName::from_static("x-v"),
            value: ValueMatch::Regex(RegexPattern::full(pattern).unwrap()),
        };
        assert!(regex("v[0-9]+").matches(&headers));
        assert!(!regex("v[0-9]").matches(&headers));
    }
}
