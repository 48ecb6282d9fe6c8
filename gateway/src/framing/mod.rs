//! Message framing of HTTP/1 (RFC 9112), checked before Pingora sees a byte.
//!
//! A parser that guesses is how requests are smuggled: what one side takes for a body is the next request for the other.
//! Here a message has one reading or none. Bytes of a message that was read to its end are passed on, bytes of the next
//! one wait until the request is answered, and what breaks the grammar is refused.

mod chunked;
mod head;

pub(crate) use head::Violation;

use chunked::Chunked;
use routing::HeadLimits;

use head::HeadReader;

/// Where the messages of a connection begin and end.
#[derive(Debug)]
pub(crate) struct Framer {
    state: State,
    limits: HeadLimits,
}

#[derive(Debug)]
enum State {
    /// The head of a request.
    Head(HeadReader),
    /// A body of as many bytes as are left.
    Length(u64),
    /// A body in chunks.
    Chunked(Chunked),
    /// The request was read to its end; what follows belongs to the next one.
    Done,
    /// Not HTTP/1 any more, or never: bytes pass as they are.
    Raw,
}

/// How the body of a request ends (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    None,
    Length(u64),
    Chunked,
}

impl Framer {
    /// At the start of a connection that speaks HTTP/1.
    #[must_use]
    pub(crate) fn new(limits: HeadLimits) -> Self {
        Self { state: State::Head(HeadReader::new(limits)), limits }
    }

    /// For a connection that speaks something else.
    #[must_use]
    pub(crate) fn raw(limits: HeadLimits) -> Self {
        Self { state: State::Raw, limits }
    }

    /// From now on bytes pass as they are.
    pub(crate) fn set_raw(&mut self) {
        self.state = State::Raw;
    }

    /// Whether bytes pass as they are.
    #[must_use]
    pub(crate) fn is_raw(&self) -> bool {
        matches!(self.state, State::Raw)
    }

    /// Whether a request was read to its end and the next one has not begun.
    #[must_use]
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// The request was answered: the next one may begin.
    pub(crate) fn begin_next(&mut self) {
        self.state = State::Head(HeadReader::new(self.limits));
    }

    /// Reads what has come, and tells how many bytes of it may pass. Bytes that may not are given again, with what came
    /// after them.
    ///
    /// # Errors
    ///
    /// The first violation of the grammar. Nothing of the connection can be trusted after it.
    // Profiles tell by its name what the gate costs.
    #[inline(never)]
    pub(crate) fn admit(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let mut admitted = 0;
        loop {
            let rest = &bytes[admitted..];
            match &mut self.state {
                State::Raw => return Ok(bytes.len()),
                State::Done => return Ok(admitted),
                State::Head(reader) => {
                    let Some((length, body)) = reader.read(rest)? else { return Ok(admitted) };
                    admitted += length;
                    self.state = match body {
                        Body::None | Body::Length(0) => State::Done,
                        Body::Length(length) => State::Length(length),
                        Body::Chunked => State::Chunked(Chunked::new()),
                    };
                }
                State::Length(left) => {
                    let n = u64::try_from(rest.len()).unwrap_or(u64::MAX).min(*left);
                    admitted += usize::try_from(n).unwrap_or(usize::MAX);
                    *left -= n;
                    if *left > 0 {
                        return Ok(admitted);
                    }
                    self.state = State::Done;
                }
                State::Chunked(chunked) => {
                    let (n, is_complete) = chunked.read(rest)?;
                    admitted += n;
                    if !is_complete {
                        return Ok(admitted);
                    }
                    self.state = State::Done;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives the bytes in pieces of `size` and returns what passed, or the violation.
    fn passed(bytes: &[u8], size: usize) -> Result<Vec<u8>, Violation> {
        let mut framer = Framer::new(HeadLimits::default());
        let (mut held, mut passed) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(size) {
            held.extend_from_slice(piece);
            let n = framer.admit(&held)?;
            passed.extend(held.drain(..n));
        }
        Ok(passed)
    }

    #[test]
    fn a_message_passes_to_its_end_and_the_next_one_waits() {
        for message in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n00\r\nA: b\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
        ] {
            for next in ["", "GET /next HTTP/1.1\r\n\r\n", "\0"] {
                let bytes = [message, next].concat();
                for size in [1, 2, 3, 7, bytes.len()] {
                    let passed = passed(bytes.as_bytes(), size);
                    assert_eq!(passed.as_deref(), Ok(message.as_bytes()), "{bytes:?} by {size}");
                }
            }
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_refused_wherever_it_is_cut() {
        for bytes in [
            // RFC 9112 section 6.1: one length, and one only.
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 0x10\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: ,chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            // Sections 2.2 and 5: lines and fields.
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nA\r\n\r\n",
            "GET / HTTP/1.1\r\n: b\r\n\r\n",
            "GET / HTTP/1.1\r\nA(: b\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\0c\r\n\r\n",
            // Section 3: the request line.
            "GET  / HTTP/1.1\r\n\r\n",
            "GET\t/ HTTP/1.1\r\n\r\n",
            "GET /a b HTTP/1.1\r\n\r\n",
            "GET /#f HTTP/1.1\r\n\r\n",
            "GET /\u{e9} HTTP/1.1\r\n\r\n",
            "GET / \r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/1.2\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "GET / http/1.1\r\n\r\n",
            "GET / HTTP/01.1\r\n\r\n",
            " GET / HTTP/1.1\r\n\r\n",
            "G(T / HTTP/1.1\r\n\r\n",
            "\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            // Section 7.1: chunks.
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n12345678901234567\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;\0\r\nhello\r\n0\r\n\r\n",
        ] {
            for size in [1, 5, bytes.len()] {
                assert_eq!(passed(bytes.as_bytes(), size), Err(Violation::Malformed), "{bytes:?} by {size}");
            }
        }
    }

    #[test]
    fn a_head_has_a_largest_size() {
        let long = "a".repeat(70_000);
        let target = format!("GET /{long} HTTP/1.1\r\n\r\n");
        assert_eq!(passed(target.as_bytes(), 4096), Err(Violation::TargetTooLong));
        let value = format!("GET / HTTP/1.1\r\nA: {long}\r\n\r\n");
        assert_eq!(passed(value.as_bytes(), 4096), Err(Violation::HeadTooLarge));
        let fields = |n| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(n));
        assert_eq!(passed(fields(129).as_bytes(), 4096), Err(Violation::HeadTooLarge));
        assert!(passed(fields(128).as_bytes(), 4096).is_ok());
        let cookie = format!("GET / HTTP/1.1\r\nCookie: {}\r\n\r\n", "c".repeat(8192));
        assert!(passed(cookie.as_bytes(), 4096).is_ok());
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in [format!("5;{long}"), format!("0\r\nA: {long}"), format!("0\r\n{}", "A: b\r\n".repeat(2000))] {
            assert_eq!(passed(format!("{chunked}{body}").as_bytes(), 4096), Err(Violation::HeadTooLarge));
        }
    }

    #[test]
    fn whatever_comes_nothing_passes_that_was_not_read() {
        use proptest::prelude::*;
        let pieces = prop::sample::select(vec![
            "GET ",
            "POST ",
            "/",
            " HTTP/1.1\r\n",
            "Host: a\r\n",
            "Content-Length: 3\r\n",
            "\r\n",
            "abc",
            "0\r\n",
            "\n",
            "Transfer-Encoding: chunked\r\n",
            "3\r\nabc\r\n",
            "\0",
            "\u{ff}",
            "A: b\r\n",
        ]);
        proptest!(|(parts in prop::collection::vec(pieces, 0..24), size in 1usize..9)| {
            let bytes = parts.concat().into_bytes();
            let whole = passed(&bytes, bytes.len().max(1));
            let cut = passed(&bytes, size);
            // How the bytes arrive changes nothing.
            prop_assert_eq!(&whole, &cut);
            if let Ok(whole) = whole {
                prop_assert!(bytes.starts_with(&whole));
            }
        });
    }
}
