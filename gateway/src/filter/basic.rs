//! Basic authentication (RFC 7617): who a request says it is, and whether that is so.
//!
//! Hashes are made to be slow, so they are worked off on threads of their own, a few at a time, and what was right once
//! is remembered: by a keyed hash of the stored hash and the password, so that a changed Secret is another question.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use ring::hmac;
use ring::rand::SystemRandom;
use routing::Credentials;
use tokio::sync::Semaphore;

use super::cache::{Cache, CacheKey};
use crate::failure::Failure;

/// Passwords that are remembered, over all realms.
const REMEMBERED: usize = 8192;
/// Requests that wait for a hash at a time. More than these would wait longer than their clients do.
const MAX_WAITING: usize = 256;

/// Checks passwords, and remembers those that were right.
pub(crate) struct PasswordChecker {
    key: hmac::Key,
    right: Cache<()>,
    threads: Semaphore,
    n_waiting: AtomicUsize,
}

/// What a request says of itself.
pub(crate) struct Login {
    /// The user.
    pub user: Box<[u8]>,
    /// The password.
    pub password: Box<[u8]>,
}

/// A request that waits for a hash.
struct Waiting<'a>(&'a AtomicUsize);

// === impl Login ===

impl Login {
    /// Reads the field `Authorization`. `None` for another scheme, and for what is not one login.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(header::AUTHORIZATION).iter();
        let (field, None) = (fields.next()?, fields.next()) else { return None };
        let (scheme, encoded) = field.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = STANDARD.decode(encoded.trim()).ok()?;
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        let (user, password) = (decoded.get(..colon)?, decoded.get(colon + 1..)?);
        Some(Self { user: user.into(), password: password.into() })
    }
}

// === impl PasswordChecker ===

impl PasswordChecker {
    /// A checker that hashes on at most `threads` threads at a time. `None` without a source of randomness.
    pub(crate) fn new(threads: usize) -> Option<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok()?;
        let threads = Semaphore::new(threads.max(1));
        Some(Self { key, right: Cache::new(REMEMBERED), threads, n_waiting: AtomicUsize::new(0) })
    }

    /// Whether the user of a login is one of these and has this password.
    ///
    /// # Errors
    ///
    /// [`Failure::Overloaded`] when too many others wait for theirs.
    pub(crate) async fn check(&self, credentials: &Arc<Credentials>, login: Login) -> Result<bool, Failure> {
        let key = credentials.hash_of(&login.user).map(|hash| self.name_of(hash, &login.password));
        let is_known = || key.is_some_and(|key| self.right.get(&key).is_some());
        if is_known() {
            return Ok(true);
        }
        let _waiting = Waiting::enter(&self.n_waiting).ok_or(Failure::Overloaded)?;
        let Ok(_permit) = self.threads.acquire().await else { return Err(Failure::Internal) };
        // Of many requests with one login, the first has worked for all.
        if is_known() {
            return Ok(true);
        }
        let credentials = Arc::clone(credentials);
        let work = tokio::task::spawn_blocking(move || credentials.check(&login.user, &login.password));
        let is_right = work.await.map_err(|_| Failure::Internal)?;
        if let (true, Some(key)) = (is_right, key) {
            self.right.put(key, ());
        }
        Ok(is_right)
    }

    fn name_of(&self, hash: &[u8], password: &[u8]) -> CacheKey {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&hash.len().to_le_bytes());
        context.update(hash);
        context.update(password);
        let tag = context.sign();
        // HMAC-SHA256 has 32 bytes.
        tag.as_ref().try_into().unwrap_or_default()
    }
}

// === impl Waiting ===

impl<'a> Waiting<'a> {
    fn enter(n_waiting: &'a AtomicUsize) -> Option<Self> {
        let waiting = (n_waiting.fetch_add(1, Ordering::Relaxed), Self(n_waiting));
        (waiting.0 < MAX_WAITING).then_some(waiting.1)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &[u8] = b"bob:{SHA}Ys23Ag/5IOWqZCw9QGaVDdHwH00=";

    fn login(field: &str) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, field.parse().unwrap());
        let Login { user, password } = Login::of(&headers)?;
        Some((String::from_utf8(user.into()).unwrap(), String::from_utf8(password.into()).unwrap()))
    }

    #[test]
    fn a_login_is_a_user_a_colon_and_a_password_in_base64() {
        let aladdin = Some(("Aladdin".to_owned(), "open sesame".to_owned()));
        // RFC 7617 section 2.
        assert_eq!(login("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), aladdin);
        assert_eq!(login("basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), aladdin);
        assert_eq!(login(&format!("Basic {}", STANDARD.encode("a:b:c"))), Some(("a".to_owned(), "b:c".to_owned())));
        for field in ["Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic", "Basic QWxhZGRpbg==", "Basic ?", ""] {
            assert_eq!(login(field), None, "{field}");
        }
        let mut twice = HeaderMap::new();
        for _ in 0..2 {
            twice.append(header::AUTHORIZATION, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".parse().unwrap());
        }
        assert!(Login::of(&twice).is_none());
    }

    #[tokio::test]
    async fn a_password_that_was_right_is_remembered_as_long_as_its_hash_stands() {
        let checker = PasswordChecker::new(1).unwrap();
        let login = |password: &str| Login { user: b"bob"[..].into(), password: password.as_bytes().into() };
        let users = Arc::new(Credentials::from_htpasswd(USERS));
        assert_eq!(checker.check(&users, login("wrong")).await, Ok(false));
        assert_eq!(checker.check(&users, login("bar")).await, Ok(true));
        let remembered = checker.name_of(users.hash_of(b"bob").unwrap(), b"bar");
        assert!(checker.right.get(&remembered).is_some());
        // The same password under another hash is another question.
        let changed = Arc::new(Credentials::from_htpasswd(b"bob:{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE="));
        assert_eq!(checker.check(&changed, login("bar")).await, Ok(false));
        assert_eq!(checker.check(&Arc::new(Credentials::from_htpasswd(b"")), login("bar")).await, Ok(false));
    }

    #[tokio::test]
    async fn who_would_wait_too_long_is_told_at_once() {
        let checker = PasswordChecker::new(1).unwrap();
        checker.n_waiting.store(MAX_WAITING, Ordering::Relaxed);
        let login = || Login { user: b"bob"[..].into(), password: b"bar"[..].into() };
        let users = Arc::new(Credentials::from_htpasswd(USERS));
        assert_eq!(checker.check(&users, login()).await, Err(Failure::Overloaded));
        checker.n_waiting.fetch_sub(1, Ordering::Relaxed);
        assert_eq!(checker.check(&users, login()).await, Ok(true));
    }
}
