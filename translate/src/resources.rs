//! The resources that translation reads, stripped to what it reads and parsed into types: what is stored is proof.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use routing::model::{HealthCheck, PortRef, Transport};
use routing::{Authority, AuthorityError, Certificate, Credentials, HostPattern, WildcardDepth};
use serde::Serialize;

pub use crate::ingress::Ingress;

/// The kinds that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[expect(missing_docs, reason = "the names are Kubernetes'")]
pub enum Kind {
    ConfigMap,
    EndpointSlice,
    Endpoints,
    Ingress,
    IngressClass,
    Namespace,
    Secret,
    Service,
}

/// The identity of an object among those of its API server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for kinds without.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
}

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespacedName {
    /// The namespace; empty for kinds without.
    pub namespace: Box<str>,
    /// The name.
    pub name: Box<str>,
}

/// The part of the metadata that is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The namespace; empty for kinds without.
    pub namespace: Box<str>,
    /// The name.
    pub name: Box<str>,
    /// The UID; empty for an object from a file.
    pub uid: Box<str>,
    /// Creation time in seconds since 1970; `None` for an object from a file, which counts as oldest.
    pub created: Option<i64>,
}

/// Any of the resources.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are Kubernetes'")]
pub enum Resource {
    ConfigMap(ConfigMap),
    EndpointSlice(EndpointSlice),
    Endpoints(EndpointSlice),
    Ingress(Ingress),
    IngressClass(IngressClass),
    Namespace(Namespace),
    Secret(Secret),
    Service(Service),
}

/// `v1` ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMap {
    /// Metadata.
    pub meta: Meta,
    /// Its keys.
    pub data: BTreeMap<String, String>,
}

/// `networking.k8s.io/v1` IngressClass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressClass {
    /// Metadata.
    pub meta: Meta,
    /// `spec.controller`.
    pub controller: Box<str>,
    /// `ingressclass.kubernetes.io/is-default-class`.
    pub is_default: bool,
}

/// `v1` Namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Metadata.
    pub meta: Meta,
    /// Its labels, for selectors.
    pub labels: BTreeMap<String, String>,
}

/// `v1` Secret. Its type does not matter: only the keys count.
#[derive(Clone, PartialEq)]
pub struct Secret {
    /// Metadata.
    pub meta: Meta,
    /// `tls.crt` with `tls.key`; `None` when there is neither. A pair that does not fit refuses the whole object.
    pub certificate: Option<Arc<Certificate>>,
    /// `ca.crt`, with `ca.crl` if it is there; `None` without that key.
    pub authority: Option<Result<Arc<Authority>, AuthorityError>>,
    /// The users in its key `auth`; `None` without that key.
    pub users_file: Option<Arc<Credentials>>,
    /// The users that its keys would be, each with a hash as its value.
    pub users_map: Arc<Credentials>,
}

/// `v1` Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Metadata.
    pub meta: Meta,
    /// Its ports.
    pub ports: Box<[ServicePort]>,
    /// `spec.clusterIP`; `None` for a headless Service, and for one that no cluster has seen.
    pub cluster_ip: Option<IpAddr>,
    /// The annotation `penstock.dev/health-check`.
    pub health_check: Option<Arc<HealthCheck>>,
    /// What type `ExternalName` stands for.
    pub external_name: Option<SliceAddress>,
    /// `spec.externalIPs`.
    pub external_ips: Box<[IpAddr]>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty for an only port without one.
    pub name: Box<str>,
    /// Its number.
    pub port: u16,
    /// The port of the pods; `None` when it is the same number.
    pub target: Option<PortRef>,
    /// `appProtocol`.
    pub app_protocol: Option<Box<str>>,
    /// The transport.
    pub transport: Transport,
    /// The port of every node that leads to it (`nodePort`).
    pub node_port: Option<u16>,
}

/// `discovery.k8s.io/v1` EndpointSlice, or the older `v1` Endpoints in the same form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Metadata.
    pub meta: Meta,
    /// The Service that it belongs to.
    pub service: Box<str>,
    /// Addresses and ports that go together. A slice has one, Endpoints one for each subset.
    pub subsets: Box<[Subset]>,
}

/// Addresses that all have these ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset {
    /// The ports.
    pub ports: Box<[EndpointPort]>,
    /// The addresses.
    pub endpoints: Box<[SliceEndpoint]>,
}

/// A port of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    /// The name of the Service port that it stands for; empty for the only one.
    pub name: Box<str>,
    /// Its number.
    pub port: u16,
    /// The transport.
    pub transport: Transport,
}

/// An endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its address, or a name in a slice of address type `FQDN`.
    pub address: SliceAddress,
    /// Whether it takes requests.
    pub condition: routing::model::EndpointCondition,
    /// The UID of its pod; empty where none is named.
    pub pod_uid: Box<str>,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SliceAddress {
    /// An address.
    Ip(IpAddr),
    /// A DNS name.
    Name(Box<str>),
}

// === impls ===

impl Kind {
    /// The name of the kind.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::EndpointSlice => "EndpointSlice",
            Self::Endpoints => "Endpoints",
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::Namespace => "Namespace",
            Self::Secret => "Secret",
            Self::Service => "Service",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name } = self;
        if namespace.is_empty() { write!(f, "{kind} {name}") } else { write!(f, "{kind} {namespace}/{name}") }
    }
}

impl ObjectKey {
    /// Namespace and name.
    #[must_use]
    pub fn namespaced_name(&self) -> NamespacedName {
        NamespacedName { namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

impl NamespacedName {
    /// A key of two names.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The object of this name and `kind`.
    #[must_use]
    pub fn of_kind(&self, kind: Kind) -> ObjectKey {
        ObjectKey { kind, namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Meta {
    /// Reads the metadata of an object. An object of a namespaced kind without a namespace is in `default`, as kubectl
    /// has it.
    #[must_use]
    pub fn new(meta: &ObjectMeta, is_namespaced: bool) -> Self {
        let namespace = meta.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        Self {
            namespace: if is_namespaced { namespace.unwrap_or("default") } else { "" }.into(),
            name: meta.name.as_deref().unwrap_or_default().into(),
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            created: meta.creation_timestamp.as_ref().map(|time| time.0.as_second()),
        }
    }

    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> NamespacedName {
        NamespacedName { namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

impl Resource {
    /// The identity of the object.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        let (kind, meta) = self.kind_and_meta();
        meta.key().of_kind(kind)
    }

    /// The UID of the object; empty for an object from a file.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.kind_and_meta().1.uid
    }

    fn kind_and_meta(&self) -> (Kind, &Meta) {
        match self {
            Self::ConfigMap(object) => (Kind::ConfigMap, &object.meta),
            Self::EndpointSlice(object) => (Kind::EndpointSlice, &object.meta),
            Self::Endpoints(object) => (Kind::Endpoints, &object.meta),
            Self::Ingress(object) => (Kind::Ingress, &object.meta),
            Self::IngressClass(object) => (Kind::IngressClass, &object.meta),
            Self::Namespace(object) => (Kind::Namespace, &object.meta),
            Self::Secret(object) => (Kind::Secret, &object.meta),
            Self::Service(object) => (Kind::Service, &object.meta),
        }
    }
}

impl SliceAddress {
    /// Reads an address, or a DNS name without case and trailing dot. `None` for what is neither, such as `127.1`: a
    /// name that ends in a number is an address in the eyes of some resolvers (WHATWG URL, "ends in a number").
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(ip) = text.parse() {
            return Some(Self::Ip(ip));
        }
        let HostPattern::Exact(name) = HostPattern::parse(text, WildcardDepth::One).ok()? else { return None };
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
        if is_number { None } else { Some(Self::Name(name)) }
    }
}

impl fmt::Debug for Secret {
    /// Never shows what is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("meta", &self.meta).finish_non_exhaustive()
    }
}
