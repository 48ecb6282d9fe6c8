//! The keys of TLS session tickets: they rotate, are wiped when nobody can need them any more, and travel in a hand-over,
//! so that clients resume their sessions with the next process.
//!
//! All listeners share the keys, but a ticket opens on its own listener only.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use routing::model::ListenerKey;
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

/// For how long a key makes tickets. It opens them for as long again, so that a ticket is good for this long at least.
const ROTATION: Duration = Duration::from_secs(6 * 60 * 60);
/// Bytes of the name of a key, which a ticket begins with.
const NAME: usize = 16;
/// Bytes of a key.
const SECRET: usize = 32;
/// Bytes of a key in a hand-over: its name, itself, and its age in seconds.
const EXPORTED: usize = NAME + SECRET + 8;
/// Longest ticket that is looked at.
const MAX_TICKET: usize = 16 << 10;

/// The keys of the process.
pub struct TicketKeys {
    random: SystemRandom,
    keys: ArcSwap<Keys>,
}

/// The key that makes tickets, and the one before it.
#[derive(Clone)]
struct Keys {
    current: Key,
    previous: Option<Key>,
}

#[derive(Clone)]
struct Key {
    name: [u8; NAME],
    secret: Zeroizing<[u8; SECRET]>,
    made: Instant,
}

/// Makes and opens the tickets of one listener.
pub(crate) struct ListenerTickets {
    keys: Arc<TicketKeys>,
    /// Part of what a ticket proves.
    listener: Box<[u8]>,
}

impl TicketKeys {
    /// A first key; `None` when the operating system has no randomness.
    #[must_use]
    pub(crate) fn new() -> Option<Self> {
        let random = SystemRandom::new();
        let current = Key::generate(&random, Instant::now())?;
        Some(Self { random, keys: ArcSwap::from_pointee(Keys { current, previous: None }) })
    }

    /// The keys for another process.
    #[must_use]
    pub fn export(&self) -> Zeroizing<Vec<u8>> {
        let (keys, now) = (self.keys.load(), Instant::now());
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * EXPORTED));
        for key in keys.previous.iter().chain([&keys.current]) {
            bytes.extend(key.name);
            bytes.extend(*key.secret);
            bytes.extend(now.saturating_duration_since(key.made).as_secs().to_be_bytes());
        }
        bytes
    }

    /// Goes on with the keys of another process. Returns whether that was understood; if not, nothing changes.
    pub fn import(&self, bytes: &[u8]) -> bool {
        let now = Instant::now();
        let (keys, []) = bytes.as_chunks::<EXPORTED>() else { return false };
        let keys: Option<Vec<Key>> = keys.iter().map(|bytes| Key::import(bytes, now)).collect();
        let Some(mut keys) = keys.filter(|keys| (1..=2).contains(&keys.len())) else { return false };
        let Some(current) = keys.pop() else { return false };
        self.keys.store(Arc::new(Keys { current, previous: keys.pop() }));
        true
    }

    /// The key for new tickets: a new one when its time has come.
    fn current(&self, now: Instant) -> Option<Key> {
        let keys = self.keys.load();
        if keys.current.age(now) < ROTATION {
            return Some(keys.current.clone());
        }
        let previous = Some(keys.current.clone()).filter(|key| key.opens(now));
        let rotated = Arc::new(Keys { current: Key::generate(&self.random, now)?, previous });
        // Of two handshakes that come here at once, one rotates.
        self.keys.compare_and_swap(&*keys, rotated);
        Some(self.keys.load().current.clone())
    }

    fn named(&self, name: &[u8], now: Instant) -> Option<Key> {
        let keys = self.keys.load();
        let found = keys.previous.iter().chain([&keys.current]).find(|key| key.name == name);
        found.filter(|key| key.opens(now)).cloned()
    }

    fn seal(&self, plain: &[u8], listener: &[u8], now: Instant) -> Option<Vec<u8>> {
        let key = self.current(now)?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut sealed = Zeroizing::new(plain.to_vec());
        key.cipher()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(listener), &mut *sealed)
            .ok()?;
        Some([&key.name[..], &nonce, &sealed].concat())
    }

    fn open(&self, ticket: &[u8], listener: &[u8], now: Instant) -> Option<Vec<u8>> {
        if ticket.len() > MAX_TICKET {
            return None;
        }
        let (name, rest) = ticket.split_at_checked(NAME)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let cipher = self.named(name, now)?.cipher()?;
        Some(cipher.open_in_place(nonce, Aad::from(listener), &mut sealed).ok()?.to_vec())
    }
}

impl Key {
    fn generate(random: &SystemRandom, made: Instant) -> Option<Self> {
        let mut key = Self { name: [0; NAME], secret: Zeroizing::new([0; SECRET]), made };
        random.fill(&mut key.name).ok()?;
        random.fill(&mut *key.secret).ok()?;
        Some(key)
    }

    fn import(bytes: &[u8; EXPORTED], now: Instant) -> Option<Self> {
        let (name, rest) = bytes.split_first_chunk::<NAME>()?;
        let (secret, age) = rest.split_first_chunk::<SECRET>()?;
        let age = Duration::from_secs(u64::from_be_bytes(age.try_into().ok()?));
        Some(Self { name: *name, secret: Zeroizing::new(*secret), made: now.checked_sub(age)? })
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.made)
    }

    fn opens(&self, now: Instant) -> bool {
        self.age(now) < 2 * ROTATION
    }

    /// Made for each ticket, so that no copy outlives the key.
    fn cipher(&self) -> Option<LessSafeKey> {
        Some(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &*self.secret).ok()?))
    }
}

impl ListenerTickets {
    /// Tickets of a listener.
    pub(crate) fn new(keys: Arc<TicketKeys>, listener: ListenerKey) -> Self {
        Self { keys, listener: listener.to_string().into_bytes().into() }
    }
}

impl ProducesTickets for ListenerTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(ROTATION.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.seal(plain, &self.listener, Instant::now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.keys.open(cipher, &self.listener, Instant::now())
    }
}

impl fmt::Debug for ListenerTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ListenerTickets")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENER: &[u8] = b"tcp/0.0.0.0:443";

    #[test]
    fn a_ticket_opens_on_its_own_listener_only() {
        let (keys, now) = (TicketKeys::new().unwrap(), Instant::now());
        let ticket = keys.seal(b"session", LISTENER, now).unwrap();
        assert_eq!(keys.open(&ticket, LISTENER, now).unwrap(), b"session");
        assert_eq!(keys.open(&ticket, b"tcp/0.0.0.0:8443", now), None);
        assert_eq!(TicketKeys::new().unwrap().open(&ticket, LISTENER, now), None, "other keys");
        assert!(!ticket.windows(7).any(|window| window == b"session"));
        assert_ne!(keys.seal(b"session", LISTENER, now).unwrap(), ticket, "never twice the same");
    }

    #[test]
    fn a_ticket_that_was_touched_is_none() {
        let (keys, now) = (TicketKeys::new().unwrap(), Instant::now());
        let ticket = keys.seal(b"session", LISTENER, now).unwrap();
        for at in 0..ticket.len() {
            let mut touched = ticket.clone();
            touched[at] ^= 1;
            assert_eq!(keys.open(&touched, LISTENER, now), None, "byte {at}");
            assert_eq!(keys.open(&ticket[..at], LISTENER, now), None, "cut at {at}");
        }
        assert_eq!(keys.open(&vec![0; MAX_TICKET + 1], LISTENER, now), None);
    }

    #[test]
    fn a_ticket_is_good_for_its_lifetime_and_its_key_is_then_gone() {
        let (keys, begin) = (TicketKeys::new().unwrap(), Instant::now());
        let last = begin + ROTATION - Duration::from_secs(1);
        let ticket = keys.seal(b"session", LISTENER, last).unwrap();
        let first_name = ticket[..NAME].to_vec();
        let next = keys.seal(b"session", LISTENER, begin + ROTATION + Duration::from_secs(1)).unwrap();
        assert_ne!(next[..NAME], first_name, "another key makes tickets");
        let in_time = last + ROTATION - Duration::from_secs(1);
        assert_eq!(keys.open(&ticket, LISTENER, in_time).unwrap(), b"session");
        assert_eq!(keys.open(&ticket, LISTENER, in_time + Duration::from_secs(60)), None);
        // The next rotation forgets it altogether.
        keys.seal(b"session", LISTENER, begin + 3 * ROTATION).unwrap();
        assert!(!keys.export().windows(NAME).any(|window| window == first_name));
    }

    #[test]
    fn another_process_opens_tickets_and_rotates_when_this_one_would() {
        let (old, new, now) = (TicketKeys::new().unwrap(), TicketKeys::new().unwrap(), Instant::now());
        let early = old.seal(b"early", LISTENER, now).unwrap();
        let late = old.seal(b"late", LISTENER, now + ROTATION + Duration::from_secs(1)).unwrap();
        assert!(new.import(&old.export()));
        assert_eq!(new.open(&early, LISTENER, now).unwrap(), b"early");
        assert_eq!(new.open(&late, LISTENER, now).unwrap(), b"late");
        let next = new.seal(b"next", LISTENER, now).unwrap();
        assert_eq!(next[..NAME], late[..NAME], "it goes on with the same key");
    }

    #[test]
    fn keys_in_another_form_change_nothing() {
        let (keys, now) = (TicketKeys::new().unwrap(), Instant::now());
        let ticket = keys.seal(b"session", LISTENER, now).unwrap();
        let good = TicketKeys::new().unwrap().export();
        let three = [&good[..], &good, &good].concat();
        for bytes in [&b""[..], b"keys", &good[1..], &three] {
            assert!(!keys.import(bytes), "{} bytes", bytes.len());
        }
        assert_eq!(keys.open(&ticket, LISTENER, now).unwrap(), b"session");
    }
}
