//! Compression of answers on their way, piece by piece: what an upstream has sent is never held back.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType};
use routing::{Coding, Compression};

/// The window of brotli, as a power of two: that of its nginx module.
const BROTLI_WINDOW: u32 = 19;
/// The buffer in which brotli gathers what it gets, in bytes.
const BROTLI_BUFFER: usize = 4096;

/// The compressor of one answer. Pingora wants what belongs to a request to be `Sync`, which zstd's is not; nobody
/// shares it, so that the lock is never taken.
pub(crate) struct Compressor(Mutex<Encoder>);

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

/// Decides whether an answer is compressed, and marks its head: as nginx does, an answer that could have been says so
/// (`gzip_vary`), its length is gone, and its entity tag is a weak one.
pub(crate) fn compressor(
    settings: &Compression,
    request: &RequestHeader,
    response: &mut ResponseHeader,
) -> pingora::Result<Option<Compressor>> {
    let Compression { brotli, zstd, gzip } = settings;
    if !may_be_compressed(request, response) {
        return Ok(None);
    }
    let length = response.headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let is_for = {
        let media_type = media_type(&response.headers).to_owned();
        move |coding: &Coding| coding.is_for(&media_type, length)
    };
    let candidates = [("br", brotli), ("zstd", zstd), ("gzip", gzip)];
    if !candidates.iter().any(|(_, coding)| is_for(coding)) {
        return Ok(None);
    }
    vary_by_coding(response)?;
    let accepted = |name: &str| accepts(&request.headers, name);
    let Some((name, coding)) = candidates.into_iter().find(|(name, coding)| is_for(coding) && accepted(name)) else {
        return Ok(None);
    };
    response.insert_header(header::CONTENT_ENCODING, name)?;
    response.remove_header(&header::CONTENT_LENGTH);
    response.remove_header(&header::ACCEPT_RANGES);
    if let Some(weak) = weakened(response.headers.get(header::ETAG)) {
        response.insert_header(header::ETAG, weak)?;
    }
    // The head is told as for GET (RFC 9110 section 9.3.2), but nothing follows it.
    if request.method == Method::HEAD { Ok(None) } else { Compressor::new(name, coding).map(Some) }
}

/// The answers that nginx looks at: whole, and not encoded yet. `no-transform` is heeded (RFC 9110 section
/// 7.7). HTTP/2 upstreams may end an answer where no piece of a body is left to put the end of the compressed one in.
fn may_be_compressed(request: &RequestHeader, response: &ResponseHeader) -> bool {
    let is_whole = matches!(response.status, StatusCode::OK | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND);
    let mut directives = response.headers.get_all(header::CACHE_CONTROL).iter();
    is_whole
        && request.version != Version::HTTP_10
        && response.version != Version::HTTP_2
        && !response.headers.contains_key(header::CONTENT_ENCODING)
        && !directives.any(|value| value.to_str().is_ok_and(|value| value.contains("no-transform")))
}

fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// Whether `Accept-Encoding` has a coding, with another weight than 0 (RFC 9110 section 12.5.3).
fn accepts(headers: &HeaderMap, name: &str) -> bool {
    let weight = |coding: &str| {
        let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).find_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let is_same = parts.next().is_some_and(|part| part.eq_ignore_ascii_case(coding));
            let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            is_same.then(|| weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)))
        })
    };
    weight(name).or_else(|| weight("*")).is_some_and(|weight: f32| weight > 0.0)
}

fn vary_by_coding(response: &mut ResponseHeader) -> pingora::Result<()> {
    let has = |value: &HeaderValue| {
        let mut names = value.to_str().unwrap_or_default().split(',').map(str::trim);
        names.any(|name| name == "*" || name.eq_ignore_ascii_case("accept-encoding"))
    };
    if !response.headers.get_all(header::VARY).iter().any(has) {
        response.append_header(header::VARY, "Accept-Encoding")?;
    }
    Ok(())
}

/// A weak entity tag in place of a strong one: the bytes are others (RFC 9110 section 8.8.1).
fn weakened(tag: Option<&HeaderValue>) -> Option<HeaderValue> {
    let tag = tag?.as_bytes();
    let is_strong = tag.first() == Some(&b'"');
    is_strong.then(|| HeaderValue::from_bytes(&[b"W/", tag].concat()).ok()).flatten()
}

// === impl Compressor ===

impl Compressor {
    fn new(name: &str, coding: &Coding) -> pingora::Result<Self> {
        let level = u32::from(coding.level);
        let encoder = match name {
            "br" => {
                let writer = brotli::CompressorWriter::new(Vec::new(), BROTLI_BUFFER, level, BROTLI_WINDOW);
                Encoder::Brotli(Box::new(writer))
            }
            "zstd" => {
                Encoder::Zstd(zstd::stream::write::Encoder::new(Vec::new(), i32::from(coding.level)).map_err(internal)?)
            }
            _ => Encoder::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(level))),
        };
        Ok(Self(Mutex::new(encoder)))
    }

    /// Compresses a piece of the body, to its last byte.
    pub(crate) fn compress(&mut self, piece: &mut Option<Bytes>, is_last: bool) -> pingora::Result<()> {
        let encoder = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let input = piece.take().unwrap_or_default();
        if input.is_empty() && !is_last {
            return Ok(());
        }
        let output = encoder.write(&input, is_last).map_err(internal)?;
        *piece = (!output.is_empty()).then(|| output.into());
        Ok(())
    }
}

impl Encoder {
    fn write(&mut self, input: &[u8], is_last: bool) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(writer) => {
                writer.write_all(input)?;
                if is_last {
                    writer.try_finish()?
                } else {
                    writer.flush()?
                }
                Ok(std::mem::take(writer.get_mut()))
            }
            Self::Brotli(writer) if is_last => {
                writer.write_all(input)?;
                // Only dropping the writer ends the stream.
                let empty = brotli::CompressorWriter::new(Vec::new(), BROTLI_BUFFER, 0, BROTLI_WINDOW);
                Ok(std::mem::replace(&mut **writer, empty).into_inner())
            }
            Self::Brotli(writer) => {
                writer.write_all(input)?;
                writer.flush()?;
                Ok(std::mem::take(writer.get_mut()))
            }
            Self::Zstd(writer) => {
                writer.write_all(input)?;
                if is_last {
                    writer.do_finish()?
                } else {
                    writer.flush()?
                }
                Ok(std::mem::take(writer.get_mut()))
            }
        }
    }
}

fn internal(error: io::Error) -> Box<Error> {
    Error::because(ErrorType::InternalError, "compress an answer", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_encoding_is_read_with_its_weights() {
        for (value, name, expected) in [
            ("gzip", "gzip", true),
            ("gzip, br;q=0.5", "br", true),
            ("GZIP", "gzip", true),
            ("gzip;q=0", "gzip", false),
            ("gzip;q=0, *", "gzip", false),
            ("*", "br", true),
            ("*;q=0", "br", false),
            ("identity", "gzip", false),
            ("xgzip", "gzip", false),
            ("", "gzip", false),
        ] {
            let headers = [(header::ACCEPT_ENCODING, HeaderValue::from_static(value))].into_iter().collect();
            assert_eq!(accepts(&headers, name), expected, "{value}");
        }
        assert!(!accepts(&HeaderMap::new(), "gzip"));
    }

    #[test]
    fn every_piece_comes_out_when_it_went_in() {
        let settings = Compression::default();
        for (name, coding) in [("br", &settings.brotli), ("zstd", &settings.zstd), ("gzip", &settings.gzip)] {
            let mut compressor = Compressor::new(name, coding).unwrap();
            for _ in 0..3 {
                let mut piece = Some(Bytes::from_static(b"hello, "));
                compressor.compress(&mut piece, false).unwrap();
                assert!(piece.is_some(), "{name}");
            }
            let mut end = None;
            compressor.compress(&mut end, true).unwrap();
            assert!(end.is_some(), "{name}");
        }
    }
}
