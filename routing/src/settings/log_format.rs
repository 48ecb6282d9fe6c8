//! `log-format-upstream`: the line of the access log as nginx's `log_format` describes it, parsed once.

use http::HeaderName;
use serde::{Serialize, Serializer};

use crate::template::split_name;

/// The form of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFormat {
    source: Box<str>,
    /// How values are made harmless.
    pub escape: LogEscape,
    /// What the line consists of.
    pub parts: Box<[LogPart]>,
}

/// How values are made harmless.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogEscape {
    /// In hexadecimal where they could end a field, and `-` for nothing.
    #[default]
    Default,
    /// As in a JSON string.
    Json,
}

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPart {
    /// A text.
    Literal(Box<str>),
    /// What is known about a request.
    Variable(LogVariable),
}

/// What is known about a request when it is over: nginx's variables and those of ingress-nginx.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are nginx's")]
pub enum LogVariable {
    Args,
    BodyBytesSent,
    BytesSent,
    Host,
    IngressName,
    IsArgs,
    LocationPath,
    Msec,
    Namespace,
    ProxyAlternativeUpstreamName,
    ProxyUpstreamName,
    RemoteAddr,
    RemoteUser,
    ReqId,
    Request,
    RequestLength,
    RequestMethod,
    RequestTime,
    RequestUri,
    Scheme,
    ServerPort,
    ServerProtocol,
    ServiceName,
    ServicePort,
    Status,
    TimeIso8601,
    TimeLocal,
    UpstreamAddr,
    UpstreamConnectTime,
    UpstreamHeaderTime,
    UpstreamResponseLength,
    UpstreamResponseTime,
    UpstreamStatus,
    Uri,
    /// `$http_name`.
    RequestHeader(HeaderName),
    /// `$sent_http_name`.
    ResponseHeader(HeaderName),
}

impl LogFormat {
    /// ingress-nginx's own format, `upstreaminfo`.
    pub const UPSTREAM_INFO: &str = concat!(
        "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" ",
        "\"$http_user_agent\" $request_length $request_time [$proxy_upstream_name] ",
        "[$proxy_alternative_upstream_name] $upstream_addr $upstream_response_length $upstream_response_time ",
        "$upstream_status $req_id",
    );

    /// Reads a format; `None` where it has a variable that is not known.
    #[must_use]
    pub fn parse(text: &str, escape: LogEscape) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('$') {
            if !literal.is_empty() {
                parts.push(LogPart::Literal(literal.into()));
            }
            let (name, tail) = split_name(after)?;
            parts.push(LogPart::Variable(LogVariable::from_name(name)?));
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(LogPart::Literal(rest.into()));
        }
        Some(Self { source: text.into(), escape, parts: parts.into() })
    }
}

impl LogVariable {
    fn from_name(name: &str) -> Option<Self> {
        let header = |name: &str| HeaderName::try_from(name.replace('_', "-")).ok();
        Some(match name {
            "args" | "query_string" => Self::Args,
            "body_bytes_sent" => Self::BodyBytesSent,
            "bytes_sent" => Self::BytesSent,
            "host" | "best_http_host" => Self::Host,
            "ingress_name" => Self::IngressName,
            "is_args" => Self::IsArgs,
            "location_path" => Self::LocationPath,
            "msec" => Self::Msec,
            "namespace" => Self::Namespace,
            "proxy_alternative_upstream_name" => Self::ProxyAlternativeUpstreamName,
            "proxy_upstream_name" => Self::ProxyUpstreamName,
            "remote_addr" | "the_real_ip" => Self::RemoteAddr,
            "remote_user" => Self::RemoteUser,
            "req_id" | "request_id" => Self::ReqId,
            "request" => Self::Request,
            "request_length" => Self::RequestLength,
            "request_method" => Self::RequestMethod,
            "request_time" => Self::RequestTime,
            "request_uri" => Self::RequestUri,
            "scheme" | "pass_access_scheme" => Self::Scheme,
            "server_port" => Self::ServerPort,
            "server_protocol" => Self::ServerProtocol,
            "service_name" => Self::ServiceName,
            "service_port" => Self::ServicePort,
            "status" => Self::Status,
            "time_iso8601" => Self::TimeIso8601,
            "time_local" => Self::TimeLocal,
            "upstream_addr" => Self::UpstreamAddr,
            "upstream_connect_time" => Self::UpstreamConnectTime,
            "upstream_header_time" => Self::UpstreamHeaderTime,
            "upstream_response_length" | "upstream_bytes_received" => Self::UpstreamResponseLength,
            "upstream_response_time" => Self::UpstreamResponseTime,
            "upstream_status" => Self::UpstreamStatus,
            "uri" | "document_uri" => Self::Uri,
            other => match (other.strip_prefix("http_"), other.strip_prefix("sent_http_")) {
                // Nobody should find credentials in a log, whoever asks for them (`robustness.md` D-10).
                (Some("authorization" | "cookie"), _) => return None,
                (Some(name), _) => Self::RequestHeader(header(name)?),
                (_, Some("set_cookie")) => return None,
                (_, Some(name)) => Self::ResponseHeader(header(name)?),
                (None, None) => return None,
            },
        })
    }
}

impl Serialize for LogFormat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:?} {}", self.escape, self.source))
    }
}
