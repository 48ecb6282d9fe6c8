//! Parsers of annotation values: anchored, total, and as strict as ingress-nginx's own grammar.

use routing::model::UpstreamProtocol;
use routing::{HostError, HostPattern, Template, TemplateError, WildcardDepth};

/// Why a value is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a boolean.
    #[error("{0:?} is not a boolean; use \"true\" or \"false\"")]
    Bool(String),
    /// Not a redirect code.
    #[error("{0:?} is not a redirect code from 300 to 399")]
    RedirectCode(String),
    /// Not a URL that a client can be sent to.
    #[error("{0:?} is not an http or https URL")]
    Url(String),
    /// Not a path.
    #[error("{0:?} is not a path that starts with a slash")]
    Path(String),
    /// A byte that the value must not have.
    #[error("value must not contain {0:?}")]
    Byte(char),
    /// Not a protocol.
    #[error("{0:?} is not one of HTTP, HTTPS, AUTO_HTTP, GRPC, GRPCS, FCGI")]
    Protocol(String),
    /// Not the name of a Service.
    #[error("{0:?} is not the name of a Service")]
    ServiceName(String),
    /// A variable that is not known.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Not a host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A host as a regular expression.
    #[error("{0:?}: regular expressions are not supported as aliases")]
    RegexHost(String),
    /// A line break: no value has one.
    #[error("value must not contain a line break")]
    LineBreak,
}

/// A boolean as Go's `strconv.ParseBool` reads it.
pub(super) fn boolean(text: &str) -> Result<bool, ValueError> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(ValueError::Bool(text.to_owned())),
    }
}

pub(super) fn redirect_code(text: &str) -> Result<u16, ValueError> {
    let code = text.parse().ok().filter(|code| (300..400).contains(code));
    code.ok_or_else(|| ValueError::RedirectCode(text.to_owned()))
}

/// A URL with variables. The scheme may be a variable too: `$scheme://$host/`.
pub(super) fn redirect_url(text: &str) -> Result<Template, ValueError> {
    let is_url = ["http://", "https://", "$scheme://", "${scheme}://"].iter().any(|start| text.starts_with(start));
    if !is_url {
        return Err(ValueError::Url(text.to_owned()));
    }
    reject(text, |c| c.is_ascii_control() || c == ' ' || !c.is_ascii() || matches!(c, '"' | '<' | '>' | '\\'))?;
    Ok(Template::parse(text)?)
}

/// `^/?[-._~a-zA-Z0-9/:$]*$`, ingress-nginx's grammar for `rewrite-target`; braces for `${name}` are allowed too.
pub(super) fn rewrite_target(text: &str) -> Result<Template, ValueError> {
    reject(text, |c| !(c.is_ascii_alphanumeric() || "-._~/:${}".contains(c)))?;
    Ok(Template::parse(text)?)
}

pub(super) fn app_root(text: &str) -> Result<Template, ValueError> {
    if !text.starts_with('/') {
        return Err(ValueError::Path(text.to_owned()));
    }
    reject(text, |c| !(c.is_ascii_graphic()) || "\"<>\\^`{|}$".contains(c))?;
    Ok(Template::parse(&format!("$scheme://$http_host{text}"))?)
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
        if !aliases.contains(&alias) {
            aliases.push(alias);
        }
    }
    Ok(aliases.into())
}

fn reject(text: &str, is_out_of_place: impl Fn(char) -> bool) -> Result<(), ValueError> {
    text.chars().find(|c| is_out_of_place(*c)).map_or(Ok(()), |c| Err(ValueError::Byte(c)))
}
