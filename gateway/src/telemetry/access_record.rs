//! What the access log tells about a request.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use routing::model::BackendRef;
use serde::{Serialize, Serializer};

use super::time;

/// The longest value of one field, in bytes: a line stays a line.
pub(super) const MAX_FIELD: usize = 4096;

/// What is known about a request when it is over. Empty texts are unknown.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AccessRecord<'a> {
    /// Address of the client.
    pub remote_addr: std::net::IpAddr,
    /// User of basic authentication.
    pub remote_user: &'a str,
    /// Method.
    pub method: &'a str,
    /// Authority that the request was for.
    pub host: &'a str,
    /// Target as it was received.
    pub target: &'a str,
    /// `HTTP/1.1` and the like.
    pub protocol: &'a str,
    /// Status of the answer.
    pub status: u16,
    /// Bytes of the body of the answer.
    pub body_bytes_sent: usize,
    /// Bytes of the request.
    pub request_length: usize,
    /// From the first byte of the request to the last of the answer.
    #[serde(serialize_with = "seconds")]
    pub request_time: Duration,
    /// Namespace of the object that the rule is from.
    pub namespace: &'a str,
    /// Its name.
    pub ingress: &'a str,
    /// The upstream of the rule, whether the request got there or not; `None` for a rule without one.
    pub upstream: Option<UpstreamRecord<'a>>,
    /// `X-Request-ID`.
    pub request_id: &'a str,
    /// Why the gateway answered by itself.
    pub reason: &'a str,
    /// What only formats of the settings ask for.
    #[serde(skip)]
    pub details: RequestDetails<'a>,
}

/// What only formats of the settings ask for.
#[derive(Clone, Copy, Debug)]
pub struct RequestDetails<'a> {
    /// The header fields of the request.
    pub request_headers: &'a HeaderMap,
    /// The header fields of the answer.
    pub response_headers: Option<&'a HeaderMap>,
    /// The length of its head.
    pub response_head_bytes: usize,
    /// The normalised path.
    pub path: &'a str,
    /// The query.
    pub query: &'a str,
    /// The scheme of the client.
    pub scheme: &'a str,
    /// The port that it connected to.
    pub port: u16,
    /// The path of the rule.
    pub location: &'a str,
}

/// What is known about the upstream of a request.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct UpstreamRecord<'a> {
    /// The Service of the rule.
    #[serde(flatten)]
    pub backend: &'a BackendRef,
    /// The backend of the canary, where that got the request.
    pub alternative: Option<&'a BackendRef>,
    /// The last attempt; `None` when there was none.
    #[serde(flatten)]
    pub attempt: Option<AttemptRecord>,
}

/// What is known about an attempt to have a request answered.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AttemptRecord {
    /// Address of the endpoint.
    pub address: std::net::SocketAddr,
    /// Bytes of the body of its answer.
    pub response_length: usize,
    /// How long it took to answer.
    #[serde(serialize_with = "seconds")]
    pub response_time: Duration,
    /// Status of its answer; `None` when there was none.
    pub status: Option<u16>,
    /// How long connecting took.
    #[serde(skip)]
    pub connect_time: Option<Duration>,
    /// When the head of its answer was there.
    #[serde(skip)]
    pub header_time: Option<Duration>,
}

// === impl AccessRecord ===

impl AccessRecord<'_> {
    /// The record as one line of JSON.
    pub(super) fn json_line(&self) -> String {
        #[derive(Serialize)]
        struct Line<'a> {
            time: u64,
            http_referer: &'a str,
            http_user_agent: &'a str,
            #[serde(flatten)]
            record: AccessRecord<'a>,
        }
        let header =
            |name| String::from_utf8_lossy(self.details.request_headers.get(name).map_or(&[], HeaderValue::as_bytes));
        let (referer, agent) = (header(header::REFERER), header(header::USER_AGENT));
        let record = AccessRecord {
            target: cut(self.target),
            host: cut(self.host),
            request_id: cut(self.request_id),
            remote_user: cut(self.remote_user),
            ..*self
        };
        let line =
            Line { time: time::unix_seconds(), http_referer: cut(&referer), http_user_agent: cut(&agent), record };
        let mut line = serde_json::to_string(&line).unwrap_or_default();
        line.push('\n');
        line
    }
}

/// The start of a value, as much as goes into a line.
pub(super) fn cut(value: &str) -> &str {
    let mut end = value.len().min(MAX_FIELD);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

#[cfg(test)]
pub(super) mod tests {
    use routing::model::PortRef;

    use super::*;

    /// The record of a request with such a `User-Agent`.
    pub(crate) fn record_of(agent: &str) -> AccessRecord<'static> {
        let backend = BackendRef { namespace: "default".into(), service: "web".into(), port: PortRef::Number(80) };
        let headers = [
            (header::ACCEPT, HeaderValue::from_static("a/\"b\"")),
            (header::USER_AGENT, HeaderValue::from_bytes(agent.as_bytes()).unwrap()),
        ];
        AccessRecord {
            remote_addr: [192, 0, 2, 1].into(),
            remote_user: "",
            method: "GET",
            host: "a.example",
            target: "/x?y=1",
            protocol: "HTTP/1.1",
            status: 200,
            body_bytes_sent: 5,
            request_length: 80,
            request_time: Duration::from_micros(1_400),
            namespace: "default",
            ingress: "web",
            upstream: Some(UpstreamRecord {
                backend: Box::leak(Box::new(backend)),
                alternative: None,
                attempt: Some(AttemptRecord {
                    address: ([10, 0, 0, 1], 8080).into(),
                    response_length: 5,
                    response_time: Duration::from_millis(1),
                    status: Some(200),
                    connect_time: Some(Duration::ZERO),
                    header_time: Some(Duration::from_millis(1)),
                }),
            }),
            request_id: "abc",
            reason: "",
            details: RequestDetails {
                request_headers: Box::leak(Box::new(headers.into_iter().collect())),
                response_headers: None,
                response_head_bytes: 20,
                path: "/x",
                query: "y=1",
                scheme: "https",
                port: 443,
                location: "/",
            },
        }
    }

    pub(crate) fn record() -> AccessRecord<'static> {
        record_of("curl/8")
    }

    #[test]
    fn json_is_one_line_whatever_a_client_sends() {
        let long = "é".repeat(40_000);
        let line = AccessRecord { target: &long, host: "\"\n\u{1b}[31m", ..record_of("\"\\é") }.json_line();
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.len() < 10_000);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["upstream"]["address"], "10.0.0.1:8080");
    }
}
