//! Annotations of external authentication, and the keys of the ConfigMap that are their defaults.

use std::time::Duration;

use http::{HeaderName, Method, header};
use routing::model::{AuthCache, BackendRef, CookieScope, ExternalAuth, ServerUrl, Validity};
use routing::{HeaderText, Template};

use super::url::{check, server_url, template};
use super::value::{self, SecretName, ValueError};

/// What an Ingress, or the ConfigMap, says of external authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExternalAnnotations {
    /// `auth-url`; without it the others say nothing.
    pub url: Option<ServerUrl>,
    /// `auth-method`.
    pub method: Option<Method>,
    /// `auth-signin`.
    pub signin: Option<Template>,
    /// `auth-signin-redirect-param`.
    pub signin_parameter: Option<Box<str>>,
    /// `auth-response-headers`.
    pub response_headers: Box<[HeaderName]>,
    /// `auth-request-redirect`.
    pub redirect: Option<Template>,
    /// `auth-proxy-set-headers`: a ConfigMap.
    pub request_headers: Option<SecretName>,
    /// `auth-cache-key`.
    pub cache_key: Option<Template>,
    /// `auth-cache-duration`.
    pub cache_valid: Option<Box<[Validity]>>,
    /// `auth-always-set-cookie`.
    pub cookies: CookieScope,
    /// `auth-keepalive-timeout`.
    pub keep_alive: Option<Duration>,
    /// `enable-global-auth`; `None` is on.
    pub is_global_on: Option<bool>,
}

/// The parameter in which a sign-in page is told where its client came from.
const SIGNIN_PARAMETER: &str = "rd";
/// How long ingress-nginx keeps answers where nothing else is said: "200 202 401 5m".
const CACHED: ([u16; 3], Duration) = ([200, 202, 401], Duration::from_secs(300));
/// What nginx keeps when a time stands alone.
const CACHED_BY_DEFAULT: [u16; 3] = [200, 301, 302];
/// No answer is kept for longer, whatever is said.
const MAX_CACHED: Duration = Duration::from_secs(86_400);
/// No client would like to meet this many headers.
const MAX_HEADERS: usize = 64;

/// Headers that say where a message ends and for whom it is: an authentication server has no say in these.
const FRAMING: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

impl ExternalAnnotations {
    /// The authentication that is asked for; `None` for none. The headers come from the ConfigMap that is named.
    pub(crate) fn resolve(&self, request_headers: Box<[HeaderText]>) -> Option<ExternalAuth> {
        let valid = || {
            self.cache_valid.clone().unwrap_or_else(|| [Validity { statuses: CACHED.0.into(), time: CACHED.1 }].into())
        };
        let cache = self.cache_key.clone().map(|key| AuthCache { key, valid: valid() });
        Some(ExternalAuth {
            url: self.url.clone()?,
            method: self.method.clone(),
            request_headers,
            redirect: self.redirect.clone(),
            response_headers: self.response_headers.clone(),
            signin: self.signin_page(),
            cookies: self.cookies,
            cache,
            keep_alive: self.keep_alive,
        })
    }

    /// The backend that is asked, where it is one.
    pub(crate) fn backend(&self) -> Option<&BackendRef> {
        self.url.as_ref()?.server.backend()
    }

    /// The address of the sign-in page, with the parameter that says where its client came from, unless the author has
    /// put one there.
    fn signin_page(&self) -> Option<Template> {
        let page = self.signin.as_ref()?;
        let parameter = self.signin_parameter.as_deref().unwrap_or(SIGNIN_PARAMETER);
        let query = page.as_str().split_once('?').map(|(_, query)| query).filter(|query| !query.is_empty());
        let mut pairs = query.into_iter().flat_map(|query| query.split('&')).filter_map(|pair| pair.split_once('='));
        if pairs.any(|(name, value)| name == parameter && !value.is_empty()) {
            return Some(page.clone());
        }
        let separator = match (query, page.as_str().ends_with('?')) {
            (Some(_), _) => "&",
            (None, true) => "",
            (None, false) => "?",
        };
        let origin = "$pass_access_scheme://$http_host$escaped_request_uri";
        Template::parse(&format!("{page}{separator}{parameter}={origin}")).ok()
    }
}

/// The address of an authentication server. Its host may depend on the host of the request, and on nothing else: who
/// vouches for a client is not for the client to say.
pub(crate) fn url(text: &str) -> Result<ServerUrl, ValueError> {
    server_url(text, &['/', '?'], "/")
}

/// A page that clients are sent to.
pub(crate) fn page(text: &str) -> Result<Template, ValueError> {
    check(text)?;
    if !["http://", "https://"].iter().any(|start| text.starts_with(start)) {
        return Err(ValueError::Url(text.to_owned()));
    }
    template(text)
}

/// A URL or a path that a server is told.
pub(crate) fn redirect(text: &str) -> Result<Template, ValueError> {
    check(text)?;
    template(text)
}

/// The name of a query parameter.
pub(crate) fn parameter(text: &str) -> Result<Box<str>, ValueError> {
    value::reject(value::short(text)?, |c| !(c.is_ascii_alphanumeric() || "-._~".contains(c)))?;
    Ok(text.into())
}

/// `^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE)$`; CONNECT asks for a tunnel, not for an answer.
pub(crate) fn method(text: &str) -> Result<Method, ValueError> {
    const METHODS: [Method; 8] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
    ];
    let known = METHODS.into_iter().find(|method| method.as_str() == text);
    known.ok_or_else(|| ValueError::OneOf(text.to_owned(), "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE"))
}

/// Names of headers, separated by commas.
pub(crate) fn headers(text: &str) -> Result<Box<[HeaderName]>, ValueError> {
    value::reject(text, |c| !(c.is_ascii_alphanumeric() || "-_, ".contains(c)))?;
    let mut names = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let parsed = HeaderName::try_from(name).ok().filter(|parsed| !FRAMING.contains(parsed));
        let parsed = parsed.ok_or_else(|| ValueError::HeaderName(name.to_owned()))?;
        if !names.contains(&parsed) {
            names.push(parsed);
        }
    }
    if names.len() <= MAX_HEADERS { Ok(names.into()) } else { Err(ValueError::TooLong(text.len())) }
}

/// Whether every answer gets the cookies.
pub(crate) fn cookies(text: &str) -> Result<CookieScope, ValueError> {
    value::boolean(text).map(|is_always| if is_always { CookieScope::Always } else { CookieScope::Success })
}

/// What requests must have in common that share an answer.
pub(crate) fn cache_key(text: &str) -> Result<Template, ValueError> {
    check(text)?;
    let key = template(text)?;
    // A key that all requests have in common would let one client's answer hold for everybody.
    if key.is_literal() { Err(ValueError::CacheKey(text.to_owned())) } else { Ok(key) }
}

/// nginx's `proxy_cache_valid`, several of them separated by commas: statuses and a time, or a time alone.
pub(crate) fn cache_valid(text: &str) -> Result<Box<[Validity]>, ValueError> {
    value::reject(value::short(text)?, |c| !(c.is_ascii_alphanumeric() || ", ".contains(c)))?;
    let wrong = || ValueError::CacheDuration(text.to_owned());
    let entry = |entry: &str| {
        let words: Vec<&str> = entry.split_ascii_whitespace().collect();
        let (time, statuses) = words.split_last().ok_or_else(wrong)?;
        let time = time_of(time).ok_or_else(wrong)?;
        let statuses: Option<Vec<u16>> = statuses.iter().map(|status| status_of(status)).collect();
        let statuses = statuses.ok_or_else(wrong)?;
        let statuses = if statuses.is_empty() { CACHED_BY_DEFAULT.into() } else { statuses.into() };
        Ok(Validity { statuses, time: time.min(MAX_CACHED) })
    };
    text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(entry).collect()
}

fn status_of(text: &str) -> Option<u16> {
    text.parse().ok().filter(|status| text.len() == 3 && (100..=599).contains(status))
}

/// A number and one of nginx's units, which ingress-nginx wants to see.
fn time_of(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse::<u32>().ok()?.into();
    Some(match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number * 60),
        "h" => Duration::from_secs(number * 3600),
        "d" => Duration::from_secs(number * 86_400),
        "w" => Duration::from_secs(number * 7 * 86_400),
        _ => return None,
    })
}

/// The header of a question that a ConfigMap sets, or why it cannot be set.
pub(crate) fn request_header(name: &str, text: &str) -> Result<HeaderText, String> {
    let parsed = HeaderName::try_from(name).ok().filter(|parsed| !FRAMING.contains(parsed));
    let parsed = parsed.ok_or_else(|| format!("{name:?} is not a header that can be set"))?;
    HeaderText::parse(parsed, text).map_err(|error| format!("header {name}: {error}"))
}
