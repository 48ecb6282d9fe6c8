//! The head of a request: request line and fields (RFC 9112 sections 2 to 6), within the limits of the settings: 414 for
//! the target (RFC 9110 section 15.5.15), 431 for the rest (RFC 6585 section 5).

use routing::HeadLimits;

use super::Body;

/// The most fields of a trailer section.
pub(super) const MAX_FIELDS: usize = 128;
/// The longest method; the registered ones have at most 17 bytes.
const MAX_METHOD: usize = 32;
/// Empty lines before a request line that are skipped (RFC 9112 section 2.2 asks for at least one).
const MAX_EMPTY_LINES: usize = 1;
/// Digits of a length: any number of them fits 64 bits.
const MAX_DIGITS: usize = 18;

/// How a request breaks the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// Not the grammar of RFC 9112, or more than one reading of it.
    #[error("malformed or ambiguous")]
    Malformed,
    /// The target is too long.
    #[error("target too long")]
    TargetTooLong,
    /// The head, or a part of the framing that comes later, is too large.
    #[error("head too large")]
    HeadTooLarge,
}

/// Reads a head line by line, as the lines come.
#[derive(Debug)]
pub(super) struct HeadReader {
    limits: HeadLimits,
    /// Where the line begins that is not complete yet.
    line: usize,
    /// How far that line was looked at.
    scanned: usize,
    request_line: Option<RequestLine>,
    n_empty_lines: usize,
    n_fields: usize,
    length: Option<u64>,
    is_chunked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestLine {
    Http10,
    Http11,
}

impl HeadReader {
    pub(super) fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            line: 0,
            scanned: 0,
            request_line: None,
            n_empty_lines: 0,
            n_fields: 0,
            length: None,
            is_chunked: false,
        }
    }

    /// Reads a head from its first byte, with more bytes at each call. Returns its length and the kind of its body once
    /// it is complete.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Option<(usize, Body)>, Violation> {
        loop {
            let Some(end) = bytes[self.scanned..].iter().position(|byte| *byte == b'\n') else {
                self.scanned = bytes.len();
                self.check_size(bytes)?;
                return Ok(None);
            };
            let end = self.scanned + end;
            let line = bytes[self.line..end].strip_suffix(b"\r").ok_or(Violation::Malformed)?;
            (self.line, self.scanned) = (end + 1, end + 1);
            if end >= self.limits.head {
                return Err(self.too_large());
            }
            match self.request_line {
                None if line.is_empty() && self.n_empty_lines < MAX_EMPTY_LINES => self.n_empty_lines += 1,
                None => self.request_line = Some(request_line(line, self.limits.target)?),
                Some(version) if line.is_empty() => return Ok(Some((end + 1, self.body(version)?))),
                Some(_) => self.field(line)?,
            }
        }
    }

    fn check_size(&self, bytes: &[u8]) -> Result<(), Violation> {
        let is_target_too_long = self.request_line.is_none() && bytes.len() > self.limits.target + MAX_METHOD + 16;
        if is_target_too_long || bytes.len() > self.limits.head { Err(self.too_large()) } else { Ok(()) }
    }

    fn too_large(&self) -> Violation {
        if self.request_line.is_none() { Violation::TargetTooLong } else { Violation::HeadTooLarge }
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Violation> {
        self.n_fields += 1;
        if self.n_fields > self.limits.headers || line.len() > self.limits.header_line {
            return Err(Violation::HeadTooLarge);
        }
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            let is_number = !value.is_empty() && value.len() <= MAX_DIGITS && value.iter().all(u8::is_ascii_digit);
            if !is_number || self.length.is_some() {
                return Err(Violation::Malformed);
            }
            self.length = Some(value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            // Other codings, and lists, have no use in requests and many readings.
            if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Violation::Malformed);
            }
            self.is_chunked = true;
        }
        Ok(())
    }

    fn body(&self, version: RequestLine) -> Result<Body, Violation> {
        match (self.is_chunked, self.length) {
            (true, None) if version == RequestLine::Http11 => Ok(Body::Chunked),
            (true, _) => Err(Violation::Malformed),
            (false, Some(length)) => Ok(Body::Length(length)),
            (false, None) => Ok(Body::None),
        }
    }
}

/// `method SP request-target SP HTTP-version` (RFC 9112 section 3), the target in visible ASCII without a fragment.
fn request_line(line: &[u8], max_target: usize) -> Result<RequestLine, Violation> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (Some(method), Some(target), Some(version)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Violation::Malformed);
    };
    if target.len() > max_target {
        return Err(Violation::TargetTooLong);
    }
    let is_method = !method.is_empty() && method.len() <= MAX_METHOD && method.iter().all(|byte| is_token(*byte));
    let is_form = match target {
        [b'/', ..] | b"*" => true,
        // The absolute form, and the authority form of CONNECT (section 3.2).
        _ => method == b"CONNECT" || target.windows(3).any(|window| window == b"://"),
    };
    let is_target = is_form && target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#');
    match (is_method && is_target, version) {
        (true, b"HTTP/1.1") => Ok(RequestLine::Http11),
        (true, b"HTTP/1.0") => Ok(RequestLine::Http10),
        _ => Err(Violation::Malformed),
    }
}

/// `field-name ":" OWS field-value OWS` (RFC 9112 section 5). A folded line begins with a space, which no name does.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Violation::Malformed)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_name = !name.is_empty() && name.iter().all(|byte| is_token(*byte));
    if is_name && value.iter().all(|byte| is_text(*byte)) {
        Ok((name, trimmed(value)))
    } else {
        Err(Violation::Malformed)
    }
}

/// Without spaces and tabs at both ends; other white space is not optional white space.
fn trimmed(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// `tchar` (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let others = b"!#$%&'*+-.^_`|~";
        let mut byte = 0;
        while byte < 256 {
            table[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let mut other = 0;
        while other < others.len() {
            table[others[other] as usize] = true;
            other += 1;
        }
        table
    };
    TOKEN[usize::from(byte)]
}

/// A byte of a field value (RFC 9110 section 5.5): visible ASCII, space, tab, or from 0x80 on.
pub(super) fn is_text(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte == b'\t'
}
