//! Listeners, and the hosts on them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use super::client_tls::ClientTls;
use super::rule::{CertificateRef, Origin, Route, WeightedBackend};
use crate::host::HostPattern;

/// The identity of a listener: one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ListenerKey {
    /// The address to bind.
    pub address: SocketAddr,
    /// The transport below the protocol.
    pub transport: Transport,
}

/// The transport of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// A stream socket.
    Tcp,
    /// A datagram socket.
    Udp,
}

/// What a listener does with what it accepts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listener {
    /// The protocol.
    pub protocol: Protocol,
}

/// The protocol of a listener (Gateway API `ProtocolType`).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// HTTP in plain text.
    Http,
    /// TLS. Each host says whether it is terminated here or passed through.
    Tls,
    /// A stream of bytes.
    Tcp(StreamRoute),
    /// Datagrams.
    Udp(StreamRoute),
}

/// Where the bytes of a connection go that is not HTTP.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StreamRoute {
    /// The object that asked for it.
    pub origin: Origin,
    /// Where the bytes go.
    pub backends: Vec<WeightedBackend>,
    /// Whether every connection begins with a PROXY header.
    pub expects_proxy_header: bool,
    /// Whether endpoints are told of the client by a PROXY header.
    pub sends_proxy_header: bool,
}

/// A host of a listener.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostKey {
    /// The listener.
    pub listener: ListenerKey,
    /// The host.
    pub host: HostPattern,
}

/// What a host does.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Host {
    /// TLS of this host; `None` where nobody asked for it, which on a TLS listener means the default certificate.
    pub tls: Option<HostTls>,
    /// What its clients must show; `None` for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_tls: Option<Arc<ClientTls>>,
    /// Its routes, in no particular order: [`precedence`](crate::Publisher) is decided when they are compiled.
    pub routes: Box<[Route]>,
}

/// What happens to a TLS connection for a host.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HostTls {
    /// The gateway presents the first certificate of the list that is there and covers the name that the client asked
    /// for, else the default one.
    Terminate(Vec<CertificateRef>),
    /// The bytes go on as they are.
    Passthrough(StreamRoute),
}

impl ListenerKey {
    /// A stream listener.
    #[must_use]
    pub fn tcp(address: SocketAddr) -> Self {
        Self { address, transport: Transport::Tcp }
    }

    /// A datagram listener.
    #[must_use]
    pub fn udp(address: SocketAddr) -> Self {
        Self { address, transport: Transport::Udp }
    }
}

impl Listener {
    /// Where its connections go when they are not HTTP.
    #[must_use]
    pub fn stream(&self) -> Option<&StreamRoute> {
        match &self.protocol {
            Protocol::Tcp(route) | Protocol::Udp(route) => Some(route),
            Protocol::Http | Protocol::Tls => None,
        }
    }
}

impl fmt::Display for ListenerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            Transport::Tcp => write!(f, "tcp/{}", self.address),
            Transport::Udp => write!(f, "udp/{}", self.address),
        }
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.listener, self.host)
    }
}
