//! Texts with nginx's variables, as annotations use them (`permanent-redirect`, `rewrite-target`): parsed once, typed,
//! and filled in without ever being read again.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc32fast::Hasher;
use http::{HeaderMap, header};
use serde::{Serialize, Serializer};

use crate::cookie::cookie;
use crate::host::HostName;
use crate::matcher::RegexPattern;
use crate::request::{ConnectionView, RequestView};

/// A text with variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: Box<str>,
    parts: Box<[Part]>,
}

/// A text with variables that decides where a request belongs (ingress-nginx `upstream-hash-by`). It is never written
/// anywhere, so it may have variables that are no text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HashKey(Template);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    /// `$1`: a group of the regular expression that the route matched.
    Capture(usize),
    Variable(Variable),
}

/// nginx's variables, as far as they have a meaning before an upstream was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Variable {
    Args,
    /// `$escaped_request_uri`, of ingress-nginx: the target as the value of a query parameter.
    EscapedRequestUri,
    Host,
    HttpHost,
    IsArgs,
    RemoteAddress,
    /// The user of basic authentication, whether or not the password is right.
    RemoteUser,
    RequestMethod,
    RequestUri,
    Scheme,
    Uri,
    /// `$arg_name`.
    Argument(Box<str>),
    /// `$cookie_name`.
    Cookie(Box<str>),
    /// `$http_name`, with underscores for the dashes of the header's name.
    Header(Box<str>),
    /// A value that is known before any request.
    Constant(Box<str>),
    /// `$binary_remote_addr`: four or sixteen bytes, for keys only.
    BinaryRemoteAddress,
}

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A `$` without a name.
    #[error("{0:?}: a $ must be followed by the name of a variable")]
    NoName(String),
    /// A variable that nginx or this gateway does not know here.
    #[error("{text:?}: variable ${name} is not known")]
    Unknown {
        /// The text.
        text: String,
        /// The name of the variable.
        name: String,
    },
}

/// What the variables of a template stand for.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a> {
    pub(crate) request: &'a RequestView<'a>,
    pub(crate) connection: &'a ConnectionView<'a>,
    pub(crate) host: &'a HostName,
    /// The regular expression that the route matched.
    pub(crate) pattern: Option<&'a RegexPattern>,
}

// === impl Template ===

impl Template {
    /// Reads `$name`, `${name}` and `$1`.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Self::parse_with(text, Variable::from_name)
    }

    /// The same, with more variables, whose values are known already.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn parse_with_constants(text: &str, constants: &[(&str, &str)]) -> Result<Self, TemplateError> {
        let constant = |name: &str| constants.iter().find(|(known, _)| *known == name);
        let variable = |name: &str| match constant(name) {
            Some((_, value)) => Some(Variable::Constant((*value).into())),
            None => Variable::from_name(name),
        };
        Self::parse_with(text, variable)
    }

    fn parse_with(text: &str, variable: impl Fn(&str) -> Option<Variable>) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            if at > 0 {
                parts.push(Part::Literal(rest[..at].into()));
            }
            let (name, tail) = split_name(&rest[at + 1..]).ok_or_else(|| TemplateError::NoName(text.to_owned()))?;
            parts.push(match name.parse::<usize>() {
                Ok(group) => Part::Capture(group),
                Err(_) => variable(name)
                    .map(Part::Variable)
                    .ok_or_else(|| TemplateError::Unknown { text: text.to_owned(), name: name.to_owned() })?,
            });
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.into()));
        }
        Ok(Self { source: text.into(), parts: parts.into() })
    }

    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// What stands between the variables.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| if let Part::Literal(text) = part { Some(&**text) } else { None })
    }

    /// The highest group number that the text uses.
    #[must_use]
    pub fn highest_group(&self) -> usize {
        let groups = self.parts.iter().map(|part| if let Part::Capture(group) = part { *group } else { 0 });
        groups.max().unwrap_or(0)
    }

    /// Whether nothing in the text depends on the request but the host that was asked for.
    #[must_use]
    pub fn depends_on_host_only(&self) -> bool {
        self.parts
            .iter()
            .all(|part| matches!(part, Part::Literal(_) | Part::Variable(Variable::Host | Variable::HttpHost)))
    }

    /// Whether nothing in the text depends on the request.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    /// Fills in the variables. Groups that took no part, and variables without a value, are empty.
    pub(crate) fn render(&self, values: &Values<'_>) -> String {
        if let Some(pattern) = values.pattern
            && self.highest_group() > 0
            && let Some(text) = pattern.with_captures(values.request.path, |group| self.fill(values, group))
        {
            return text;
        }
        self.fill(values, &|_| "")
    }

    fn fill<'a>(&self, values: &Values<'a>, group: &dyn Fn(usize) -> &'a str) -> String {
        let mut text = String::with_capacity(self.source.len() + values.request.path.len());
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Capture(number) => text.push_str(group(*number)),
                Part::Variable(variable) => text.push_str(&variable.value(values)),
            }
        }
        text
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

// === impl HashKey ===

impl HashKey {
    /// Reads what [`Template::parse`] reads, and `$binary_remote_addr`.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let variable = |name: &str| match name {
            "binary_remote_addr" => Some(Variable::BinaryRemoteAddress),
            name => Variable::from_name(name),
        };
        Template::parse_with(text, variable).map(Self)
    }

    /// The CRC-32 of the key of a request, made without writing the key down.
    pub(crate) fn sum(&self, values: &Values<'_>) -> u32 {
        let mut hasher = Hasher::new();
        for part in &self.0.parts {
            match part {
                Part::Literal(literal) => hasher.update(literal.as_bytes()),
                // There is no location at this point, so no group of it.
                Part::Capture(_) => {}
                Part::Variable(variable) => variable.feed(values, &mut hasher),
            }
        }
        hasher.finalize()
    }
}

// === impl Variable ===

impl Variable {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "args" | "query_string" => Self::Args,
            "escaped_request_uri" => Self::EscapedRequestUri,
            "host" => Self::Host,
            "http_host" | "best_http_host" => Self::HttpHost,
            "is_args" => Self::IsArgs,
            "remote_addr" | "the_real_ip" => Self::RemoteAddress,
            "remote_user" => Self::RemoteUser,
            "request_method" => Self::RequestMethod,
            "request_uri" => Self::RequestUri,
            "scheme" | "pass_access_scheme" => Self::Scheme,
            "uri" | "document_uri" => Self::Uri,
            other => match other.split_once('_')? {
                ("arg", name) if !name.is_empty() => Self::Argument(name.into()),
                ("cookie", name) if !name.is_empty() => Self::Cookie(name.into()),
                ("http", name) if !name.is_empty() => Self::Header(name.replace('_', "-").into()),
                _ => return None,
            },
        })
    }

    fn value<'a>(&'a self, values: &Values<'a>) -> Cow<'a, str> {
        let Values { request, connection, host, .. } = *values;
        match self {
            Self::Args => request.query.into(),
            Self::EscapedRequestUri => escaped(&Self::RequestUri.value(values)).into(),
            Self::Host => host.as_str().into(),
            Self::HttpHost => request.authority.into(),
            Self::IsArgs => if request.query.is_empty() { "" } else { "?" }.into(),
            Self::RemoteAddress => connection.client.to_string().into(),
            Self::RemoteUser => remote_user(request.headers).unwrap_or_default().into(),
            Self::RequestMethod => request.method.as_str().into(),
            // The normalised path: what was matched is what the client is sent to, and what others are asked about.
            Self::RequestUri if request.query.is_empty() => request.path.into(),
            Self::RequestUri => format!("{}?{}", request.path, request.query).into(),
            Self::Scheme => connection.scheme.as_str().into(),
            Self::Uri => request.path.into(),
            Self::Argument(name) => {
                let mut pairs = request.query.split('&').filter_map(|pair| pair.split_once('='));
                pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value).into()
            }
            Self::Cookie(name) => cookie(request.headers, name).unwrap_or_default().into(),
            Self::Header(name) => {
                request.headers.get(&**name).and_then(|value| value.to_str().ok()).unwrap_or_default().into()
            }
            Self::Constant(value) => (&**value).into(),
            // Only keys have it, and they take its bytes.
            Self::BinaryRemoteAddress => "".into(),
        }
    }

    /// Adds the value to a sum, without making a text of it.
    fn feed(&self, values: &Values<'_>, hasher: &mut Hasher) {
        let Values { request, connection, .. } = *values;
        match (self, connection.client) {
            (Self::BinaryRemoteAddress, IpAddr::V4(address)) => hasher.update(&address.octets()),
            (Self::BinaryRemoteAddress, IpAddr::V6(address)) => hasher.update(&address.octets()),
            (Self::RemoteAddress, address) => {
                // A sum takes every byte, so writing cannot fail.
                let _ = fmt::Write::write_fmt(&mut Summed(hasher), format_args!("{address}"));
            }
            (Self::RequestUri, _) if let Some(received) = request.received => hasher.update(received.as_bytes()),
            (Self::RequestUri, _) => {
                hasher.update(request.path.as_bytes());
                if !request.query.is_empty() {
                    hasher.update(b"?");
                    hasher.update(request.query.as_bytes());
                }
            }
            _ => hasher.update(self.value(values).as_bytes()),
        }
    }
}

/// What is not unreserved (RFC 3986 section 2.3) in percent-encoding.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // A text takes everything, so writing cannot fail.
            let _ = fmt::Write::write_fmt(&mut escaped, format_args!("%{byte:02X}"));
        }
    }
    escaped
}

fn remote_user(headers: &HeaderMap) -> Option<String> {
    let (scheme, encoded) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (user, _) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some(user.to_owned())
}

/// A text that goes into a sum as it is written.
struct Summed<'a>(&'a mut Hasher);

impl fmt::Write for Summed<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

/// Splits the name of a variable from what follows it.
pub(crate) fn split_name(text: &str) -> Option<(&str, &str)> {
    if let Some(braced) = text.strip_prefix('{') {
        return braced.split_once('}').filter(|(name, _)| !name.is_empty());
    }
    let is_group = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text
        .find(|c: char| if is_group { !c.is_ascii_digit() } else { !(c.is_ascii_alphanumeric() || c == '_') })
        .unwrap_or(text.len());
    // nginx knows $1 to $9: `$10` is `$1` and a zero.
    let end = if is_group { end.min(1) } else { end };
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use http::{HeaderMap, HeaderValue, Method};

    use super::*;
    use crate::model::ListenerKey;
    use crate::request::Scheme;

    fn render(template: &str, pattern: Option<&RegexPattern>) -> String {
        with_values(pattern, |values| Template::parse(template).unwrap().render(values))
    }

    fn with_values<T>(pattern: Option<&RegexPattern>, ask: impl FnOnce(&Values<'_>) -> T) -> T {
        let mut headers = HeaderMap::new();
        headers.insert("x-user-id", HeaderValue::from_static("7"));
        headers.insert("cookie", HeaderValue::from_static("a=1; session=s"));
        // RFC 7617 section 2.
        headers.insert("authorization", HeaderValue::from_static("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        let request = RequestView {
            method: &Method::GET,
            authority: "Example.com:8080",
            path: "/foo/bar",
            query: "a=1&b=2",
            received: None,
            headers: &headers,
            entropy: 0,
        };
        let connection = ConnectionView {
            listener: &ListenerKey::tcp(([127, 0, 0, 1], 80).into()),
            scheme: Scheme::Http,
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            server_name: None,
        };
        let host = HostName::new(request.authority).unwrap();
        ask(&Values { request: &request, connection: &connection, host: &host, pattern })
    }

    #[test]
    fn variables_are_filled_in_as_nginx_fills_them_in() {
        for (template, expected) in [
            ("https://example.org", "https://example.org"),
            ("https://$host$request_uri", "https://example.com/foo/bar?a=1&b=2"),
            ("$scheme://$http_host$uri$is_args$args", "http://Example.com:8080/foo/bar?a=1&b=2"),
            ("/u/$arg_b/${http_x_user_id}x", "/u/2/7x"),
            ("$request_method $remote_addr $arg_none", "GET 127.0.0.1 "),
            ("$cookie_session$cookie_none", "s"),
            ("?rd=$escaped_request_uri", "?rd=%2Ffoo%2Fbar%3Fa%3D1%26b%3D2"),
            ("$remote_user", "Aladdin"),
        ] {
            assert_eq!(render(template, None), expected, "{template}");
        }
    }

    #[test]
    fn groups_come_from_the_pattern_of_the_route() {
        let pattern = RegexPattern::ingress_location("/foo(/|$)(.*)").unwrap();
        assert_eq!(render("/$2", Some(&pattern)), "/bar");
        assert_eq!(render("/$20", Some(&pattern)), "/bar0");
        assert_eq!(render("/$9", Some(&pattern)), "/");
        assert_eq!(render("/$1", None), "/");
    }

    #[test]
    fn an_unknown_variable_is_refused_when_it_is_read() {
        for text in ["$nothing", "/$", "${", "${}", "$upstream_addr", "$binary_remote_addr", "$cookie_"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_sum_of_a_key_is_that_of_its_text() {
        for (key, text) in [
            ("$request_uri", "/foo/bar?a=1&b=2"),
            ("$remote_addr", "127.0.0.1"),
            ("${host}-x-$http_x_user_id$arg_a", "example.com-x-71"),
            ("$binary_remote_addr", "\u{7f}\0\0\u{1}"),
            ("$cookie_session", "s"),
        ] {
            let sum = with_values(None, |values| HashKey::parse(key).unwrap().sum(values));
            assert_eq!(sum, crc32fast::hash(text.as_bytes()), "{key}");
        }
    }
    #[test]
    fn a_key_is_of_what_the_client_sent_and_a_text_is_not() {
        with_values(None, |values| {
            let request = RequestView { received: Some("/x/../foo/%62ar?a=1&b=2"), ..*values.request };
            let values = Values { request: &request, ..*values };
            let sum = |text: &str| crc32fast::hash(text.as_bytes());
            assert_eq!(HashKey::parse("$request_uri").unwrap().sum(&values), sum("/x/../foo/%62ar?a=1&b=2"));
            assert_eq!(HashKey::parse("$uri").unwrap().sum(&values), sum("/foo/bar"));
            assert_eq!(Template::parse("$request_uri").unwrap().render(&values), "/foo/bar?a=1&b=2");
        });
    }
}
