//! Annotations that say how large bodies and heads may be.

use super::value::ValueError;

/// How large bodies and heads may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SizeAnnotations {
    /// `proxy-body-size`, where 0 stands for no limit; `None` leaves it to the settings.
    pub request_body: Option<Option<u64>>,
    /// `proxy-buffer-size`; `None` leaves it to the settings.
    pub response_head: Option<usize>,
}

/// A size as nginx writes it: a number, with `k`, `m` or `g` behind it for more than bytes.
pub(super) fn size(text: &str) -> Result<u64, ValueError> {
    let error = || ValueError::Size(text.to_owned());
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1 << 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 1 << 30),
        Some(b'b' | b'B') => (&text[..text.len() - 1], 1),
        _ => (text, 1),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(error());
    }
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(error)
}

/// The limit of a body.
pub(crate) fn body_size(text: &str) -> Result<Option<u64>, ValueError> {
    size(text).map(|size| (size > 0).then_some(size))
}

/// The size of a buffer that must hold something.
pub(crate) fn buffer_size(text: &str) -> Result<usize, ValueError> {
    let size = size(text)?;
    usize::try_from(size).ok().filter(|size| *size > 0).ok_or_else(|| ValueError::Size(text.to_owned()))
}

/// `on` or `off`.
pub(super) fn switch(text: &str) -> Result<bool, ValueError> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(ValueError::OneOf(text.to_owned(), "on, off")),
    }
}
