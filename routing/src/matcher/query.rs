//! Matching on query parameters (Gateway API `HTTPQueryParamMatch`).

use serde::Serialize;

use super::ValueMatch;

/// A query parameter that a request must carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueryMatch {
    /// The name of the parameter; compared with case, after decoding.
    pub name: Box<str>,
    /// What its decoded value must be.
    pub value: ValueMatch,
}

impl QueryMatch {
    /// Whether the first parameter of that name has the right value.
    ///
    /// The Gateway API leaves repeated parameters to the implementation and recommends the first.
    #[must_use]
    pub fn matches(&self, query: &str) -> bool {
        query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find(|(name, _)| decode(name).eq(self.name.bytes()))
            .is_some_and(|(_, value)| match &self.value {
                ValueMatch::Exact(expected) => decode(value).eq(expected.bytes()),
                regex @ ValueMatch::Regex(_) if !value.contains(['%', '+']) => regex.matches(value.as_bytes()),
                regex @ ValueMatch::Regex(_) => regex.matches(&decode(value).collect::<Vec<u8>>()),
            })
    }
}

/// Decodes `application/x-www-form-urlencoded` text byte by byte, so that a comparison needs no copy.
/// An escape that is broken stands for itself.
fn decode(text: &str) -> impl Iterator<Item = u8> + '_ {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        let (&first, tail) = rest.split_first()?;
        if let [b'%', high, low, ..] = *rest
            && let Some(value) = char::from(high).to_digit(16).zip(char::from(low).to_digit(16))
        {
            rest = &rest[3..];
            return u8::try_from(value.0 << 4 | value.1).ok();
        }
        rest = tail;
        Some(if first == b'+' { b' ' } else { first })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matcher::RegexPattern;

    #[test]
    fn the_first_parameter_of_a_name_counts_and_is_decoded() {
        let exact = |name: &str, value: &str| QueryMatch { name: name.into(), value: ValueMatch::Exact(value.into()) };
        for (query, name, value, expected) in [
            ("a=1&b=2", "b", "2", true),
            ("a=1&a=2", "a", "2", false),
            ("a=x%20y", "a", "x y", true),
            ("a=x+y", "a", "x y", true),
            ("%61=1", "a", "1", true),
            ("a", "a", "", true),
            ("A=1", "a", "1", false),
            ("a=%zz", "a", "%zz", true),
            ("", "a", "", false),
        ] {
            assert_eq!(exact(name, value).matches(query), expected, "{query} {name}={value}");
        }
        let regex = QueryMatch { name: "a".into(), value: ValueMatch::Regex(RegexPattern::full("x y").unwrap()) };
        assert!(regex.matches("a=x%20y"));
    }
}
