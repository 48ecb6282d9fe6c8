//! Cross-origin resource sharing, with the header fields of an answer prepared.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::model::{Cors, Filter};

/// What answers to other origins are marked with.
#[derive(Debug)]
pub struct CompiledCors {
    origins: Box<[OriginPattern]>,
    /// The fields of a marked answer, but for the one that names the origin.
    pub fields: Vec<(HeaderName, HeaderValue)>,
}

/// Which origins may read answers.
#[derive(Debug)]
enum OriginPattern {
    /// All.
    Any,
    /// This one.
    Exact(Box<str>),
    /// Those with one label in place of the `*`.
    Wildcard { start: Box<str>, end: Box<str> },
}

impl CompiledCors {
    pub(super) fn of(filters: &[Filter]) -> Option<Self> {
        let cors = filters.iter().find_map(|filter| if let Filter::Cors(cors) = filter { Some(cors) } else { None })?;
        let Cors { allow_origins, allow_methods, allow_headers, expose_headers, allow_credentials, max_age } = cors;
        let mut fields = Vec::new();
        let mut set = |name: HeaderName, value: &str| fields.extend(value.parse().ok().map(|value| (name, value)));
        if *allow_credentials {
            set(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        }
        set(header::ACCESS_CONTROL_ALLOW_METHODS, allow_methods);
        set(header::ACCESS_CONTROL_ALLOW_HEADERS, allow_headers);
        if let Some(names) = expose_headers {
            set(header::ACCESS_CONTROL_EXPOSE_HEADERS, names);
        }
        set(header::ACCESS_CONTROL_MAX_AGE, &max_age.to_string());
        Some(Self { origins: allow_origins.iter().map(|origin| OriginPattern::new(origin)).collect(), fields })
    }

    /// The value of `Access-Control-Allow-Origin`: the origin that asks, or `*` where all may; `None` when it may not.
    #[must_use]
    pub fn allowed_origin(&self, request: &HeaderMap) -> Option<HeaderValue> {
        if let [OriginPattern::Any] = &*self.origins {
            return Some(HeaderValue::from_static("*"));
        }
        let origin = request.get(header::ORIGIN)?;
        let text = origin.to_str().ok()?;
        self.origins.iter().any(|pattern| pattern.matches(text)).then(|| origin.clone())
    }
}

impl OriginPattern {
    fn new(text: &str) -> Self {
        match text.split_once('*') {
            Some(("", "")) => Self::Any,
            Some((start, end)) => Self::Wildcard { start: start.into(), end: end.into() },
            None => Self::Exact(text.into()),
        }
    }

    /// Without case, as ingress-nginx compares them, but always as a whole.
    fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(text) => origin.eq_ignore_ascii_case(text),
            Self::Wildcard { start, end } => {
                let label = origin
                    .len()
                    .checked_sub(end.len())
                    .and_then(|at| origin.split_at_checked(at))
                    .filter(|(_, tail)| tail.eq_ignore_ascii_case(end))
                    .and_then(|(head, _)| head.split_at_checked(start.len()))
                    .filter(|(head, _)| head.eq_ignore_ascii_case(start))
                    .map(|(_, label)| label);
                label.is_some_and(|label| {
                    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_allowed_as_a_whole_and_a_wildcard_is_one_label() {
        for (pattern, origin, expected) in [
            ("*", "https://any.test", true),
            ("https://a.test", "https://a.test", true),
            ("https://a.test", "https://A.test", true),
            ("https://a.test", "http://a.test", false),
            ("https://a.test", "https://a.test:8443", false),
            ("https://a.test", "https://a.test.evil", false),
            ("https://a.test", "evil:https://a.test", false),
            ("https://*.a.test", "https://x-1.a.test", true),
            ("https://*.a.test", "https://x.y.a.test", false),
            ("https://*.a.test", "https://.a.test", false),
            ("https://*.a.test", "https://a.test", false),
            ("https://*.a.test:8443", "https://x.a.test:8443", true),
            ("null", "null", true),
        ] {
            assert_eq!(OriginPattern::new(pattern).matches(origin), expected, "{pattern} {origin}");
        }
    }
}
