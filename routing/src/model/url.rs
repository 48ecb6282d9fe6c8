//! Addresses of servers that rules name beside their backends.

use std::fmt;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use super::backend::BackendRef;
use crate::request::Scheme;
use crate::template::Template;

/// Where a request of the gateway's own goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// Whether it is sent in plain text.
    pub scheme: Scheme,
    /// Who gets it.
    pub server: UrlServer,
    /// The port.
    pub port: u16,
    /// The path and the query.
    pub target: Template,
}

/// The server of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlServer {
    /// An address.
    Address(IpAddr),
    /// A name that is looked up.
    Name(Box<str>),
    /// The endpoints of a backend; while there are none, what its name leads to.
    Backend {
        /// The backend.
        backend: BackendRef,
        /// Its name.
        name: Box<str>,
    },
    /// A name that the host of the request is in.
    OfHost(Template),
}

impl UrlServer {
    /// The backend, where it is one.
    #[must_use]
    pub fn backend(&self) -> Option<&BackendRef> {
        match self {
            Self::Backend { backend, name: _ } => Some(backend),
            Self::Address(_) | Self::Name(_) | Self::OfHost(_) => None,
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, server, port, target } = self;
        write!(f, "{}://{server}:{port}{target}", scheme.as_str())
    }
}

impl fmt::Display for UrlServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) | Self::Backend { backend: _, name } => f.write_str(name),
            Self::OfHost(name) => name.fmt(f),
        }
    }
}

impl Serialize for ServerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
