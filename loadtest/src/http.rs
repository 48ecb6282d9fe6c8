//! HTTP/1.1 as the clients here need it: answers with a `Content-Length`, and requests without a body.

use std::io;

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

/// Bytes of the first request, which has no body; `None` when there is more to come.
pub(crate) fn request_length(received: &[u8]) -> io::Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    match httparse::Request::new(&mut headers).parse(received) {
        Ok(httparse::Status::Complete(length)) => Ok(Some(length)),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
    }
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
