//! A line of the access log in the form that `log-format-upstream` describes.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::HeaderValue;
use routing::model::BackendRef;
use routing::{LogEscape, LogFormat, LogPart, LogVariable, origin_form};

use super::access_record::{AccessRecord, cut};
use super::time;

/// Writes the line of a request. The format of ingress-nginx has no place for the reason of an answer of the gateway's
/// own, which `with_reason` appends.
pub(super) fn text_line(format: &LogFormat, record: &AccessRecord<'_>, with_reason: bool) -> String {
    let mut line = String::with_capacity(320);
    for part in &format.parts {
        match part {
            LogPart::Literal(text) => line.push_str(text),
            LogPart::Variable(variable) => {
                let mut value = Value { line: &mut line, escape: format.escape };
                if value.push(variable, record).is_none() && format.escape == LogEscape::Default {
                    line.push('-');
                }
            }
        }
    }
    if with_reason && !record.reason.is_empty() {
        line.push_str(" reason=");
        line.push_str(record.reason);
    }
    line.push('\n');
    line
}

/// The place of a value in the line.
struct Value<'a> {
    line: &'a mut String,
    escape: LogEscape,
}

impl Value<'_> {
    /// Writes what a variable stands for; `None` where that is not known, or nothing.
    fn push(&mut self, variable: &LogVariable, record: &AccessRecord<'_>) -> Option<()> {
        let details = &record.details;
        let backend = record.upstream.as_ref().map(|upstream| upstream.backend);
        let attempt = record.upstream.as_ref().and_then(|upstream| upstream.attempt.as_ref());
        match variable {
            LogVariable::Args => self.text(details.query),
            LogVariable::BodyBytesSent => self.number(record.body_bytes_sent),
            LogVariable::BytesSent => self.number(record.body_bytes_sent + details.response_head_bytes),
            LogVariable::Host => self.text(record.host),
            LogVariable::IngressName => self.text(record.ingress),
            LogVariable::IsArgs => self.text(if details.query.is_empty() { "" } else { "?" }),
            LogVariable::LocationPath => self.text(details.location),
            LogVariable::Msec => self.seconds(time::since_epoch()),
            LogVariable::Namespace => self.text(record.namespace),
            // ingress-nginx sets it to nothing, which is not the same as not to set it.
            LogVariable::ProxyAlternativeUpstreamName => record
                .upstream
                .as_ref()
                .and_then(|upstream| upstream.alternative)
                .map_or(Some(()), |one| self.name(one)),
            LogVariable::ProxyUpstreamName => self.name(backend?),
            LogVariable::RemoteAddr => self.address(record.remote_addr),
            LogVariable::RemoteUser => self.text(record.remote_user),
            LogVariable::ReqId => self.text(record.request_id),
            LogVariable::Request => {
                self.text(record.method);
                self.line.push(' ');
                self.text(record.target);
                self.line.push(' ');
                self.text(record.protocol);
                Some(())
            }
            LogVariable::RequestLength => self.number(record.request_length),
            LogVariable::RequestMethod => self.text(record.method),
            LogVariable::RequestTime => self.seconds(record.request_time),
            LogVariable::RequestUri => self.text(origin_form(record.target)),
            LogVariable::Scheme => self.text(details.scheme),
            LogVariable::ServerPort => self.number(details.port.into()),
            LogVariable::ServerProtocol => self.text(record.protocol),
            LogVariable::ServiceName => self.text(&backend?.service),
            LogVariable::ServicePort => self.text(&backend?.port.to_string()),
            LogVariable::Status => self.number(record.status.into()),
            LogVariable::TimeIso8601 => self.text(&time::iso8601(time::unix_seconds())),
            LogVariable::TimeLocal => time::with_local_time(|now| self.text(now)),
            LogVariable::UpstreamAddr => self.socket(attempt?.address),
            LogVariable::UpstreamConnectTime => self.seconds(attempt?.connect_time?),
            LogVariable::UpstreamHeaderTime => self.seconds(attempt?.header_time?),
            LogVariable::UpstreamResponseLength => self.number(attempt?.response_length),
            LogVariable::UpstreamResponseTime => self.seconds(attempt?.response_time),
            LogVariable::UpstreamStatus => self.number(attempt?.status?.into()),
            LogVariable::Uri => self.text(details.path),
            LogVariable::RequestHeader(name) => self.header(details.request_headers.get(name)?),
            LogVariable::ResponseHeader(name) => self.header(details.response_headers?.get(name)?),
        }
    }

    fn text(&mut self, text: &str) -> Option<()> {
        match self.escape {
            LogEscape::Default => push_escaped(self.line, text),
            LogEscape::Json => push_json(self.line, text),
        }
        (!text.is_empty()).then_some(())
    }

    fn header(&mut self, value: &HeaderValue) -> Option<()> {
        self.text(&String::from_utf8_lossy(value.as_bytes()))
    }

    /// ingress-nginx's name of a backend.
    fn name(&mut self, backend: &BackendRef) -> Option<()> {
        self.line.push_str(&backend.namespace);
        self.line.push('-');
        self.line.push_str(&backend.service);
        // Writing to a String cannot fail.
        write!(self.line, "-{}", backend.port).ok()
    }

    fn number(&mut self, number: usize) -> Option<()> {
        self.line.push_str(itoa::Buffer::new().format(number));
        Some(())
    }

    /// Seconds with three decimals, as nginx writes every time.
    fn seconds(&mut self, time: Duration) -> Option<()> {
        let milliseconds = time.as_millis();
        self.line.push_str(itoa::Buffer::new().format(milliseconds / 1000));
        self.line.push('.');
        // The leading digit keeps the zeros of the other three.
        self.line.push_str(&itoa::Buffer::new().format(1000 + milliseconds % 1000)[1..]);
        Some(())
    }

    fn address(&mut self, address: IpAddr) -> Option<()> {
        match address {
            IpAddr::V4(address) => {
                let [first, rest @ ..] = address.octets();
                self.number(first.into());
                for octet in rest {
                    self.line.push('.');
                    self.number(octet.into());
                }
                Some(())
            }
            IpAddr::V6(address) => write!(self.line, "{address}").ok(),
        }
    }

    fn socket(&mut self, address: SocketAddr) -> Option<()> {
        match address {
            SocketAddr::V4(address) => {
                self.address((*address.ip()).into());
                self.line.push(':');
                self.number(address.port().into())
            }
            SocketAddr::V6(address) => write!(self.line, "{address}").ok(),
        }
    }
}

/// nginx's escaping: what could end a field or a line, or reach a terminal, is written in hexadecimal.
fn push_escaped(line: &mut String, value: &str) {
    let value = cut(value);
    if value.bytes().all(is_plain) {
        line.push_str(value);
        return;
    }
    for byte in value.bytes() {
        if is_plain(byte) {
            line.push(char::from(byte));
        } else {
            let _ = write!(line, "\\x{byte:02X}");
        }
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
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

#[cfg(test)]
mod tests {
    use super::super::access_record::tests::{record, record_of};
    use super::*;

    fn line(record: &AccessRecord<'_>) -> String {
        text_line(&LogFormat::parse(LogFormat::UPSTREAM_INFO, LogEscape::Default).unwrap(), record, true)
    }

    #[test]
    fn a_text_line_has_the_fields_of_ingress_nginx() {
        let line = line(&record());
        let (before, after) = line.split_once('[').unwrap();
        let (_, after) = after.split_once(']').unwrap();
        assert_eq!(before, "192.0.2.1 - - ");
        assert_eq!(
            after,
            " \"GET /x?y=1 HTTP/1.1\" 200 5 \"-\" \"curl/8\" 80 0.001 [default-web-80] [] 10.0.0.1:8080 5 0.001 200 abc\n"
        );
    }

    #[test]
    fn a_format_of_the_settings_is_filled_in_as_nginx_fills_it_in() {
        use routing::LogEscape::{Default, Json};
        for (format, escape, expected) in [
            ("$remote_addr [$proxy_upstream_name] $status", Default, "192.0.2.1 [default-web-80] 200"),
            ("\"$request\" $request_uri $uri $args", Default, "\"GET /x?y=1 HTTP/1.1\" /x?y=1 /x y=1"),
            ("$request_time $upstream_response_time ${upstream_addr}x", Default, "0.001 0.001 10.0.0.1:8080x"),
            ("$http_accept|$http_none|$remote_user", Default, "a/\\x22b\\x22|-|-"),
            ("{\"a\":\"$http_accept\",\"n\":\"$http_none\"}", Json, "{\"a\":\"a/\\\"b\\\"\",\"n\":\"\"}"),
            ("$namespace/$ingress_name $service_name:$service_port $scheme", Default, "default/web web:80 https"),
        ] {
            let format = LogFormat::parse(format, escape).unwrap();
            assert_eq!(text_line(&format, &record(), false), format!("{expected}\n"));
        }
        for unknown in ["$nothing", "$", "$http_authorization", "$http_cookie", "$sent_http_set_cookie"] {
            assert_eq!(LogFormat::parse(unknown, Default), None, "{unknown}");
        }
    }

    #[test]
    fn times_and_addresses_are_written_as_nginx_writes_them() {
        let of = |address: &str, milliseconds| {
            let record = AccessRecord {
                remote_addr: address.parse().unwrap(),
                request_time: Duration::from_millis(milliseconds),
                ..record()
            };
            let format = LogFormat::parse("$remote_addr $request_time", LogEscape::Default).unwrap();
            text_line(&format, &record, false)
        };
        assert_eq!(of("203.0.113.255", 9), "203.0.113.255 0.009\n");
        assert_eq!(of("2001:db8::1", 61_020), "2001:db8::1 61.020\n");
    }

    #[test]
    fn an_answer_of_the_gateway_names_its_reason() {
        let line = line(&AccessRecord { upstream: None, reason: "route_not_found", status: 404, ..record() });
        assert!(line.ends_with(" [-] [] - - - - abc reason=route_not_found\n"), "{line}");
    }

    #[test]
    fn a_client_cannot_write_into_the_log() {
        let line = line(&AccessRecord { target: "\n\u{1b}[31m", ..record_of("\"\\é") });
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.contains("GET \\x0A\\x1B[31m HTTP/1.1"), "{line}");
        assert!(line.contains("\"\\x22\\x5C\\xC3\\xA9\""), "{line}");
        let long = "é".repeat(40_000);
        assert!(self::line(&AccessRecord { target: &long, ..record() }).len() < 20_000);
    }
}
