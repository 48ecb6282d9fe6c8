//! Which objects speak of what: from a host, a Service or a Secret to the Ingresses that have to be looked at again.

use std::collections::BTreeMap;

use routing::HostPattern;
use routing::model::{AuthorityRef, BackendRef, CertificateRef, CredentialsRef, PortRef, UpstreamTls};
use routing::packed::repack;

use crate::ingress::annotations::www_twin;
use crate::ingress::{Ingress, IngressBackend};
use crate::resources::NamespacedName;

/// Which Ingresses speak of what. Only those that are served are in it.
#[derive(Default)]
pub(crate) struct Index {
    /// By the hosts of their rules.
    hosts: Relation<HostPattern>,
    /// Canaries, by the hosts of their rules.
    canaries: Relation<HostPattern>,
    /// By their aliases.
    aliases: Relation<HostPattern>,
    /// By the names that `from-to-www-redirect` sends to their hosts.
    twins: Relation<HostPattern>,
    /// By the Service ports that they refer to.
    backends: Relation<BackendRef>,
    /// The same of those that say something of the endpoints behind these: few do, and a Service may have thousands of users.
    opinions: Relation<BackendRef>,
    /// By the Secrets that they refer to.
    certificates: Relation<CertificateRef>,
    /// By the users that they refer to.
    credentials: Relation<CredentialsRef>,
    /// By the authorities that they refer to.
    authorities: Relation<AuthorityRef>,
}

/// From a thing to the Ingresses that speak of it, sorted. Nearly always there is one, so a set would be mostly room.
struct Relation<K>(BTreeMap<K, Vec<NamespacedName>>);

impl Index {
    pub(crate) fn add(&mut self, ingress: &Ingress) {
        let key = ingress.meta.key();
        if has_opinion(ingress) {
            backend_refs(ingress).for_each(|backend| self.opinions.add(backend, &key));
        }
        if ingress.annotations.canary.is_on {
            ingress.hosts().for_each(|host| self.canaries.add(host.clone(), &key));
            backend_refs(ingress).for_each(|backend| self.backends.add(backend, &key));
            return;
        }
        ingress.hosts().for_each(|host| self.hosts.add(host.clone(), &key));
        ingress.annotations.server_alias.iter().for_each(|alias| self.aliases.add(alias.clone(), &key));
        twins(ingress).for_each(|twin| self.twins.add(twin, &key));
        backend_refs(ingress).for_each(|backend| self.backends.add(backend, &key));
        used_certificates(ingress).for_each(|certificate| self.certificates.add(certificate, &key));
        credentials_ref(ingress).into_iter().for_each(|users| self.credentials.add(users, &key));
        authority_refs(ingress).for_each(|authority| self.authorities.add(authority, &key));
    }

    pub(crate) fn remove(&mut self, ingress: &Ingress) {
        let key = ingress.meta.key();
        if has_opinion(ingress) {
            backend_refs(ingress).for_each(|backend| self.opinions.remove(&backend, &key));
        }
        if ingress.annotations.canary.is_on {
            ingress.hosts().for_each(|host| self.canaries.remove(host, &key));
            backend_refs(ingress).for_each(|backend| self.backends.remove(&backend, &key));
            return;
        }
        ingress.hosts().for_each(|host| self.hosts.remove(host, &key));
        ingress.annotations.server_alias.iter().for_each(|alias| self.aliases.remove(alias, &key));
        twins(ingress).for_each(|twin| self.twins.remove(&twin, &key));
        backend_refs(ingress).for_each(|backend| self.backends.remove(&backend, &key));
        used_certificates(ingress).for_each(|certificate| self.certificates.remove(&certificate, &key));
        credentials_ref(ingress).into_iter().for_each(|users| self.credentials.remove(&users, &key));
        authority_refs(ingress).for_each(|authority| self.authorities.remove(&authority, &key));
    }

    /// Gives back the room that many changes leave in the maps.
    pub(crate) fn repack(&mut self) {
        let Self { hosts, canaries, aliases, twins, backends, opinions, certificates, credentials, authorities } = self;
        for relation in [hosts, canaries, aliases, twins] {
            repack(&mut relation.0);
        }
        repack(&mut backends.0);
        repack(&mut opinions.0);
        repack(&mut certificates.0);
        repack(&mut credentials.0);
        repack(&mut authorities.0);
    }

    pub(crate) fn of_host(&self, host: &HostPattern) -> impl Iterator<Item = &NamespacedName> {
        self.hosts.of(host)
    }

    pub(crate) fn canaries_of(&self, host: &HostPattern) -> impl Iterator<Item = &NamespacedName> {
        self.canaries.of(host)
    }

    pub(crate) fn of_alias(&self, alias: &HostPattern) -> impl Iterator<Item = &NamespacedName> {
        self.aliases.of(alias)
    }

    pub(crate) fn of_twin(&self, twin: &HostPattern) -> impl Iterator<Item = &NamespacedName> {
        self.twins.of(twin)
    }

    pub(crate) fn of_certificate(&self, certificate: &CertificateRef) -> impl Iterator<Item = &NamespacedName> {
        self.certificates.of(certificate)
    }

    pub(crate) fn of_credentials(&self, users: &CredentialsRef) -> impl Iterator<Item = &NamespacedName> {
        self.credentials.of(users)
    }

    pub(crate) fn of_authority(&self, authority: &AuthorityRef) -> impl Iterator<Item = &NamespacedName> {
        self.authorities.of(authority)
    }

    pub(crate) fn of_backend(&self, backend: &BackendRef) -> impl Iterator<Item = &NamespacedName> {
        self.backends.of(backend)
    }

    /// Those of the users of a backend that say something of its endpoints.
    pub(crate) fn opinions_on(&self, backend: &BackendRef) -> impl Iterator<Item = &NamespacedName> {
        self.opinions.of(backend)
    }

    /// Whether some Ingress has a rule for a host.
    pub(crate) fn is_ruled(&self, host: &HostPattern) -> bool {
        self.hosts.0.contains_key(host)
    }

    pub(crate) fn is_backend_used(&self, backend: &BackendRef) -> bool {
        self.backends.0.contains_key(backend)
    }

    pub(crate) fn is_certificate_used(&self, certificate: &CertificateRef) -> bool {
        self.certificates.0.contains_key(certificate)
    }

    pub(crate) fn is_credentials_used(&self, users: &CredentialsRef) -> bool {
        self.credentials.0.contains_key(users)
    }

    pub(crate) fn is_authority_used(&self, authority: &AuthorityRef) -> bool {
        self.authorities.0.contains_key(authority)
    }

    /// Every host that some Ingress speaks of, aliases and twins included.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &HostPattern> {
        self.hosts.0.keys().chain(self.aliases()).chain(self.twins())
    }

    /// Every name that `from-to-www-redirect` sends to a host.
    pub(crate) fn twins(&self) -> impl Iterator<Item = &HostPattern> {
        self.twins.0.keys()
    }

    /// Every alias.
    pub(crate) fn aliases(&self) -> impl Iterator<Item = &HostPattern> {
        self.aliases.0.keys()
    }

    /// Every Service port that some Ingress refers to.
    pub(crate) fn backends(&self) -> impl Iterator<Item = &BackendRef> {
        self.backends.0.keys()
    }

    /// The ports of a Service that some Ingress refers to.
    pub(crate) fn backends_of_service(&self, namespace: &str, service: &str) -> impl Iterator<Item = &BackendRef> {
        // `Number(0)` is the least port, so the range starts at the Service and is left with it.
        let first = BackendRef { namespace: namespace.into(), service: service.into(), port: PortRef::Number(0) };
        let is_same =
            move |reference: &&BackendRef| reference.namespace == first.namespace && reference.service == first.service;
        let start = BackendRef { namespace: namespace.into(), service: service.into(), port: PortRef::Number(0) };
        self.backends.0.range(start..).map(|(reference, _)| reference).take_while(is_same)
    }
}

/// Whether an Ingress says of its backends what they consist of, or how they are.
fn has_opinion(ingress: &Ingress) -> bool {
    ingress.annotations.service_upstream.is_some() || ingress.annotations.health_check.is_some()
}

/// The names that an Ingress has sent to its hosts.
pub(crate) fn twins(ingress: &Ingress) -> impl Iterator<Item = HostPattern> {
    let hosts = ingress.hosts().filter(|_| ingress.annotations.redirects.from_to_www);
    hosts.filter_map(www_twin)
}

/// The Service ports that an Ingress refers to.
pub(crate) fn backend_refs(ingress: &Ingress) -> impl Iterator<Item = BackendRef> {
    let of = |backend: &IngressBackend| backend_ref(ingress, backend);
    let paths = ingress.rules.iter().flat_map(|rule| &*rule.paths).filter_map(|path| path.backend.as_ref());
    let asked = ingress.annotations.external.backend().cloned();
    let mirror = ingress.annotations.mirror.url.as_ref().and_then(|url| url.server.backend().cloned());
    paths.chain(&ingress.default_backend).map(of).chain(fallback_ref(ingress)).chain(asked).chain(mirror)
}

/// The backend of a path.
pub(crate) fn backend_ref(ingress: &Ingress, backend: &IngressBackend) -> BackendRef {
    BackendRef {
        namespace: ingress.meta.namespace.clone(),
        service: backend.service.clone(),
        port: backend.port.clone(),
    }
}

/// The backend of the annotation `default-backend`.
pub(crate) fn fallback_ref(ingress: &Ingress) -> Option<BackendRef> {
    ingress.annotations.default_backend.as_ref().map(|service| BackendRef {
        namespace: ingress.meta.namespace.clone(),
        service: service.clone(),
        port: PortRef::First,
    })
}

/// The Secrets whose certificates an Ingress has shown to somebody.
pub(crate) fn used_certificates(ingress: &Ingress) -> impl Iterator<Item = CertificateRef> {
    certificate_refs(ingress).chain(upstream_tls(ingress).secret)
}

/// TLS of an Ingress towards its upstreams; what cannot be had is none.
pub(crate) fn upstream_tls(ingress: &Ingress) -> UpstreamTls {
    ingress.annotations.upstream_tls.resolve(&ingress.meta.namespace).unwrap_or_default()
}

/// The Secrets whose certificates clients of an Ingress see.
pub(crate) fn certificate_refs(ingress: &Ingress) -> impl Iterator<Item = CertificateRef> {
    ingress
        .tls
        .iter()
        .filter_map(|tls| tls.secret.as_ref())
        .map(|secret| CertificateRef { namespace: ingress.meta.namespace.clone(), name: secret.clone() })
}

/// The users that an Ingress refers to.
pub(crate) fn credentials_ref(ingress: &Ingress) -> Option<CredentialsRef> {
    let basic = ingress.annotations.basic.resolve(&ingress.meta.namespace).ok().flatten()?;
    Some(basic.credentials)
}

/// The authorities that an Ingress refers to.
pub(crate) fn authority_refs(ingress: &Ingress) -> impl Iterator<Item = AuthorityRef> {
    let clients = ingress.annotations.client_tls.resolve(&ingress.meta.namespace).ok().flatten();
    clients.map(|clients| clients.authority).into_iter().chain(upstream_tls(ingress).authority())
}

// === impl Relation ===

impl<K: Ord> Relation<K> {
    fn add(&mut self, thing: K, ingress: &NamespacedName) {
        let ingresses = self.0.entry(thing).or_insert_with(|| Vec::with_capacity(1));
        if let Err(place) = ingresses.binary_search(ingress) {
            ingresses.insert(place, ingress.clone());
        }
    }

    fn remove(&mut self, thing: &K, ingress: &NamespacedName) {
        if let Some(ingresses) = self.0.get_mut(thing) {
            if let Ok(place) = ingresses.binary_search(ingress) {
                ingresses.remove(place);
            }
            if ingresses.is_empty() {
                self.0.remove(thing);
            }
        }
    }

    fn of(&self, thing: &K) -> impl Iterator<Item = &NamespacedName> {
        self.0.get(thing).into_iter().flatten()
    }
}

impl<K> Default for Relation<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}
