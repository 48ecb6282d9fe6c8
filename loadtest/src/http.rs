//! HTTP/1.1 as it is needed here: every body has a `Content-Length`.

use std::io;

use crate::upstream::BULK_PATH;

/// Headers that an answer may have.
const MAX_HEADERS: usize = 64;

/// The head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Bytes of the head, with the empty line at its end.
    pub(crate) length: usize,
    /// Bytes of the body.
    pub(crate) body: usize,
    /// Whether the connection ends with this answer.
    pub(crate) is_last: bool,
}

/// A request without a body, on a connection that is kept.
pub(crate) fn request(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: loadtest\r\nAccept: */*\r\n\r\n").into_bytes()
}

/// The head of a request with a body, on a connection that is kept.
pub(crate) fn post(host: &str, path: &str, length: usize) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: loadtest\r\nAccept: */*\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}

/// Reads the head of an answer; `None` when there is more to come.
pub(crate) fn head(received: &[u8]) -> io::Result<Option<Head>> {
    let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(received).map_err(|error| invalid(error.to_string()))? {
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(length) => length,
    };
    let value = |name: &str| response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let body = value("content-length")
        .and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok())
        .ok_or_else(|| invalid("answer without a Content-Length".to_owned()))?;
    let is_last = value("connection").is_some_and(|header| header.value.eq_ignore_ascii_case(b"close"));
    Ok(Some(Head { status: response.code.unwrap_or_default(), length, body, is_last }))
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestHead {
    /// Bytes of the head, with the empty line at its end.
    pub(crate) length: usize,
    /// Bytes of the body.
    pub(crate) body: usize,
    /// Whether it asks for the large body.
    pub(crate) is_bulk: bool,
    /// The key of a WebSocket that it opens.
    pub(crate) websocket_key: Option<String>,
}

/// Reads the head of the first request; `None` when there is more to come.
pub(crate) fn request_head(received: &[u8]) -> io::Result<Option<RequestHead>> {
    let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(received).map_err(|error| invalid(error.to_string()))? {
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(length) => length,
    };
    let value = |name: &str| {
        let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    if value("transfer-encoding").is_some() {
        return Err(invalid("a body in chunks".to_owned()));
    }
    Ok(Some(RequestHead {
        length,
        body: value("content-length").map_or(Ok(0), str::parse::<usize>).map_err(|error| invalid(error.to_string()))?,
        is_bulk: request.path == Some(BULK_PATH),
        websocket_key: value("sec-websocket-key").map(str::to_owned),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_complete() {
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nabc";
        assert_eq!(
            head(answer).unwrap(),
            Some(Head { status: 404, length: answer.len() - 3, body: 3, is_last: false })
        );
        assert_eq!(head(&answer[..answer.len() - 4]).unwrap(), None);
    }

    #[test]
    fn a_last_answer_says_so() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        assert!(head(answer).unwrap().unwrap().is_last);
    }

    #[test]
    fn an_answer_of_unknown_length_is_an_error() {
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(head(b"SSH-2.0-x\r\n\r\n").is_err());
    }
}
