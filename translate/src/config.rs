//! What the flags of the process say about translation. Constant for its life.

use routing::model::{ListenerKey, PortRef, Protocol};

/// What the flags of the process say about translation.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listeners that Ingresses are served on.
    pub listeners: Vec<ListenerConfig>,
    /// Prefixes of annotations, the first one wins: `nginx.ingress.kubernetes.io`, `penstock.dev`.
    pub annotation_prefixes: Vec<String>,
    /// Which Ingresses are ours.
    pub class: ClassConfig,
    /// Where the objects come from.
    pub source: Source,
    /// The ConfigMap with the global settings (`--configmap`), as namespace and name.
    pub configmap: Option<(String, String)>,
    /// The ConfigMap with the services of TCP (`--tcp-services-configmap`), as namespace and name.
    pub tcp_services: Option<(String, String)>,
    /// The ConfigMap with the services of UDP (`--udp-services-configmap`), as namespace and name.
    pub udp_services: Option<(String, String)>,
    /// The Secret of the default certificate (`--default-ssl-certificate`), as namespace and name.
    pub default_certificate: Option<(String, String)>,
    /// The Service that clients reach the gateway by (`--publish-service`), as namespace and name.
    pub published_service: Option<(String, String)>,
    /// The Service for what nobody claims (`--default-backend-service`).
    pub default_backend: Option<ServiceRef>,
    /// Ports of the gateway itself that no backend may lead to: status and admin.
    pub own_ports: Vec<u16>,
}

/// A listener from a flag.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// What to bind.
    pub key: ListenerKey,
    /// What is spoken there.
    pub protocol: Protocol,
}

/// A Service and a port of it.
#[derive(Clone, Debug)]
pub struct ServiceRef {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The port; `None` for the first one.
    pub port: Option<PortRef>,
}

/// Which Ingresses are ours: the rules of ingress-nginx.
#[derive(Clone, Debug)]
pub struct ClassConfig {
    /// `--ingress-class`: the value of the legacy annotation that is ours.
    pub name: String,
    /// `--controller-class`: the controller of the IngressClasses that are ours.
    pub controller: String,
    /// `--ingress-class-by-name`: an IngressClass is ours by its name too.
    pub by_name: bool,
    /// `--watch-ingress-without-class`.
    pub without_class: bool,
}

/// Where the objects come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Files, whose author is the operator: loopback endpoints are allowed, and an Ingress may name a class that has no
    /// object.
    #[default]
    Files,
    /// An API server, whose tenants are strangers to each other.
    Cluster,
}

impl Default for Config {
    /// Files without listeners, with ingress-nginx's annotations.
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            annotation_prefixes: vec!["nginx.ingress.kubernetes.io".to_owned()],
            class: ClassConfig::default(),
            source: Source::default(),
            configmap: None,
            tcp_services: None,
            udp_services: None,
            default_certificate: None,
            published_service: None,
            default_backend: None,
            own_ports: Vec::new(),
        }
    }
}

impl Default for ClassConfig {
    fn default() -> Self {
        Self {
            name: "nginx".to_owned(),
            controller: "penstock.dev/ingress".to_owned(),
            by_name: false,
            without_class: false,
        }
    }
}
