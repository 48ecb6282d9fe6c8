//! Guards: what a request must get past before it goes on to a backend.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::external::ExternalAuth;
use crate::networks::Networks;

/// What a request must get past, in nginx's order of phases: first what counts requests, then what asks who is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Guards {
    /// What one client may do at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Arc<Limits>>,
    /// Who gets through.
    pub access: Access,
}

/// What one client may do at a time (nginx `limit_req` without delay, and `limit_conn`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Whose limits these are: rules of one zone count together.
    pub zone: LimitZone,
    /// Requests in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<Rate>,
    /// Requests in a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<Rate>,
    /// Requests under way at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Clients that are not limited.
    #[serde(skip_serializing_if = "Networks::is_empty")]
    pub exempt: Networks,
    /// The status of what comes too fast.
    pub rate_status: u16,
    /// The status of what is too much at a time.
    pub connection_status: u16,
}

/// Whose limits: the object that sets them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct LimitZone {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
}

/// A rate, and how far above it a client may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rate {
    /// Requests in the unit of time.
    pub limit: u32,
    /// Requests above that.
    pub burst: u32,
}

/// Who gets through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Access {
    /// Where clients must be.
    #[serde(skip_serializing_if = "AccessList::is_empty")]
    pub addresses: AccessList,
    /// Who they must be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicAuth>,
    /// Who else is asked about them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<Arc<ExternalAuth>>,
    /// Whether all of this must be fulfilled, or any of it.
    pub satisfy: Satisfy,
}

/// Which client addresses get through (nginx `deny` and `allow`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AccessList {
    /// Who does not.
    #[serde(skip_serializing_if = "Networks::is_empty")]
    pub deny: Networks,
    /// Who does, and with that nobody else; an empty set says nothing.
    #[serde(skip_serializing_if = "Networks::is_empty")]
    pub allow: Networks,
}

/// Basic authentication (RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BasicAuth {
    /// What clients are told that they log in to. It holds no quote, backslash or control character.
    pub realm: Box<str>,
    /// The users. While there are none, nobody gets through.
    pub credentials: CredentialsRef,
}

/// Users by reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialsRef {
    /// The namespace of the Secret.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// How they stand in it.
    pub form: CredentialsForm,
}

/// How users stand in a Secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CredentialsForm {
    /// As an htpasswd file in one key.
    #[default]
    File,
    /// As a key for each user.
    Map,
}

/// How many of the conditions must be fulfilled (nginx `satisfy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Satisfy {
    /// Every one.
    #[default]
    All,
    /// One of them.
    Any,
}

/// What one condition says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is fulfilled.
    Granted,
    /// It does not speak of this request.
    Silent,
    /// It is not fulfilled.
    Refused,
}

// === impls ===

impl Guards {
    /// Whether everybody gets past.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { limits, access: Access { addresses, basic, external, satisfy: _ } } = self;
        limits.is_none() && addresses.is_empty() && basic.is_none() && external.is_none()
    }
}

impl fmt::Display for CredentialsRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, name, form } = self;
        let form = match form {
            CredentialsForm::File => "file",
            CredentialsForm::Map => "map",
        };
        write!(f, "{namespace}/{name} as {form}")
    }
}

impl Serialize for CredentialsRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl AccessList {
    /// What the list says of a client: the rules of `deny` come first, and behind those of `allow` all are denied.
    #[must_use]
    pub fn verdict(&self, client: IpAddr) -> Verdict {
        if self.deny.contain(client) {
            Verdict::Refused
        } else if self.allow.is_empty() {
            Verdict::Silent
        } else if self.allow.contain(client) {
            Verdict::Granted
        } else {
            Verdict::Refused
        }
    }

    /// Whether the list says nothing of anybody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deny.is_empty() && self.allow.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deny_goes_before_allow_and_behind_allow_everybody_is_denied() {
        let set = |texts: &[&str]| {
            let networks: Vec<ipnet::IpNet> = texts.iter().map(|text| text.parse().unwrap()).collect();
            Networks::new(&networks)
        };
        for (deny, allow, client, expected) in [
            (&[][..], &[][..], "10.0.0.1", Verdict::Silent),
            (&[], &["10.0.0.0/8"], "10.0.0.1", Verdict::Granted),
            (&[], &["10.0.0.0/8"], "11.0.0.1", Verdict::Refused),
            (&["10.0.0.0/24"], &["10.0.0.0/8"], "10.0.0.1", Verdict::Refused),
            (&["10.0.0.0/24"], &["10.0.0.0/8"], "10.0.1.1", Verdict::Granted),
            (&["10.0.0.0/24"], &[], "10.0.1.1", Verdict::Silent),
        ] {
            let list = AccessList { deny: set(deny), allow: set(allow) };
            assert_eq!(list.verdict(client.parse().unwrap()), expected, "{deny:?} {allow:?} {client}");
        }
    }
}
