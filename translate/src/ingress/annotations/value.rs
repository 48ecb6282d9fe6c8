//! Parsers of annotation values: anchored, total, and as strict as ingress-nginx's own grammar.

use std::time::Duration;

use routing::model::{LoggedRequests, UpstreamProtocol};
use routing::{HostError, HostPattern, MatchError, Template, TemplateError, WildcardDepth};

/// Why a value is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a boolean.
    #[error("{0:?} is not a boolean; use \"true\" or \"false\"")]
    Bool(String),
    /// Not a number.
    #[error("{0:?} is not a whole number")]
    Number(String),
    /// Not a redirect code.
    #[error("{0:?} is not a redirect code; use 301, 302, 303, 307 or 308")]
    RedirectCode(String),
    /// Not a URL that a client can be sent to.
    #[error("{0:?} is not an http or https URL")]
    Url(String),
    /// Not a path.
    #[error("{0:?} is not a path that starts with a slash")]
    Path(String),
    /// Neither a path nor a URL.
    #[error("{0:?} starts neither with a slash nor with a group such as $1")]
    Target(String),
    /// A byte that the value must not have.
    #[error("value must not contain {0:?}")]
    Byte(char),
    /// Not the name of a Secret or ConfigMap.
    #[error("{0:?} is not a name, nor a namespace and a name with a slash between them")]
    ObjectName(String),
    /// Not an origin.
    #[error("{0:?} is not an origin; use scheme://host, scheme://*.host, null or *")]
    Origin(String),
    /// Neither an address nor a network.
    #[error("{0:?} is neither an address nor a network in CIDR form")]
    Network(String),
    /// Not one of a few words.
    #[error("{0:?} is not one of {1}")]
    OneOf(String, &'static str),
    /// Not a size.
    #[error("{0:?} is not a size, such as 8k or 10m")]
    Size(String),
    /// Not a protocol.
    #[error("{0:?} is not one of HTTP, HTTPS, AUTO_HTTP, GRPC, GRPCS, FCGI")]
    Protocol(String),
    /// Not an algorithm.
    #[error(
        "{0:?} is not one of round_robin, ewma, least_requests, chash, chashsubset, sticky_balanced, sticky_persistent"
    )]
    Algorithm(String),
    /// Not a time.
    #[error("{0:?} is not a number of seconds from 1 up")]
    Seconds(String),
    /// Not a condition of nginx's `proxy_next_upstream`.
    #[error("{0:?} is not a condition of proxy_next_upstream")]
    RetryCondition(String),
    /// Not what ejects an endpoint.
    #[error("{0:?} is not one of on, off, 5xx")]
    Ejection(String),
    /// Not a duration.
    #[error("{0:?} is not a duration such as 30s, 500ms or 5m")]
    Duration(String),
    /// Not a kind of affinity.
    #[error("{0:?} is not a kind of affinity; there is \"cookie\"")]
    Affinity(String),
    /// Not a mode of affinity.
    #[error("{0:?} is not one of balanced, persistent")]
    AffinityMode(String),
    /// Not a value of `SameSite`.
    #[error("{0:?} is not one of None, Lax, Strict")]
    SameSite(String),
    /// Not a behaviour of canaries.
    #[error("{0:?} is not one of sticky, legacy")]
    CanaryBehavior(String),
    /// Not the name of a header.
    #[error("{0:?} is not the name of a header")]
    HeaderName(String),
    /// Not a regular expression.
    #[error(transparent)]
    Pattern(#[from] MatchError),
    /// Not a health check.
    #[error("{0}")]
    HealthCheck(String),
    /// Not the name of a ConfigMap.
    #[error("{0:?} is not the name of a ConfigMap")]
    ConfigMapName(String),
    /// Not the name of a Service.
    #[error("{0:?} is not the name of a Service")]
    ServiceName(String),
    /// A group where no path was matched.
    #[error("{0:?}: there are no groups here")]
    Group(String),
    /// An address that nobody may have requests sent to.
    #[error("address {0} is not one that a backend can have")]
    Address(String),
    /// A client must not say who vouches for it.
    #[error("{0:?}: $host and $http_host are the only variables that the host of the URL may have")]
    AuthHost(String),
    /// Not a host, with or without a port.
    #[error("{0:?} is not a host")]
    Authority(String),
    /// Not statuses of errors.
    #[error("{0:?} is not a list of statuses from 400 to 599, separated by commas")]
    ErrorStatuses(String),
    /// Not what the subject of a certificate must match.
    #[error("{0:?} does not begin with CN=")]
    Subject(String),
    /// Not a name that a server has.
    #[error("{0:?} is not the name of one server")]
    ServerName(String),
    /// The same key for every request.
    #[error("{0:?} has no variable: one answer would hold for every client")]
    CacheKey(String),
    /// Not what nginx's `proxy_cache_valid` takes.
    #[error("{0:?} is not a list of statuses and times such as \"200 202 401 5m\"")]
    CacheDuration(String),
    /// A variable that is not known.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Not a host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A host as a regular expression.
    #[error("{0:?}: regular expressions are not supported as aliases")]
    RegexHost(String),
    /// Longer than anything that makes sense.
    #[error("value must not be longer than {0} characters")]
    TooLong(usize),
    /// A line break: no value has one.
    #[error("value must not contain a line break")]
    LineBreak,
}

/// The name of a Secret or ConfigMap, perhaps with its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretName {
    namespace: Option<Box<str>>,
    name: Box<str>,
}

impl SecretName {
    /// The name of an object in `namespace`.
    ///
    /// # Errors
    ///
    /// The object is in another one: what is in a namespace is for those who write there.
    pub fn within(&self, namespace: &str) -> Result<&str, String> {
        match &self.namespace {
            Some(other) if **other != *namespace => {
                Err(format!("{other}/{} is in another namespace than its Ingress", self.name))
            }
            _ => Ok(&self.name),
        }
    }
}

/// `name` or `namespace/name`, each of the characters that names of objects have (RFC 1123).
pub(super) fn object_name(text: &str) -> Result<SecretName, ValueError> {
    let is_name = |name: &str| {
        let is_character = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        (1..=253).contains(&name.len())
            && name.bytes().all(is_character)
            && !name.starts_with(['-', '.'])
            && !name.ends_with(['-', '.'])
    };
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, text),
    };
    if is_name(name) && namespace.is_none_or(is_name) {
        Ok(SecretName { namespace: namespace.map(Into::into), name: name.into() })
    } else {
        Err(ValueError::ObjectName(text.to_owned()))
    }
}

/// The longest name, key or path that a value may be, in bytes.
const MAX_TEXT: usize = 1024;

/// A text that is not unreasonably long.
pub(super) fn short(text: &str) -> Result<&str, ValueError> {
    if text.len() <= MAX_TEXT { Ok(text) } else { Err(ValueError::TooLong(MAX_TEXT)) }
}

/// A boolean as Go's `strconv.ParseBool` reads it.
pub(crate) fn boolean(text: &str) -> Result<bool, ValueError> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(ValueError::Bool(text.to_owned())),
    }
}

/// A whole number as Go's `strconv.Atoi` reads it.
pub(super) fn number(text: &str) -> Result<i64, ValueError> {
    text.parse().map_err(|_| ValueError::Number(text.to_owned()))
}

/// A whole number of milliseconds, seconds or minutes, with its unit: the form of our own annotations.
pub(crate) fn duration(text: &str) -> Result<Duration, ValueError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number = number.parse::<u32>().ok().map(u64::from);
    let duration = number.and_then(|number| match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number * 60)),
        _ => None,
    });
    duration.ok_or_else(|| ValueError::Duration(text.to_owned()))
}

/// A status that sends a client elsewhere. 304, 305 and 306 are of the same hundred and do something else.
pub(super) fn redirect_code(text: &str) -> Result<u16, ValueError> {
    let code = text.parse().ok().filter(|code| matches!(code, 300..=303 | 307 | 308));
    code.ok_or_else(|| ValueError::RedirectCode(text.to_owned()))
}

/// `^[-._~a-zA-Z0-9/:,?&=]*$`, ingress-nginx's grammar for URLs, and variables. The scheme may be one of them:
/// `$scheme://$host/`.
pub(super) fn redirect_url(text: &str) -> Result<Template, ValueError> {
    if !is_url(text) {
        return Err(ValueError::Url(text.to_owned()));
    }
    reject(text, |c| !(is_word(c) || ",?&=$".contains(c)))?;
    Ok(Template::parse(text)?)
}

/// A URL, or a path of the host that was asked for, which ingress-nginx lets through for `permanent-redirect` only.
pub(super) fn redirect_url_or_path(text: &str) -> Result<Template, ValueError> {
    if !text.starts_with('/') {
        return redirect_url(text);
    }
    reject(text, |c| !(is_word(c) || ",?&=$".contains(c)))?;
    Ok(Template::parse(text)?)
}

/// `^/?[-._~a-zA-Z0-9/:$]*$`, ingress-nginx's grammar for `rewrite-target`. What starts with neither a slash nor a
/// group would never be a path.
pub(super) fn rewrite_target(text: &str) -> Result<Template, ValueError> {
    reject(text, |c| !(is_word(c) || c == '$'))?;
    if !(text.starts_with(['/', '$']) || is_url(text)) {
        return Err(ValueError::Target(text.to_owned()));
    }
    Ok(Template::parse(text)?)
}

/// The same grammar for `app-root`, which has to be a path.
pub(super) fn app_root(text: &str) -> Result<Template, ValueError> {
    if !text.starts_with('/') {
        return Err(ValueError::Path(text.to_owned()));
    }
    reject(text, |c| !(is_word(c) || c == '$'))?;
    Ok(Template::parse(&format!("$scheme://$http_host{text}"))?)
}

/// Whether nginx takes the target of a redirect or rewrite for a URL.
pub(crate) fn is_url(text: &str) -> bool {
    ["http://", "https://", "$scheme://"]
        .iter()
        .any(|start| text.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start)))
}

/// The characters that every grammar of ingress-nginx allows.
pub(super) fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~/:".contains(c)
}

/// The protocol; `None` for FastCGI, which is known but not spoken here.
pub(super) fn protocol(text: &str) -> Result<Option<UpstreamProtocol>, ValueError> {
    Ok(Some(match text.trim().to_ascii_uppercase().as_str() {
        "HTTP" => UpstreamProtocol::Http,
        "HTTPS" => UpstreamProtocol::Https,
        "AUTO_HTTP" => UpstreamProtocol::Auto,
        "GRPC" => UpstreamProtocol::H2c,
        "GRPCS" => UpstreamProtocol::H2,
        "FCGI" => return Ok(None),
        _ => return Err(ValueError::Protocol(text.to_owned())),
    }))
}

/// `enable-access-log`.
pub(super) fn logged(text: &str) -> Result<LoggedRequests, ValueError> {
    boolean(text).map(|is_logged| if is_logged { LoggedRequests::All } else { LoggedRequests::None })
}

/// A ConfigMap as `namespace/name`, or by its name alone.
pub(super) fn config_map_name(text: &str) -> Result<Box<str>, ValueError> {
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
    };
    let is_reference =
        text.split_once('/').map_or(is_name(text), |(namespace, name)| is_name(namespace) && is_name(name));
    if is_reference && text.len() <= 507 { Ok(text.into()) } else { Err(ValueError::ConfigMapName(text.to_owned())) }
}

/// A DNS label (RFC 1123), as the name of a Service is.
pub(super) fn service_name(text: &str) -> Result<Box<str>, ValueError> {
    let is_label = (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    if is_label { Ok(text.into()) } else { Err(ValueError::ServiceName(text.to_owned())) }
}

/// Hosts, separated by commas; repeated ones count once.
pub(super) fn aliases(text: &str) -> Result<Box<[HostPattern]>, ValueError> {
    let mut aliases = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if name.starts_with('~') {
            return Err(ValueError::RegexHost(name.to_owned()));
        }
        let alias = HostPattern::parse(name, WildcardDepth::One)?;
        if alias == HostPattern::Any {
            return Err(HostError::Wildcard(name.to_owned()).into());
        }
        if !aliases.contains(&alias) {
            aliases.push(alias);
        }
    }
    Ok(aliases.into())
}

pub(super) fn reject(text: &str, is_out_of_place: impl Fn(char) -> bool) -> Result<(), ValueError> {
    text.chars().find(|c| is_out_of_place(*c)).map_or(Ok(()), |c| Err(ValueError::Byte(c)))
}
