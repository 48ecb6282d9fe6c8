//! What an authentication server said: the only place that lets its word count.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora::http::ResponseHeader;
use routing::model::{AuthCache, CookieScope, ExternalAuth};

use crate::failure::Failure;
use crate::filter::access::Refusal;

/// Larger answers are not remembered, in bytes of headers.
const MAX_REMEMBERED: usize = 8 << 10;

/// An answer, as far as it matters.
pub(super) struct Answer {
    status: u16,
    grant: Arc<Grant>,
    challenge: Option<HeaderValue>,
    /// How long it holds by its own word; `None` when it does not say so.
    own_time: Option<Duration>,
    is_for_all: bool,
}

/// What a request takes along that was let through.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Headers for the upstream.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Cookies for the client.
    pub cookies: Cookies,
}

/// Cookies for the client, and the answers that get them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cookies {
    fields: Vec<HeaderValue>,
    scope: CookieScope,
}

// === impl Grant ===

impl Grant {
    /// Gives the client the cookies that are for it.
    pub(crate) fn mark_answer(&self, response: &mut ResponseHeader) -> pingora::Result<()> {
        for cookie in self.cookies.of_status(response.status.as_u16()) {
            response.append_header(header::SET_COOKIE, cookie.clone())?;
        }
        Ok(())
    }
}

// === impl Cookies ===

impl Cookies {
    /// Those that an answer with this status gets. Without `always`, nginx adds headers to these only.
    pub(crate) fn of_status(&self, status: u16) -> &[HeaderValue] {
        let is_success = matches!(status, 200 | 201 | 204 | 206 | 301..=304 | 307 | 308);
        if is_success || self.scope == CookieScope::Always { &self.fields } else { &[] }
    }
}

// === impl Answer ===

impl Answer {
    pub(super) fn new(response: &ResponseHeader, auth: &ExternalAuth) -> Self {
        let all = &response.headers;
        let wanted = auth.response_headers.iter();
        let headers = wanted.flat_map(|name| all.get_all(name).iter().map(|value| (name.clone(), value.clone())));
        let cookies =
            Cookies { fields: all.get_all(header::SET_COOKIE).iter().cloned().collect(), scope: auth.cookies };
        Self {
            status: response.status.as_u16(),
            challenge: all.get(header::WWW_AUTHENTICATE).cloned(),
            own_time: max_age(all),
            is_for_all: is_for_all(all),
            grant: Arc::new(Grant { headers: headers.collect(), cookies }),
        }
    }

    /// nginx `auth_request`: "2xx: access is allowed; 401 or 403: access is denied with the status; any other is an
    /// error".
    pub(super) fn verdict(&self) -> Result<Arc<Grant>, Refusal> {
        let failure = match self.status {
            200..=299 => return Ok(Arc::clone(&self.grant)),
            401 => Failure::Unauthorized,
            403 => Failure::Forbidden,
            _ => Failure::AuthUnavailable,
        };
        let challenge = self.challenge.clone().filter(|_| failure == Failure::Unauthorized);
        Err(Refusal { challenge, cookies: self.grant.cookies.clone(), ..Refusal::of(failure) })
    }

    /// How long it holds for other requests with the same key; `None` for not at all.
    pub(super) fn time_to_hold(&self, cache: &AuthCache) -> Option<Duration> {
        let time = cache.time_of(self.status)?;
        let size: usize = self.grant.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let time = self.own_time.map_or(time, |own| own.min(time));
        (self.is_for_all && size <= MAX_REMEMBERED && !time.is_zero()).then_some(time)
    }
}

/// Whether an answer may hold for another request at all: nginx keeps none with a cookie, and none that says that it is
/// private. What says when it expires in another way than `max-age`, or for which headers it holds, is not kept either.
fn is_for_all(headers: &HeaderMap) -> bool {
    let says_otherwise = directives(headers)
        .any(|directive| ["no-store", "no-cache", "private"].iter().any(|word| starts_with(directive, word)));
    let elsewhere = [header::SET_COOKIE, header::VARY, HeaderName::from_static("x-accel-expires")];
    let expires = headers.contains_key(header::EXPIRES) && max_age(headers).is_none();
    !says_otherwise && !expires && !elsewhere.iter().any(|name| headers.contains_key(name))
}

/// The least `max-age` or `s-maxage`; one that cannot be read is none at all.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let ages = directives(headers).filter_map(|directive| {
        let (name, value) = directive.split_once('=')?;
        let is_age = ["max-age", "s-maxage"].iter().any(|age| name.trim().eq_ignore_ascii_case(age));
        is_age.then(|| value.trim().trim_matches('"').parse().unwrap_or(0))
    });
    ages.min().map(Duration::from_secs)
}

/// The directives of `Cache-Control`. A field that is no text is one that cannot be told from `no-store`.
fn directives(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let fields = headers.get_all(header::CACHE_CONTROL).iter();
    fields.flat_map(|field| field.to_str().unwrap_or("no-store").split(',')).map(str::trim)
}

fn starts_with(directive: &str, word: &str) -> bool {
    directive.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use http::Method;
    use routing::model::{ServerUrl, UrlServer, Validity};
    use routing::{Scheme, Template};

    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Answer {
        let mut response = ResponseHeader::build(status, None).unwrap();
        for (name, value) in headers {
            response.append_header(*name, *value).unwrap();
        }
        let target = Template::parse("/").unwrap();
        let auth = ExternalAuth {
            url: ServerUrl { scheme: Scheme::Http, server: UrlServer::Name("a.test".into()), port: 80, target },
            method: Some(Method::GET),
            request_headers: Box::default(),
            redirect: None,
            response_headers: [HeaderName::from_static("x-user")].into(),
            signin: None,
            cookies: CookieScope::Success,
            cache: None,
            keep_alive: None,
        };
        Answer::new(&response, &auth)
    }

    #[test]
    fn nothing_but_2xx_lets_a_request_through() {
        for status in 100..=599 {
            let verdict = answer(status, &[("x-user", "u"), ("www-authenticate", "Basic")]).verdict();
            let failure = verdict.as_ref().err().map(|refusal| refusal.failure);
            let expected = match status {
                200..=299 => None,
                401 => Some(Failure::Unauthorized),
                403 => Some(Failure::Forbidden),
                _ => Some(Failure::AuthUnavailable),
            };
            assert_eq!(failure, expected, "{status}");
            let challenge = verdict.err().and_then(|refusal| refusal.challenge);
            assert_eq!(challenge.is_some(), status == 401, "{status}");
        }
    }

    #[test]
    fn an_answer_holds_for_others_as_long_as_both_sides_say() {
        let minute = Duration::from_secs(60);
        let valid = Validity { statuses: [200, 401].into(), time: minute };
        let cache = AuthCache { key: Template::parse("$host").unwrap(), valid: [valid].into() };
        for (status, headers, expected) in [
            (200, &[][..], Some(minute)),
            (401, &[], Some(minute)),
            (403, &[], None),
            (500, &[], None),
            (200, &[("cache-control", "public, max-age=5")], Some(Duration::from_secs(5))),
            (200, &[("cache-control", "max-age=500")], Some(minute)),
            (200, &[("cache-control", "max-age=0")], None),
            (200, &[("cache-control", "max-age=never")], None),
            (200, &[("cache-control", "No-Store")], None),
            (200, &[("cache-control", "public"), ("cache-control", "private")], None),
            (200, &[("set-cookie", "a=b")], None),
            (200, &[("vary", "cookie")], None),
            (200, &[("expires", "0")], None),
            (200, &[("x-accel-expires", "10")], None),
        ] {
            assert_eq!(answer(status, headers).time_to_hold(&cache), expected, "{status} {headers:?}");
        }
    }

    #[test]
    fn cookies_go_with_good_answers_unless_they_always_go() {
        let mut cookies = Cookies { fields: vec![HeaderValue::from_static("a=b")], scope: CookieScope::Success };
        for (status, is_success) in [(200, true), (302, true), (304, true), (202, false), (404, false), (500, false)] {
            assert_eq!(cookies.of_status(status).len(), usize::from(is_success), "{status}");
        }
        cookies.scope = CookieScope::Always;
        assert_eq!(cookies.of_status(500).len(), 1);
    }
}
