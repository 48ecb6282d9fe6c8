//! Backends and their endpoints.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::health::HealthCheck;

/// A port of a Service as a target, as a route names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct BackendRef {
    /// The namespace of the Service.
    pub namespace: Box<str>,
    /// Its name.
    pub service: Box<str>,
    /// Its port.
    pub port: PortRef,
}

/// Which port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortRef {
    /// By number.
    Number(u16),
    /// By name.
    Name(Box<str>),
    /// The first one.
    First,
    /// One of the ports for datagrams; every other variant speaks of those for streams.
    Udp(Box<Self>),
}

/// The identity of a backend: two Services that had one name after the other are two backends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct BackendKey {
    /// The namespace of the Service.
    pub namespace: Box<str>,
    /// Its name.
    pub service: Box<str>,
    /// Its UID; empty for a Service from a file, and no part of the model's hash for that reason.
    #[serde(skip)]
    pub uid: Box<str>,
    /// The number of its port.
    pub port: u16,
}

/// The identity of an endpoint. What is known about an endpoint (health, load) is kept by this key, and a pooled
/// connection belongs to it: another pod that gets the address later is another endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct EndpointKey {
    /// The backend that it belongs to.
    pub backend: Arc<BackendKey>,
    /// Its address.
    pub address: SocketAddr,
    /// The UID of its pod; empty where none is known.
    pub pod_uid: Box<str>,
}

/// What is known about a backend that a route refers to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BackendModel {
    /// Its identity; `None` when there is no such Service or no such port.
    pub key: Option<Arc<BackendKey>>,
    /// The protocol that the Service itself names (`appProtocol`).
    pub protocol: Option<AppProtocol>,
    /// How its endpoints are asked whether they are well; `None` where nobody asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<Arc<HealthCheck>>,
    /// Its endpoints, sorted.
    pub endpoints: Vec<EndpointModel>,
}

/// The protocol of a Service port (Kubernetes `appProtocol`, KEP-3726).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AppProtocol {
    /// `http`, and names that are not known.
    Http,
    /// `https`.
    Https,
    /// `kubernetes.io/h2c`, `grpc`.
    H2c,
}

/// One address of a backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct EndpointModel {
    /// Where it is.
    pub address: EndpointAddress,
    /// The UID of its pod; empty where none is known.
    #[serde(skip)]
    pub pod_uid: Box<str>,
    /// Whether it takes requests.
    pub condition: EndpointCondition,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum EndpointAddress {
    /// A socket.
    Socket(SocketAddr),
    /// A name that is looked up (Service type `ExternalName`).
    Name {
        /// The DNS name.
        name: Box<str>,
        /// The port.
        port: u16,
    },
}

/// Whether an endpoint takes requests (KEP-1669).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointCondition {
    /// It does.
    Ready,
    /// It is on its way out and still answers: used only when no endpoint is ready.
    Draining,
    /// It does not.
    NotReady,
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => f.write_str(name),
            Self::First => f.write_str("first"),
            Self::Udp(port) => write!(f, "{port}/udp"),
        }
    }
}

impl Serialize for PortRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for BackendRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.service, self.port)
    }
}
