//! The access log: one line for each request, formatted where the request is, written elsewhere.
//!
//! The queue in between is bounded: a reader of the log that is too slow costs lines, which are counted, and never time.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use http::HeaderMap;
use routing::LogFormat;
use routing::model::BackendRef;
use serde::Serialize;

use super::log_line::formatted_line;
use super::time;

/// Lines that may wait for the writer.
const QUEUE_LINES: usize = 65_536;
/// Bytes of lines that may wait for the writer: clients decide how long their lines are.
const QUEUE_BYTES: usize = 32 << 20;
/// The longest value of one field, in bytes: a line stays a line.
const MAX_FIELD: usize = 4096;
/// How long the writer gathers lines before it writes again.
const GATHER: Duration = Duration::from_millis(5);

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// ingress-nginx's `upstreaminfo`.
    Text,
    /// One JSON object a line.
    Json,
}

/// The access log.
pub struct AccessLog {
    format: AccessLogFormat,
    queue: Arc<Queue>,
    writer: Thread,
}

struct Queue {
    lines: ArrayQueue<String>,
    n_bytes: AtomicUsize,
    is_writer_asleep: AtomicBool,
    is_writing: AtomicBool,
    dropped: AtomicU64,
}

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
    /// `Referer`.
    pub http_referer: &'a str,
    /// `User-Agent`.
    pub http_user_agent: &'a str,
    /// Bytes of the request.
    pub request_length: usize,
    /// Seconds from the first byte of the request to the last of the answer.
    pub request_time: f64,
    /// Namespace of the object that the rule is from.
    pub namespace: &'a str,
    /// Its name.
    pub ingress: &'a str,
    /// The upstream; `None` when there was none.
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
    /// Namespace of the Service of the rule.
    pub namespace: &'a str,
    /// The Service.
    pub service: &'a str,
    /// Its port.
    pub port: &'a routing::model::PortRef,
    /// The backend of the canary, where that got the request.
    pub alternative: Option<&'a BackendRef>,
    /// Address of the endpoint of the last attempt.
    pub address: Option<std::net::SocketAddr>,
    /// Bytes of the body of its answer.
    pub response_length: usize,
    /// Seconds until it had answered.
    pub response_time: f64,
    /// Status of its answer; `None` when there was none.
    pub status: Option<u16>,
    /// Seconds until it was connected.
    #[serde(skip)]
    pub connect_time: Option<f64>,
    /// Seconds until the head of its answer was there.
    #[serde(skip)]
    pub header_time: Option<f64>,
}

// === impl AccessLog ===

impl AccessLog {
    /// Starts the writer, which writes to `output` until the process ends.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn start(format: AccessLogFormat, output: impl std::io::Write + Send + 'static) -> std::io::Result<Self> {
        let queue = Arc::new(Queue {
            lines: ArrayQueue::new(QUEUE_LINES),
            n_bytes: AtomicUsize::new(0),
            is_writer_asleep: AtomicBool::new(false),
            is_writing: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        });
        let for_writer = Arc::clone(&queue);
        let thread =
            std::thread::Builder::new().name("access-log".to_owned()).spawn(move || for_writer.write_to(output))?;
        Ok(Self { format, queue, writer: thread.thread().clone() })
    }

    /// Logs a request, as text in `format` if there is one. Costs a formatting and no system call.
    pub fn log(&self, record: &AccessRecord<'_>, format: Option<&LogFormat>) {
        let line = match (self.format, format) {
            (AccessLogFormat::Text, None) => text_line(record),
            (AccessLogFormat::Text, Some(format)) => formatted_line(format, record),
            (AccessLogFormat::Json, _) => json_line(record),
        };
        if !self.queue.push(line) {
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if self.queue.is_writer_asleep.load(Ordering::Acquire)
            && self.queue.is_writer_asleep.swap(false, Ordering::AcqRel)
        {
            self.writer.unpark();
        }
    }

    /// Lines that were lost because the queue was full or the output failed.
    #[must_use]
    pub fn n_dropped(&self) -> u64 {
        self.queue.dropped.load(Ordering::Relaxed)
    }

    /// Whether everything that was logged is written.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.queue.lines.is_empty() && !self.queue.is_writing.load(Ordering::Acquire)
    }
}

// === impl Queue ===

impl Queue {
    /// Whether there was room for the line.
    fn push(&self, line: String) -> bool {
        let length = line.len();
        let has_room = self.n_bytes.fetch_add(length, Ordering::Relaxed) + length <= QUEUE_BYTES;
        let is_pushed = has_room && self.lines.push(line).is_ok();
        if !is_pushed {
            self.n_bytes.fetch_sub(length, Ordering::Relaxed);
        }
        is_pushed
    }

    fn write_to(&self, mut output: impl std::io::Write) {
        let mut batch = Vec::with_capacity(256 << 10);
        loop {
            self.is_writing.store(true, Ordering::Release);
            let mut n_lines = 0;
            while batch.len() < 128 << 10
                && let Some(line) = self.lines.pop()
            {
                self.n_bytes.fetch_sub(line.len(), Ordering::Relaxed);
                batch.extend_from_slice(line.as_bytes());
                n_lines += 1;
            }
            if n_lines > 0 {
                if output.write_all(&batch).and_then(|()| output.flush()).is_err() {
                    self.dropped.fetch_add(n_lines, Ordering::Relaxed);
                }
                batch.clear();
            }
            self.is_writing.store(false, Ordering::Release);
            if !self.lines.is_empty() {
                continue;
            }
            std::thread::park_timeout(GATHER);
            self.is_writer_asleep.store(true, Ordering::Release);
            if self.lines.is_empty() {
                std::thread::park_timeout(Duration::from_secs(1));
            }
            self.is_writer_asleep.store(false, Ordering::Release);
        }
    }
}

// === lines ===

/// `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"
/// $request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr
/// $upstream_response_length $upstream_response_time $upstream_status $req_id`, and the reason of an answer of our own.
fn text_line(record: &AccessRecord<'_>) -> String {
    let mut line = String::with_capacity(320);
    // Writing to a String cannot fail.
    let _ = write!(line, "{} - ", record.remote_addr);
    push_or_dash(&mut line, record.remote_user);
    time::with_local_time(|now| {
        let _ = write!(line, " [{now}] \"");
    });
    push_escaped(&mut line, record.method);
    line.push(' ');
    push_escaped(&mut line, record.target);
    let _ = write!(line, " {}\" {} {} \"", record.protocol, record.status, record.body_bytes_sent);
    push_or_dash(&mut line, record.http_referer);
    line.push_str("\" \"");
    push_or_dash(&mut line, record.http_user_agent);
    let _ = write!(line, "\" {} {:.3} ", record.request_length, record.request_time);
    match &record.upstream {
        None => line.push_str("[] [] - - - - "),
        Some(upstream) => {
            let UpstreamRecord { namespace, service, port, .. } = upstream;
            let _ = write!(line, "[{namespace}-{service}-{port}] [");
            if let Some(BackendRef { namespace, service, port }) = upstream.alternative {
                let _ = write!(line, "{namespace}-{service}-{port}");
            }
            line.push_str("] ");
            match upstream.address {
                Some(address) => {
                    let _ = write!(line, "{address} {} {:.3} ", upstream.response_length, upstream.response_time);
                }
                None => line.push_str("- - - "),
            }
            match upstream.status {
                Some(status) => {
                    let _ = write!(line, "{status} ");
                }
                None => line.push_str("- "),
            }
        }
    }
    push_or_dash(&mut line, record.request_id);
    if !record.reason.is_empty() {
        let _ = write!(line, " reason={}", record.reason);
    }
    line.push('\n');
    line
}

fn json_line(record: &AccessRecord<'_>) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        time: u64,
        #[serde(flatten)]
        record: AccessRecord<'a>,
    }
    let record = AccessRecord {
        target: cut(record.target),
        host: cut(record.host),
        http_referer: cut(record.http_referer),
        http_user_agent: cut(record.http_user_agent),
        request_id: cut(record.request_id),
        remote_user: cut(record.remote_user),
        ..*record
    };
    let mut line = serde_json::to_string(&Line { time: time::unix_seconds(), record }).unwrap_or_default();
    line.push('\n');
    line
}

fn push_or_dash(line: &mut String, value: &str) {
    if value.is_empty() {
        line.push('-');
    } else {
        push_escaped(line, value);
    }
}

/// nginx's escaping: what could end a field or a line, or reach a terminal, is written in hexadecimal.
pub(super) fn push_escaped(line: &mut String, value: &str) {
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

pub(super) fn cut(value: &str) -> &str {
    let mut end = value.len().min(MAX_FIELD);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use routing::model::PortRef;

    static HEADERS: std::sync::OnceLock<HeaderMap> = std::sync::OnceLock::new();

    fn headers() -> HeaderMap {
        [(http::header::ACCEPT, http::HeaderValue::from_static("a/\"b\""))].into_iter().collect()
    }

    fn record() -> AccessRecord<'static> {
        AccessRecord {
            remote_addr: [192, 0, 2, 1].into(),
            remote_user: "",
            method: "GET",
            host: "a.example",
            target: "/x?y=1",
            protocol: "HTTP/1.1",
            status: 200,
            body_bytes_sent: 5,
            http_referer: "",
            http_user_agent: "curl/8",
            request_length: 80,
            request_time: 0.0014,
            namespace: "default",
            ingress: "web",
            upstream: Some(UpstreamRecord {
                namespace: "default",
                service: "web",
                port: &PortRef::Number(80),
                alternative: None,
                address: Some(([10, 0, 0, 1], 8080).into()),
                response_length: 5,
                response_time: 0.001,
                status: Some(200),
                connect_time: Some(0.0),
                header_time: Some(0.001),
            }),
            request_id: "abc",
            reason: "",
            details: RequestDetails {
                request_headers: HEADERS.get_or_init(headers),
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

    #[test]
    fn a_text_line_has_the_fields_of_ingress_nginx() {
        let line = text_line(&record());
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
            assert_eq!(formatted_line(&format, &record()), format!("{expected}\n"));
        }
        for unknown in ["$nothing", "$", "$http_authorization", "$http_cookie", "$sent_http_set_cookie"] {
            assert_eq!(LogFormat::parse(unknown, Default), None, "{unknown}");
        }
    }

    #[test]
    fn an_answer_of_the_gateway_names_its_reason() {
        let line = text_line(&AccessRecord { upstream: None, reason: "route_not_found", status: 404, ..record() });
        assert!(line.ends_with(" [] [] - - - - abc reason=route_not_found\n"), "{line}");
    }

    #[test]
    fn a_client_cannot_write_into_the_log() {
        let agent = "\"\n\u{1b}[31m\\é";
        let line = text_line(&AccessRecord { http_user_agent: agent, ..record() });
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.contains("\"\\x22\\x0A\\x1B[31m\\x5C\\xC3\\xA9\""), "{line}");
        let long = "é".repeat(40_000);
        assert!(text_line(&AccessRecord { target: &long, ..record() }).len() < 20_000);
        let json = json_line(&AccessRecord { http_user_agent: agent, target: &long, ..record() });
        assert_eq!(json.matches('\n').count(), 1);
        assert!(json.len() < 10_000);
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
    }

    #[test]
    fn lines_that_wait_take_a_bounded_amount_of_memory() {
        struct Stuck(std::sync::mpsc::Receiver<()>);
        impl std::io::Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                // Until the test is over.
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (_until, stuck) = std::sync::mpsc::channel();
        let log = AccessLog::start(AccessLogFormat::Text, Stuck(stuck)).unwrap();
        let long = "\u{1}".repeat(MAX_FIELD);
        for _ in 0..4096 {
            log.log(&AccessRecord { target: &long, ..record() }, None);
        }
        assert!(log.n_dropped() > 1000, "{} lines of 16 KiB were lost", log.n_dropped());
        assert!(log.queue.n_bytes.load(Ordering::Relaxed) <= QUEUE_BYTES);
    }

    #[test]
    fn a_log_that_nobody_reads_loses_lines_and_no_time() {
        struct Broken;
        impl std::io::Write for Broken {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let log = AccessLog::start(AccessLogFormat::Text, Broken).unwrap();
        for _ in 0..1000 {
            log.log(&record(), None);
        }
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while log.n_dropped() < 1000 {
            assert!(std::time::Instant::now() < deadline, "{} lines are counted as lost", log.n_dropped());
            std::thread::yield_now();
        }
    }
}
