//! The thousand rounds of MD5 of Apache's `$apr1$` and of crypt(3)'s `$1$`, which no small library offers.

use md5::{Digest, Md5};

/// The longest salt, in bytes.
pub(super) const MAX_SALT: usize = 8;
/// The length of the digest in its own base 64.
pub(super) const DIGEST_LEN: usize = 22;

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Which bytes of the digest make four digits of text.
const GROUPS: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];

/// The digest of a password in the text that hashes end with. `magic` is `$apr1$` or `$1$`.
pub(super) fn digest(password: &[u8], salt: &[u8], magic: &str) -> [u8; DIGEST_LEN] {
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut outer = Md5::new().chain_update(password).chain_update(magic).chain_update(salt);
    for chunk in password.chunks(inner.len()) {
        outer.update(&inner[..chunk.len()]);
    }
    let mut bits = password.len();
    while bits > 0 {
        let byte: &[u8] = if bits & 1 == 1 { &[0] } else { password.get(..1).unwrap_or_default() };
        outer.update(byte);
        bits >>= 1;
    }
    let mut state = outer.finalize();
    for round in 0..1000 {
        let mut step = Md5::new();
        step.update(if round % 2 == 1 { password } else { &state });
        if round % 3 != 0 {
            step.update(salt);
        }
        if round % 7 != 0 {
            step.update(password);
        }
        step.update(if round % 2 == 1 { &state } else { password });
        state = step.finalize();
    }
    text(&state.into())
}

/// Six bits for each character, the lowest first.
fn text(state: &[u8; 16]) -> [u8; DIGEST_LEN] {
    let groups = GROUPS.iter().map(|[high, middle, low]| [state[*high], state[*middle], state[*low]]);
    let last = [0, 0, state[11]];
    let mut digits = groups.chain([last]).flat_map(|[high, middle, low]| {
        let bits = u32::from_be_bytes([0, high, middle, low]);
        (0..4).map(move |place| ALPHABET[(bits >> (6 * place)) as usize & 63])
    });
    std::array::from_fn(|_| digits.next().unwrap_or(b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference values of `openssl passwd -apr1` and `-1`.
    #[test]
    fn digests_are_those_of_openssl() {
        for (magic, salt, password, expected) in [
            ("$apr1$", "r31.....", "myPassword", "HqJZimcKQFAMYayBlzkrA/"),
            ("$apr1$", "lZL6V/ci", "", "SVU5DyKasLwxHneKr84nN."),
            ("$apr1$", "lZL6V/ci", "a", "FziZ/OfnM9nrLicAFMl2d."),
            ("$apr1$", "lZL6V/ci", "0123456789abcdef", "V6MfccckLG740xSMI61n.0"),
            ("$apr1$", "lZL6V/ci", "0123456789abcdefg and some more than two blocks", "tU5U5OrcoadERorkvnGPv/"),
            ("$1$", "ab", "myPassword", "xC/DXxu/MwluTmqRxr9Sd/"),
            ("$1$", "ab", "0123456789abcdefg and some more than two blocks", "hJTO0Td3bM8ZWB8p3QAT3."),
        ] {
            let digest = digest(password.as_bytes(), salt.as_bytes(), magic);
            assert_eq!(std::str::from_utf8(&digest).unwrap(), expected, "{magic} {password}");
        }
    }
}
