//! Bodies in chunks (RFC 9112 section 7.1), with limits on all that is not data.

use super::head::{MAX_FIELDS, Violation, field, is_text};

/// The most bytes of extensions of one chunk. Nothing known uses them.
const MAX_EXTENSIONS: usize = 256;
/// The most bytes of a line in the trailer section.
const MAX_TRAILER_LINE: usize = 8 * 1024;
/// Digits of a chunk size: any number of them fits 64 bits.
const MAX_DIGITS: usize = 15;

/// Where in a chunked body the next byte is.
#[derive(Debug)]
pub(super) struct Chunked {
    next: Next,
    n_trailers: usize,
}

#[derive(Debug)]
enum Next {
    /// The line with the size of a chunk.
    Size,
    /// Data, as many bytes as are left.
    Data(u64),
    /// The end of a chunk's data.
    DataEnd,
    /// A line of the trailer section.
    Trailer,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self { next: Next::Size, n_trailers: 0 }
    }

    /// Reads on. Returns how many bytes were read and whether the body is complete. A line is read when it is whole.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(usize, bool), Violation> {
        let mut read = 0;
        loop {
            let rest = &bytes[read..];
            match self.next {
                Next::Data(left) => {
                    let n = u64::try_from(rest.len()).unwrap_or(u64::MAX).min(left);
                    read += usize::try_from(n).unwrap_or(usize::MAX);
                    if n < left {
                        self.next = Next::Data(left - n);
                        return Ok((read, false));
                    }
                    self.next = Next::DataEnd;
                }
                Next::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        read += 2;
                        self.next = Next::Size;
                    }
                    [] | [b'\r'] => return Ok((read, false)),
                    _ => return Err(Violation::Malformed),
                },
                Next::Size => {
                    let Some(line) = line(rest, MAX_DIGITS + MAX_EXTENSIONS)? else { return Ok((read, false)) };
                    read += line.len() + 2;
                    self.next = match size(line)? {
                        0 => Next::Trailer,
                        size => Next::Data(size),
                    };
                }
                Next::Trailer => {
                    let Some(line) = line(rest, MAX_TRAILER_LINE)? else { return Ok((read, false)) };
                    read += line.len() + 2;
                    if line.is_empty() {
                        return Ok((read, true));
                    }
                    self.n_trailers += 1;
                    if self.n_trailers > MAX_FIELDS {
                        return Err(Violation::HeadTooLarge);
                    }
                    field(line)?;
                }
            }
        }
    }
}

/// The line at the start, without its end; `None` when it is not whole yet.
fn line(bytes: &[u8], max: usize) -> Result<Option<&[u8]>, Violation> {
    let within = &bytes[..bytes.len().min(max + 2)];
    match within.iter().position(|byte| *byte == b'\n') {
        Some(end) => bytes[..end].strip_suffix(b"\r").map(Some).ok_or(Violation::Malformed),
        None if bytes.len() > max + 1 => Err(Violation::HeadTooLarge),
        None => Ok(None),
    }
}

/// `chunk-size [ chunk-ext ]`: hexadecimal digits, then extensions, which mean nothing here.
fn size(line: &[u8]) -> Result<u64, Violation> {
    let n_digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extensions) = line.split_at(n_digits);
    let is_extension = extensions.first().is_none_or(|first| *first == b';');
    if digits.is_empty() || digits.len() > MAX_DIGITS || !is_extension || !extensions.iter().all(|b| is_text(*b)) {
        return Err(Violation::Malformed);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| Violation::Malformed)?;
    u64::from_str_radix(digits, 16).map_err(|_| Violation::Malformed)
}
