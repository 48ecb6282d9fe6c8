//! A line of the access log in the form that `log-format-upstream` describes.

use std::fmt::{self, Display, Write as _};

use routing::{LogEscape, LogFormat, LogPart, LogVariable};

use super::access_log::{AccessRecord, cut, push_escaped};
use super::time;

/// Writes the line of a request.
pub(super) fn formatted_line(format: &LogFormat, record: &AccessRecord<'_>) -> String {
    let mut line = String::with_capacity(320);
    for part in &format.parts {
        match part {
            LogPart::Literal(text) => line.push_str(text),
            LogPart::Variable(variable) => {
                let mut value = Value { line: &mut line, escape: format.escape, is_empty: true };
                // Writing to memory cannot fail.
                let _ = write_value(variable, record, &mut value);
                if value.is_empty && format.escape == LogEscape::Default {
                    line.push('-');
                }
            }
        }
    }
    line.push('\n');
    line
}

/// Writes what a variable stands for; nothing where that is not known.
fn write_value(variable: &LogVariable, record: &AccessRecord<'_>, value: &mut Value<'_>) -> fmt::Result {
    let details = &record.details;
    let upstream = record.upstream.as_ref();
    let seconds = |seconds: Option<f64>| Optional(seconds.map(|seconds| format!("{seconds:.3}")));
    match variable {
        LogVariable::Args => value.write_str(details.query),
        LogVariable::BodyBytesSent => write!(value, "{}", record.body_bytes_sent),
        LogVariable::BytesSent => write!(value, "{}", record.body_bytes_sent + details.response_head_bytes),
        LogVariable::Host => value.write_str(record.host),
        LogVariable::IngressName => value.write_str(record.ingress),
        LogVariable::IsArgs => value.write_str(if details.query.is_empty() { "" } else { "?" }),
        LogVariable::LocationPath => value.write_str(details.location),
        LogVariable::Msec => {
            let now = time::unix_milliseconds();
            write!(value, "{}.{:03}", now / 1000, now % 1000)
        }
        LogVariable::Namespace => value.write_str(record.namespace),
        // The gateway names the backend that took the request.
        LogVariable::ProxyAlternativeUpstreamName => Ok(()),
        LogVariable::ProxyUpstreamName => match upstream {
            Some(upstream) => write!(value, "{}-{}-{}", upstream.namespace, upstream.service, upstream.port),
            None => Ok(()),
        },
        LogVariable::RemoteAddr => write!(value, "{}", record.remote_addr),
        LogVariable::RemoteUser => value.write_str(record.remote_user),
        LogVariable::ReqId => value.write_str(record.request_id),
        LogVariable::Request => write!(value, "{} {} {}", record.method, record.target, record.protocol),
        LogVariable::RequestLength => write!(value, "{}", record.request_length),
        LogVariable::RequestMethod => value.write_str(record.method),
        LogVariable::RequestTime => write!(value, "{:.3}", record.request_time),
        LogVariable::RequestUri => value.write_str(record.target),
        LogVariable::Scheme => value.write_str(details.scheme),
        LogVariable::ServerPort => write!(value, "{}", details.port),
        LogVariable::ServerProtocol => value.write_str(record.protocol),
        LogVariable::ServiceName => value.write_str(upstream.map_or("", |upstream| upstream.service)),
        LogVariable::ServicePort => write!(value, "{}", Optional(upstream.map(|upstream| upstream.port))),
        LogVariable::Status => write!(value, "{}", record.status),
        LogVariable::TimeIso8601 => value.write_str(&time::iso8601(time::unix_seconds())),
        LogVariable::TimeLocal => time::with_local_time(|now| value.write_str(now)),
        LogVariable::UpstreamAddr => write!(value, "{}", Optional(upstream.and_then(|upstream| upstream.address))),
        LogVariable::UpstreamConnectTime => write!(value, "{}", seconds(upstream.and_then(|one| one.connect_time))),
        LogVariable::UpstreamHeaderTime => write!(value, "{}", seconds(upstream.and_then(|one| one.header_time))),
        LogVariable::UpstreamResponseLength => {
            write!(value, "{}", Optional(upstream.map(|upstream| upstream.response_length)))
        }
        LogVariable::UpstreamResponseTime => {
            write!(value, "{}", seconds(upstream.map(|upstream| upstream.response_time)))
        }
        LogVariable::UpstreamStatus => write!(value, "{}", Optional(upstream.and_then(|upstream| upstream.status))),
        LogVariable::Uri => value.write_str(details.path),
        LogVariable::RequestHeader(name) => write_header(details.request_headers.get(name), value),
        LogVariable::ResponseHeader(name) => {
            write_header(details.response_headers.and_then(|headers| headers.get(name)), value)
        }
    }
}

fn write_header(header: Option<&http::HeaderValue>, value: &mut Value<'_>) -> fmt::Result {
    match header {
        Some(header) => value.write_str(&String::from_utf8_lossy(header.as_bytes())),
        None => Ok(()),
    }
}

/// A value on its way into the line.
struct Value<'a> {
    line: &'a mut String,
    escape: LogEscape,
    is_empty: bool,
}

impl fmt::Write for Value<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.is_empty &= text.is_empty();
        match self.escape {
            LogEscape::Default => push_escaped(self.line, text),
            LogEscape::Json => push_json(self.line, text),
        }
        Ok(())
    }
}

/// What a JSON string may hold (RFC 8259 section 7).
fn push_json(line: &mut String, text: &str) {
    for character in cut(text).chars() {
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            control if control.is_control() => {
                let _ = write!(line, "\\u{:04X}", u32::from(control));
            }
            plain => line.push(plain),
        }
    }
}

/// A value that may be missing.
struct Optional<T>(Option<T>);

impl<T: Display> Display for Optional<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |value| value.fmt(f))
    }
}
