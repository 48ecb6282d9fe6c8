//! Annotations of cross-origin resource sharing.

use routing::model::Cors;

use super::value::{self, ValueError};

const METHODS: &str = "GET, PUT, POST, DELETE, PATCH, OPTIONS";
const HEADERS: &str =
    "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization";
const MAX_AGE: u32 = 1_728_000;
/// More than this is no list of names.
const MAX_LIST: usize = 4096;

/// What an Ingress says of other origins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsAnnotations {
    /// `enable-cors`.
    pub is_on: bool,
    /// `cors-allow-origin`.
    pub origins: Option<Vec<Box<str>>>,
    /// `cors-allow-methods`.
    pub methods: Option<Box<str>>,
    /// `cors-allow-headers`.
    pub headers: Option<Box<str>>,
    /// `cors-expose-headers`.
    pub expose: Option<Box<str>>,
    /// `cors-allow-credentials`.
    pub credentials: Option<bool>,
    /// `cors-max-age`.
    pub max_age: Option<u32>,
}

impl CorsAnnotations {
    /// What is shared, with ingress-nginx's defaults; `None` when nothing is.
    pub(crate) fn resolve(&self) -> Option<Cors> {
        let Self { is_on, origins, methods, headers, expose, credentials, max_age } = self;
        is_on.then(|| Cors {
            allow_origins: origins.clone().unwrap_or_else(|| vec!["*".into()]),
            allow_methods: methods.clone().unwrap_or_else(|| METHODS.into()),
            allow_headers: headers.clone().unwrap_or_else(|| HEADERS.into()),
            expose_headers: expose.clone(),
            allow_credentials: credentials.unwrap_or(true),
            max_age: max_age.unwrap_or(MAX_AGE),
        })
    }
}

/// Origins, separated by commas: `scheme://host[:port]` with `*.` before the host for one label of any name, `null`, or
/// `*`, beside which the others say nothing.
pub(super) fn origins(text: &str) -> Result<Vec<Box<str>>, ValueError> {
    let items: Vec<&str> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    if let Some(wrong) = items.iter().find(|item| !is_origin(item)) {
        return Err(ValueError::Origin((*wrong).to_owned()));
    }
    if items.contains(&"*") {
        return Ok(vec!["*".into()]);
    }
    if items.is_empty() {
        Err(ValueError::Origin(text.to_owned()))
    } else {
        Ok(items.into_iter().map(Into::into).collect())
    }
}

fn is_origin(text: &str) -> bool {
    if matches!(text, "*" | "null") {
        return true;
    }
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let authority = authority.strip_prefix("*.").unwrap_or(authority);
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    !scheme.is_empty()
        && scheme.bytes().all(|byte| byte.is_ascii_lowercase())
        && !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        && port.is_none_or(|port| port.parse::<u16>().is_ok() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Methods, separated by commas.
pub(super) fn methods(text: &str) -> Result<Box<str>, ValueError> {
    list(text, |byte| byte.is_ascii_alphabetic())
}

/// Names of header fields, separated by commas.
pub(super) fn headers(text: &str) -> Result<Box<str>, ValueError> {
    list(text, |byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// The same, or `*`.
pub(super) fn exposed(text: &str) -> Result<Box<str>, ValueError> {
    list(text, |byte| byte.is_ascii_alphanumeric() || b"-_*".contains(&byte))
}

fn list(text: &str, is_part: impl Fn(u8) -> bool) -> Result<Box<str>, ValueError> {
    if text.len() > MAX_LIST {
        return Err(ValueError::TooLong(MAX_LIST));
    }
    value::reject(text, |c| !(u8::try_from(c).is_ok_and(&is_part) || ", ".contains(c)))?;
    Ok(text.trim().into())
}

pub(super) fn max_age(text: &str) -> Result<u32, ValueError> {
    u32::try_from(value::number(text)?).map_err(|_| ValueError::Number(text.to_owned()))
}
