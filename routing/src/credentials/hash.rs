//! One password hash: which kind it is, and whether a password is the one.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA1_OUTPUT_LEN};
use subtle::ConstantTimeEq;

use super::apr1;

/// The highest cost of bcrypt that is worked off: about 3 s on a processor of today. Each step more doubles it, and 31
/// would take a day.
const MAX_BCRYPT_COST: u32 = 16;

/// A password hash in the text of its author.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PasswordHash {
    text: Box<[u8]>,
    kind: Kind,
}

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    /// `$2a$`, `$2b$`, `$2y$`.
    Bcrypt(Box<str>),
    /// `$apr1$` of Apache, and `$1$` of crypt(3), from which it differs by its name only.
    Md5 { magic: &'static str, salt: Box<[u8]>, digest: Box<[u8]> },
    /// `{SHA}`, and `{SSHA}` with a salt behind the digest.
    Sha1 { digest: [u8; SHA1_OUTPUT_LEN], salt: Box<[u8]> },
    /// Anything else.
    Unknown,
}

impl PasswordHash {
    pub(super) fn parse(text: &[u8]) -> Self {
        let kind = bcrypt(text).or_else(|| md5(text)).or_else(|| sha1(text)).unwrap_or(Kind::Unknown);
        Self { text: text.into(), kind }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    pub(super) fn is_usable(&self) -> bool {
        self.kind != Kind::Unknown
    }

    pub(super) fn verify(&self, password: &[u8]) -> bool {
        match &self.kind {
            Kind::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
            Kind::Md5 { magic, salt, digest } => {
                bool::from(apr1::digest(password, salt, magic).as_slice().ct_eq(digest))
            }
            Kind::Sha1 { digest, salt } => {
                let mut context = digest::Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
                context.update(password);
                context.update(salt);
                bool::from(context.finish().as_ref().ct_eq(digest))
            }
            Kind::Unknown => false,
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

fn bcrypt(text: &[u8]) -> Option<Kind> {
    let text = std::str::from_utf8(text).ok()?;
    let rest = ["$2a$", "$2b$", "$2y$"].iter().find_map(|magic| text.strip_prefix(magic))?;
    let (cost, hash) = rest.split_once('$')?;
    let is_number = cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit());
    let is_cost = is_number && (4..=MAX_BCRYPT_COST).contains(&cost.parse().ok()?);
    let is_hash = hash.len() == 53 && hash.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./".contains(&byte));
    (is_cost && is_hash).then(|| Kind::Bcrypt(text.into()))
}

fn md5(text: &[u8]) -> Option<Kind> {
    let (magic, rest) =
        ["$apr1$", "$1$"].iter().find_map(|magic| text.strip_prefix(magic.as_bytes()).map(|rest| (*magic, rest)))?;
    let dollar = rest.iter().position(|byte| *byte == b'$')?;
    let (salt, digest) = (&rest[..dollar], &rest[dollar + 1..]);
    let is_whole = salt.len() <= apr1::MAX_SALT && digest.len() == apr1::DIGEST_LEN;
    is_whole.then(|| Kind::Md5 { magic, salt: salt.into(), digest: digest.into() })
}

fn sha1(text: &[u8]) -> Option<Kind> {
    let is_salted = text.starts_with(b"{SSHA}");
    let encoded = text.strip_prefix(b"{SHA}").or_else(|| text.strip_prefix(b"{SSHA}"))?;
    let decoded = STANDARD.decode(encoded).ok()?;
    let (digest, salt) = decoded.split_first_chunk::<SHA1_OUTPUT_LEN>()?;
    (salt.is_empty() != is_salted).then(|| Kind::Sha1 { digest: *digest, salt: salt.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_other_programs_are_understood() {
        for (hash, password) in [
            // Apache's documentation, "Password Formats": the password `myPassword`, by three programs.
            ("$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/", "myPassword"),
            ("{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=", "myPassword"),
            ("$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC", "myPassword"),
            // `openssl passwd -1 -salt ab`, and Python's hashlib for the salted digest.
            ("$1$ab$xC/DXxu/MwluTmqRxr9Sd/", "myPassword"),
            ("{SSHA}kL3+/tIbZ86DOhMac+F4u8lG275zYWx0", "myPassword"),
            ("{SHA}Ys23Ag/5IOWqZCw9QGaVDdHwH00=", "bar"),
        ] {
            let parsed = PasswordHash::parse(hash.as_bytes());
            assert!(parsed.is_usable() && parsed.verify(password.as_bytes()), "{hash}");
            assert!(!parsed.verify(b"mypassword") && !parsed.verify(b"") && !parsed.verify(hash.as_bytes()), "{hash}");
        }
    }

    #[test]
    fn what_is_no_hash_lets_nobody_in() {
        for text in [
            "",
            "secret",
            "{PLAIN}secret",
            "{SHA}",
            "{SHA}AAAA",
            "{SSHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=",
            "{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNEAAAA=",
            "$apr1$$",
            "$apr1$123456789$HqJZimcKQFAMYayBlzkrA/",
            "$2y$05$short",
            "$2y$31$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC",
            "$2y$+5$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC",
            "$5$salt$hash",
            "aZUs0oDbI9bLo",
        ] {
            let hash = PasswordHash::parse(text.as_bytes());
            assert!(!hash.is_usable() && !hash.verify(b"secret") && !hash.verify(text.as_bytes()), "{text}");
        }
    }
}
