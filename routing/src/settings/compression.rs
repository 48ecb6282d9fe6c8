//! Which answers are compressed, and how.

use serde::Serialize;

/// Which answers are compressed, and how: nothing, unless the settings ask for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compression {
    /// `enable-brotli`, `brotli-*`.
    pub brotli: Coding,
    /// `enable-zstd`, `zstd-*`.
    pub zstd: Coding,
    /// `use-gzip`, `gzip-*`.
    pub gzip: Coding,
}

/// One way to compress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coding {
    /// Whether it is used at all.
    pub enabled: bool,
    /// How hard it tries.
    pub level: u8,
    /// Answers that are known to be shorter stay as they are.
    pub min_length: u64,
    /// The media types that it is for, in lower case; `*` for all. `text/html` always is.
    pub types: Vec<Box<str>>,
}

/// The media types of ingress-nginx.
const TYPES: [&str; 18] = [
    "application/atom+xml",
    "application/javascript",
    "application/x-javascript",
    "application/json",
    "application/rss+xml",
    "application/vnd.ms-fontobject",
    "application/x-font-ttf",
    "application/x-web-app-manifest+json",
    "application/xhtml+xml",
    "application/xml",
    "font/opentype",
    "image/svg+xml",
    "image/x-icon",
    "text/css",
    "text/html",
    "text/javascript",
    "text/plain",
    "text/x-component",
];

impl Compression {
    /// Whether there is anything to do.
    #[must_use]
    pub fn is_on(&self) -> bool {
        let Self { brotli, zstd, gzip } = self;
        brotli.enabled || zstd.enabled || gzip.enabled
    }
}

impl Coding {
    fn new(level: u8, min_length: u64) -> Self {
        Self { enabled: false, level, min_length, types: TYPES.map(Into::into).to_vec() }
    }

    /// Whether it is for an answer of this media type and length.
    #[must_use]
    pub fn is_for(&self, media_type: &str, length: Option<u64>) -> bool {
        let is_listed = |listed: &str| listed == "*" || listed.eq_ignore_ascii_case(media_type);
        self.enabled
            && length.is_none_or(|length| length >= self.min_length)
            && (media_type.eq_ignore_ascii_case("text/html") || self.types.iter().any(|listed| is_listed(listed)))
    }
}

impl Default for Compression {
    fn default() -> Self {
        let mut brotli = Coding::new(4, 20);
        brotli.types.insert(0, "application/xml+rss".into());
        Self { brotli, zstd: Coding::new(3, 256), gzip: Coding::new(1, 256) }
    }
}
