//! Users and their password hashes, as `htpasswd` writes them: parsed once, checked slowly.
//!
//! Checking takes as long as the author of a hash wanted it to take, so callers do it off the threads that carry traffic.

mod apr1;
mod hash;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use self::hash::PasswordHash;

/// The users of a realm.
///
/// `Debug` and the serialised form show how many there are, and never a name or a hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    users: BTreeMap<Box<[u8]>, PasswordHash>,
}

impl Credentials {
    /// Reads an htpasswd file: a user, a colon and a hash on each line. Of two lines for one user the first counts, and
    /// a line without a colon, or that begins with `#`, says nothing (nginx `auth_basic_user_file`).
    #[must_use]
    pub fn from_htpasswd(text: &[u8]) -> Self {
        let mut users = BTreeMap::new();
        for line in text.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (user, hash) = (&line[..colon], &line[colon + 1..]);
            if user.is_empty() || user.starts_with(b"#") {
                continue;
            }
            // What follows another colon is a comment.
            let hash = hash.split(|byte| *byte == b':').next().unwrap_or_default();
            users.entry(user.into()).or_insert_with(|| PasswordHash::parse(hash));
        }
        Self { users }
    }

    /// Takes users and hashes that are pairs already.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let pairs = pairs.into_iter().filter(|(user, _)| !user.is_empty() && !user.contains(':'));
        let users =
            pairs.map(|(user, hash)| (user.as_bytes().into(), PasswordHash::parse(hash.trim_ascii()))).collect();
        Self { users }
    }

    /// The users with the texts of their hashes, sorted. They are secret.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.users.iter().map(|(user, hash)| (&**user, hash.as_bytes()))
    }

    /// The text of a user's hash: as long as it is the same, a password that was right still is.
    #[must_use]
    pub fn hash_of(&self, user: &[u8]) -> Option<&[u8]> {
        self.users.get(user).map(PasswordHash::as_bytes)
    }

    /// Whether a user has this password. Slow, on purpose; a user that does not exist takes as long as the first of
    /// those that do, so that nobody learns who exists.
    #[must_use]
    pub fn check(&self, user: &[u8], password: &[u8]) -> bool {
        match self.users.get(user) {
            Some(hash) => hash.verify(password),
            None => {
                let decoy = self.users.values().next();
                let _ = std::hint::black_box(decoy.map(|hash| hash.verify(password)));
                false
            }
        }
    }

    /// Users whose hashes are of a kind that is not known: nobody logs in as one of them.
    #[must_use]
    pub fn n_unusable(&self) -> usize {
        self.users.values().filter(|hash| !hash.is_usable()).count()
    }

    /// Sixteen bits of all names and hashes: enough to see that two replicas differ, too few to try passwords against.
    fn checksum(&self) -> u16 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        for (user, hash) in &self.users {
            for part in [user, hash.as_bytes()] {
                hasher.update(&part.len().to_le_bytes());
                hasher.update(part);
            }
        }
        let [low, high, ..] = hasher.digest().to_le_bytes();
        u16::from_le_bytes([low, high])
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} users)", self.users.len())
    }
}

impl Serialize for Credentials {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut credentials = serializer.serialize_struct("Credentials", 3)?;
        credentials.serialize_field("users", &self.users.len())?;
        credentials.serialize_field("checksum", &self.checksum())?;
        credentials.serialize_field("hashes", "redacted")?;
        credentials.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_htpasswd_file_is_read_as_nginx_reads_it() {
        let text =
            b"# comment\n\nbob:{SHA}Ys23Ag/5IOWqZCw9QGaVDdHwH00=:note\r\nbob:{SHA}other\nno colon\n:x\neve:secret\n";
        let credentials = Credentials::from_htpasswd(text);
        assert_eq!(credentials.users.len(), 2);
        assert_eq!(credentials.hash_of(b"bob"), Some(&b"{SHA}Ys23Ag/5IOWqZCw9QGaVDdHwH00="[..]));
        assert!(credentials.check(b"bob", b"bar"));
        assert!(!credentials.check(b"bob", b"baz") && !credentials.check(b"ghost", b"bar"));
        // A hash of an unknown kind is nobody's password, not even in plain text.
        assert!(!credentials.check(b"eve", b"secret"));
        assert_eq!(credentials.n_unusable(), 1);
    }

    #[test]
    fn a_map_has_a_key_for_each_user() {
        let credentials =
            Credentials::from_pairs([("bob", &b"{SHA}Ys23Ag/5IOWqZCw9QGaVDdHwH00=\n"[..]), ("a:b", b"x")]);
        assert_eq!(credentials.users.len(), 1);
        assert!(credentials.check(b"bob", b"bar"));
    }

    #[test]
    fn nothing_shows_a_name_or_a_hash() {
        let credentials = Credentials::from_htpasswd(b"bob:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00");
        for text in [format!("{credentials:?}"), serde_json::to_string(&credentials).unwrap()] {
            assert!(!text.contains("bob") && !text.contains("apr1") && !text.contains("eIMz"), "{text}");
        }
    }
}
