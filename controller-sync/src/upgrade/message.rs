//! What the two processes of a hand-over, and `gateway upgrade`, say to each other.
//!
//! A message is one byte for its kind, four for the length of its payload, and the payload. The kinds and the payload of
//! [`Hello`] never change their meaning, so that any two versions can at least tell each other that they do not match.
//! What a message says is not judged here.

use std::fmt;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The version of the protocol: another one is refused.
pub const PROTOCOL: u16 = 1;
/// The version of what state sections say about resources. Between others than equal ones, those are not sent.
pub const MODEL: u32 = 1;
/// Longest payload of a message that is no state section.
pub const MAX_PAYLOAD: usize = 64 << 10;
/// Longest payload of a state section.
pub const MAX_SECTION: usize = 32 << 20;
/// Longest name of a state section.
const MAX_NAME: usize = 64;
/// Longest reason that is sent; more of it is cut.
const MAX_REASON: usize = 1024;
/// Bytes in front of a payload.
pub const HEAD: usize = 5;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Successor: who it is. The first message of a hand-over.
    Hello(Hello),
    /// Incumbent: how many listening sockets will come.
    Sockets(u32),
    /// Incumbent: so many of them come with this message, as descriptors.
    Descriptors(u32),
    /// Incumbent: a part of the state. Successors skip what they do not know.
    Section(Section),
    /// Incumbent: that was everything.
    Handed,
    /// Successor: it has everything, has compiled, and answers requests.
    Prepared(Prepared),
    /// Incumbent: accept connections.
    Proceed,
    /// Successor: it accepts connections.
    Ready,
    /// Incumbent: prove once more that requests are answered.
    Confirm,
    /// Successor: they are.
    Confirmed,
    /// Incumbent: it leaves; the successor is the gateway from now on.
    Commit,
    /// Either one: there will be no hand-over, and why.
    Abort(String),
    /// Operator: start the new process. The first message of `gateway upgrade`.
    Upgrade(Upgrade),
    /// Incumbent: what came of it.
    Outcome(Outcome),
}

/// Who a successor is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The version of the protocol that it speaks.
    pub protocol: u16,
    /// The version of the resources that it reads.
    pub model: u32,
    /// The version of its program, for people.
    pub version: String,
}

/// A part of the state, for whoever knows its name. It may hold keys: it is never printed, and wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Section {
    /// What it holds.
    pub name: String,
    /// In a form that the name stands for.
    pub bytes: Zeroizing<Vec<u8>>,
}

/// What a successor is prepared for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// The hash of its model.
    pub digest: u64,
}

/// What an operator wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// The program of the new process; that of the running one by default.
    pub binary: Option<PathBuf>,
}

/// What came of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Whether another process serves now.
    pub is_handed_over: bool,
    /// The same for people, with the reason.
    pub text: String,
}

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Nobody of this protocol sends such a thing.
    #[error("a message of unknown kind {0}")]
    Kind(u8),
    /// More than anything needs.
    #[error("a message of kind {kind} with {length} bytes")]
    Oversized {
        /// Its kind.
        kind: u8,
        /// What it claims.
        length: usize,
    },
    /// Its payload says something else than its kind does.
    #[error("the payload of a message of kind {kind}: {error}")]
    Payload {
        /// Its kind.
        kind: u8,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// A section begins with the length of its name and the name.
    #[error("a state section without a name")]
    Name,
}

const HELLO: u8 = 1;
const SOCKETS: u8 = 2;
const DESCRIPTORS: u8 = 3;
const SECTION: u8 = 4;
const HANDED: u8 = 5;
const PREPARED: u8 = 6;
const PROCEED: u8 = 7;
const READY: u8 = 8;
const CONFIRM: u8 = 9;
const CONFIRMED: u8 = 10;
const COMMIT: u8 = 11;
const ABORT: u8 = 12;
const UPGRADE: u8 = 13;
const OUTCOME: u8 = 14;

impl Message {
    /// The bytes of the message. Those of a section may hold keys: whoever has sent them wipes them.
    ///
    /// # Errors
    ///
    /// When it is longer than the other side would read.
    pub fn encode(&self) -> Result<Vec<u8>, MessageError> {
        let json = |kind: u8, value: serde_json::Result<Vec<u8>>| match value {
            Ok(payload) => Ok((kind, payload.into())),
            Err(error) => Err(MessageError::Payload { kind, error }),
        };
        let (kind, payload): (u8, Zeroizing<Vec<u8>>) = match self {
            Self::Hello(hello) => json(HELLO, serde_json::to_vec(hello))?,
            Self::Sockets(count) => json(SOCKETS, serde_json::to_vec(count))?,
            Self::Descriptors(count) => json(DESCRIPTORS, serde_json::to_vec(count))?,
            Self::Section(section) => (SECTION, section.encode()?),
            Self::Handed => (HANDED, Zeroizing::default()),
            Self::Prepared(prepared) => json(PREPARED, serde_json::to_vec(prepared))?,
            Self::Proceed => (PROCEED, Zeroizing::default()),
            Self::Ready => (READY, Zeroizing::default()),
            Self::Confirm => (CONFIRM, Zeroizing::default()),
            Self::Confirmed => (CONFIRMED, Zeroizing::default()),
            Self::Commit => (COMMIT, Zeroizing::default()),
            Self::Abort(reason) => json(ABORT, serde_json::to_vec(cut(reason)))?,
            Self::Upgrade(upgrade) => json(UPGRADE, serde_json::to_vec(upgrade))?,
            Self::Outcome(outcome) => json(OUTCOME, serde_json::to_vec(outcome))?,
        };
        let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= longest(kind));
        let Some(length) = length else { return Err(MessageError::Oversized { kind, length: payload.len() }) };
        let mut bytes = Vec::with_capacity(HEAD + payload.len());
        bytes.push(kind);
        bytes.extend(length.to_be_bytes());
        bytes.extend_from_slice(&payload);
        Ok(bytes)
    }

    /// The first message in `bytes` and how many of them it takes; `None` while it is not complete.
    ///
    /// # Errors
    ///
    /// When there is no reading of the bytes. An oversized message is refused by its head.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, MessageError> {
        let Some((&[kind, a, b, c, d], rest)) = bytes.split_first_chunk::<HEAD>() else { return Ok(None) };
        if !(HELLO..=OUTCOME).contains(&kind) {
            return Err(MessageError::Kind(kind));
        }
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > longest(kind) {
            return Err(MessageError::Oversized { kind, length });
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let message = match kind {
            HELLO => Self::Hello(parse(kind, payload)?),
            SOCKETS => Self::Sockets(parse(kind, payload)?),
            DESCRIPTORS => Self::Descriptors(parse(kind, payload)?),
            SECTION => Self::Section(Section::decode(payload)?),
            HANDED => Self::Handed,
            PREPARED => Self::Prepared(parse(kind, payload)?),
            PROCEED => Self::Proceed,
            READY => Self::Ready,
            CONFIRM => Self::Confirm,
            CONFIRMED => Self::Confirmed,
            COMMIT => Self::Commit,
            ABORT => Self::Abort(cut(&parse::<String>(kind, payload)?).to_owned()),
            UPGRADE => Self::Upgrade(parse(kind, payload)?),
            OUTCOME => Self::Outcome(parse(kind, payload)?),
            _ => return Err(MessageError::Kind(kind)),
        };
        Ok(Some((message, HEAD + length)))
    }
}

impl Section {
    /// Whether it is short enough to be sent.
    #[must_use]
    pub fn fits(&self) -> bool {
        1 + self.name.len() + self.bytes.len() <= MAX_SECTION
    }

    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, MessageError> {
        let name = self.name.as_bytes();
        let length = u8::try_from(name.len()).ok().filter(|_| (1..=MAX_NAME).contains(&name.len()));
        // All at once: what outgrows its place leaves a copy behind.
        let mut payload = Zeroizing::new(Vec::with_capacity(1 + name.len() + self.bytes.len()));
        payload.push(length.ok_or(MessageError::Name)?);
        payload.extend_from_slice(name);
        payload.extend_from_slice(&self.bytes);
        Ok(payload)
    }

    fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let (length, rest) = payload.split_first().ok_or(MessageError::Name)?;
        let (name, bytes) = rest.split_at_checked(usize::from(*length)).ok_or(MessageError::Name)?;
        let name = std::str::from_utf8(name).ok().filter(|name| (1..=MAX_NAME).contains(&name.len()));
        Ok(Self { name: name.ok_or(MessageError::Name)?.to_owned(), bytes: bytes.to_vec().into() })
    }
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Section({}, {} bytes)", self.name, self.bytes.len())
    }
}

fn longest(kind: u8) -> usize {
    if kind == SECTION { MAX_SECTION } else { MAX_PAYLOAD }
}

fn parse<T: DeserializeOwned>(kind: u8, payload: &[u8]) -> Result<T, MessageError> {
    serde_json::from_slice(payload).map_err(|error| MessageError::Payload { kind, error })
}

/// As much of a reason as is sent.
fn cut(reason: &str) -> &str {
    let end = (0..=MAX_REASON.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
    reason.get(..end.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<Message> {
        vec![
            Message::Hello(Hello { protocol: PROTOCOL, model: MODEL, version: "1.2.3".to_owned() }),
            Message::Sockets(1000),
            Message::Descriptors(64),
            Message::Section(Section { name: "tickets".to_owned(), bytes: vec![0, 255, 1].into() }),
            Message::Handed,
            Message::Prepared(Prepared { digest: u64::MAX }),
            Message::Proceed,
            Message::Ready,
            Message::Confirm,
            Message::Confirmed,
            Message::Commit,
            Message::Abort("bind [::]:443: in use".to_owned()),
            Message::Upgrade(Upgrade { binary: Some("/usr/bin/gateway".into()) }),
            Message::Outcome(Outcome { is_handed_over: true, text: "handed over".to_owned() }),
        ]
    }

    #[test]
    fn every_message_is_read_as_it_was_written_and_not_before_it_is_complete() {
        for message in one_of_each() {
            let mut bytes = message.encode().unwrap();
            for end in 0..bytes.len() {
                assert!(Message::decode(&bytes[..end]).unwrap().is_none(), "{message:?} at {end}");
            }
            let length = bytes.len();
            bytes.push(7);
            assert_eq!(Message::decode(&bytes).unwrap(), Some((message, length)), "what follows is not touched");
        }
    }

    /// These bytes are a promise: processes of other versions send them.
    #[test]
    fn the_first_message_of_a_hand_over_keeps_its_form_for_ever() {
        let hello = b"\x01\0\0\0\x2a{\"protocol\":7,\"model\":9,\"version\":\"2.0.0\"}";
        let (message, _) = Message::decode(hello).unwrap().unwrap();
        assert_eq!(message, Message::Hello(Hello { protocol: 7, model: 9, version: "2.0.0".to_owned() }));
        assert_eq!(message.encode().unwrap(), hello);
        let with_more = br#"{"protocol":2,"model":1,"version":"3","colour":"blue"}"#;
        let bytes = [&[1, 0, 0, 0, u8::try_from(with_more.len()).unwrap()], &with_more[..]].concat();
        assert!(Message::decode(&bytes).is_ok(), "a later version may say more");
        assert_eq!(Message::Abort("no".to_owned()).encode().unwrap(), b"\x0c\0\0\0\x04\"no\"");
    }

    #[test]
    fn an_oversized_message_is_refused_by_its_head() {
        for (head, is_oversized) in [
            (*b"\x01\0\x01\0\0", false),
            (*b"\x01\0\x01\0\x01", true),
            (*b"\x01\xff\xff\xff\xff", true),
            (*b"\x04\x02\0\0\0", false),
            (*b"\x04\x02\0\0\x01", true),
        ] {
            let decoded = Message::decode(&head);
            assert_eq!(matches!(decoded, Err(MessageError::Oversized { .. })), is_oversized, "{head:?}: {decoded:?}");
        }
        for (length, fits) in [(MAX_SECTION - 2, true), (MAX_SECTION - 1, false)] {
            let section = Section { name: "x".to_owned(), bytes: vec![0; length].into() };
            assert_eq!(section.fits(), fits);
            let encoded = Message::Section(section).encode();
            assert_eq!(!matches!(encoded, Err(MessageError::Oversized { .. })), fits);
        }
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"\0\0\0\0\0",
            b"\x0f\0\0\0\0",
            b"\x01\0\0\0\x02{}",
            b"\x01\0\0\0\x01\xff",
            b"\x02\0\0\0\x02-1",
            b"\x04\0\0\0\0",
            b"\x04\0\0\0\x01\0",
            b"\x04\0\0\0\x02\x05a",
            b"\x04\0\0\0\x02\x01\xff",
        ] {
            assert!(Message::decode(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let bytes = Message::Abort("é".repeat(1000)).encode().unwrap();
        let (message, _) = Message::decode(&bytes).unwrap().unwrap();
        assert_eq!(message, Message::Abort("é".repeat(512)));
    }
}
