//! Ingress: what is kept of one, and how it is read.

pub mod annotations;
mod host;
mod parse;
pub mod version;

use std::cmp::Ordering;
use std::sync::Arc;

use routing::model::PortRef;
use routing::{HostPattern, PathMatch, RegexPattern};

pub(crate) use host::{Neighbours, translate_host};

use self::annotations::Annotations;
use crate::resources::Meta;

/// `networking.k8s.io/v1` Ingress.
#[derive(Clone, Debug, PartialEq)]
pub struct Ingress {
    /// Metadata.
    pub meta: Meta,
    /// The legacy annotation `kubernetes.io/ingress.class`.
    pub class_annotation: Option<Box<str>>,
    /// `spec.ingressClassName`.
    pub class_name: Option<Box<str>>,
    /// `spec.defaultBackend`.
    pub default_backend: Option<IngressBackend>,
    /// `spec.rules`.
    pub rules: Box<[IngressRule]>,
    /// `spec.tls`.
    pub tls: Box<[IngressTls]>,
    /// The annotations that have an effect.
    pub annotations: Arc<Annotations>,
}

/// A rule: a host and its paths.
#[derive(Clone, Debug, PartialEq)]
pub struct IngressRule {
    /// The host.
    pub host: HostPattern,
    /// Its paths; a rule without any sends everything to the default backend.
    pub paths: Box<[IngressPath]>,
}

/// A path of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct IngressPath {
    /// The path as its author wrote it.
    pub path: Box<str>,
    /// What it means.
    pub form: PathForm,
    /// `pathType`.
    pub kind: PathKind,
    /// Where requests go; `None` for what is not a Service.
    pub backend: Option<IngressBackend>,
}

/// What a path means.
#[derive(Clone, Debug, PartialEq)]
pub enum PathForm {
    /// A literal, as long as no Ingress makes regular expressions of all paths of its host.
    Literal(PathMatch),
    /// A regular expression, by the annotations of its own Ingress.
    Regex(RegexPattern),
}

/// `pathType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// `Exact`.
    Exact,
    /// `Prefix`.
    Prefix,
    /// `ImplementationSpecific`, and none: ingress-nginx reads both as `Prefix`.
    ImplementationSpecific,
}

/// A Service port as a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressBackend {
    /// The Service.
    pub service: Box<str>,
    /// Its port.
    pub port: PortRef,
}

/// An entry of `spec.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressTls {
    /// The hosts; empty for all that the certificate covers.
    pub hosts: Box<[HostPattern]>,
    /// The Secret; `None` for the default certificate.
    pub secret: Option<Box<str>>,
}

impl Ingress {
    /// Which of two comes first in ingress-nginx's order: the older one; of equal age, the one whose `namespace/name`
    /// is the greater text.
    pub(crate) fn precedence(&self, other: &Self) -> Ordering {
        fn text(meta: &Meta) -> impl Iterator<Item = u8> {
            meta.namespace.bytes().chain(*b"/").chain(meta.name.bytes())
        }
        self.meta.created.cmp(&other.meta.created).then_with(|| text(&other.meta).cmp(text(&self.meta)))
    }

    /// The hosts that the Ingress speaks of: those of its rules, and the catch-all one for its default backend when it
    /// has no rules.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &HostPattern> {
        let any = (self.rules.is_empty() && self.default_backend.is_some()).then_some(&HostPattern::Any);
        self.rules.iter().map(|rule| &rule.host).chain(any)
    }
}
