//! From what was touched to a change of the model: only what came out otherwise than before is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use routing::model::{
    AuthorityRef, BackendModel, BackendRef, CertificateRef, CredentialsRef, HealthCheck, Host, HostKey, Listener,
    Protocol, Transport,
};
use routing::packed::repack;
use routing::{Authority, Certificate, Credentials, Delta, HostPattern, NodePorts, Settings};

use super::affected::Affected;
use super::{Translator, Update};
use crate::backend;
use crate::ingress::{Ingress, Neighbours, translate_host};
use crate::resources::{Kind, NamespacedName, ObjectKey};
use crate::settings::GlobalSettings;

/// What was emitted, so that a change without effect emits nothing.
#[derive(Default)]
pub(super) struct Emitted {
    hosts: BTreeMap<HostPattern, Arc<Host>>,
    backends: BTreeMap<BackendRef, Arc<BackendModel>>,
    certificates: BTreeMap<CertificateRef, Arc<Certificate>>,
    credentials: BTreeMap<CredentialsRef, Arc<Credentials>>,
    authorities: BTreeMap<AuthorityRef, Arc<Authority>>,
    settings: Option<Arc<Settings>>,
    has_listeners: bool,
}

impl Emitted {
    /// Gives back the room that many changes leave in the maps.
    pub(super) fn repack(&mut self) {
        let Self { hosts, backends, certificates, credentials, authorities, settings: _, has_listeners: _ } = self;
        repack(hosts);
        repack(backends);
        repack(certificates);
        repack(credentials);
        repack(authorities);
    }
}

impl Translator {
    /// Brings the model up to date with the objects.
    pub(super) fn emit(&mut self, mut affected: Affected) -> Update {
        let mut delta = Delta::default();
        if !std::mem::replace(&mut self.emitted.has_listeners, true) {
            let listener = |protocol: &Protocol| Some(Arc::new(Listener { protocol: protocol.clone() }));
            let listeners = self.config.listeners.iter();
            delta.listeners = listeners.map(|config| (config.key, listener(&config.protocol))).collect();
            affected.settings = true;
            affected.streams = true;
            affected.backends.extend(self.default_backend.clone());
            affected.certificates.extend(self.default_certificate());
        }
        if affected.settings {
            self.emit_settings(&mut delta, &mut affected);
        }
        if affected.streams {
            self.emit_streams(&mut delta, &mut affected);
        }
        affected.hosts.extend(self.aliases_with(&affected.certificates));
        self.close_over_aliases(&mut affected.hosts);
        let twins = self.twins_of(&affected.hosts);
        affected.hosts.extend(twins);
        for host in &affected.hosts {
            self.emit_host(host, &mut delta, &mut affected.touched);
            let dependents = self.index.of_alias(host).chain(self.index.of_twin(host));
            let dependents = dependents.chain(self.index.canaries_of(host));
            affected.touched.extend(dependents.map(|name| name.of_kind(Kind::Ingress)));
        }
        for reference in &affected.backends {
            self.emit_backend(reference, &mut delta, &mut affected.touched);
        }
        for reference in &affected.certificates {
            self.emit_certificate(reference, &mut delta, &mut affected.touched);
        }
        for reference in &affected.credentials {
            self.emit_credentials(reference, &mut delta, &mut affected.touched);
        }
        for reference in &affected.authorities {
            self.emit_authority(reference, &mut delta, &mut affected.touched);
        }
        Update { delta, touched: affected.touched }
    }

    fn emit_settings(&mut self, delta: &mut Delta, affected: &mut Affected) {
        let settings_map = self.config.configmap.as_ref().map(|(namespace, name)| NamespacedName::new(namespace, name));
        let map = settings_map.and_then(|name| self.store.config_maps.get(&name));
        let (mut settings, problems) = GlobalSettings::parse(map.map(|map| &map.data), &self.store.config_maps);
        settings.runtime.default_certificate = self.default_certificate();
        settings.runtime.node_ports = self.node_ports();
        if let Some((namespace, name)) = &self.config.configmap {
            affected.touched.insert(NamespacedName::new(namespace, name).of_kind(Kind::ConfigMap));
        }
        self.conditions.of_settings = problems;
        if settings.ingress.service_upstream != self.settings.ingress.service_upstream {
            affected.backends.extend(self.index.backends().chain(self.routes.backends()).cloned());
        }
        if settings.ingress != self.settings.ingress || self.emitted.settings.is_none() {
            affected.hosts.extend(self.index.hosts().cloned());
            affected.hosts.insert(HostPattern::Any);
        }
        affected
            .backends
            .extend([&settings, &self.settings].iter().filter_map(|of| of.ingress.external.backend().cloned()));
        let runtime = Arc::new(settings.runtime.clone());
        if self.emitted.settings.as_ref() != Some(&runtime) {
            self.emitted.settings = Some(Arc::clone(&runtime));
            delta.settings = Some(runtime);
        }
        self.settings = settings;
    }

    fn emit_host(&mut self, host: &HostPattern, delta: &mut Delta, touched: &mut BTreeSet<ObjectKey>) {
        let (translated, problems) = match (self.twin_of(host), self.real_host(host)) {
            (Some((target, owner)), _) => (Some(self.translate_twin(host, &target, owner)), Vec::new()),
            (None, Some(real)) => {
                let is_alias = real != *host;
                let neighbours = self.neighbours(&real);
                let mut translation = translate_host(&neighbours);
                // The problems of an alias are those of the host that it stands for.
                let problems = if is_alias { Vec::new() } else { translation.problems };
                if is_alias && !self.has_certificate_for_alias(host, translation.host.tls.as_ref()) {
                    translation.host.tls = None;
                }
                let is_needed = !translation.host.routes.is_empty() || translation.host.tls.is_some();
                (is_needed.then_some(translation.host), problems)
            }
            (None, None) => (None, Vec::new()),
        };
        let old = if problems.is_empty() {
            self.conditions.of_hosts.remove(host)
        } else {
            self.conditions.of_hosts.insert(host.clone(), problems)
        };
        let new = self.conditions.of_hosts.get(host);
        let authors = old.iter().flatten().chain(new.into_iter().flatten());
        touched.extend(authors.map(|(author, _)| author.of_kind(Kind::Ingress)));
        if self.emitted.hosts.get(host).map(|host| &**host) == translated.as_ref() {
            return;
        }
        let translated = translated.map(Arc::new);
        match &translated {
            Some(translated) => self.emitted.hosts.insert(host.clone(), Arc::clone(translated)),
            None => self.emitted.hosts.remove(host),
        };
        for listener in &self.config.listeners {
            if matches!(listener.protocol, Protocol::Http | Protocol::Tls) {
                let key = HostKey { listener: listener.key, host: host.clone() };
                delta.hosts.insert(key, translated.clone());
            }
        }
    }

    fn emit_backend(&mut self, reference: &BackendRef, delta: &mut Delta, touched: &mut BTreeSet<ObjectKey>) {
        let of_settings = [self.default_backend.as_ref(), self.settings.ingress.external.backend()];
        let is_used = self.index.is_backend_used(reference)
            || of_settings.contains(&Some(reference))
            || self.routes.is_backend_used(reference);
        if !is_used {
            self.conditions.of_backends.remove(reference);
            if self.emitted.backends.remove(reference).is_some() {
                delta.backends.insert(reference.clone(), None);
            }
            return;
        }
        let sources = self.store.of_backend(reference);
        let (mut model, problems) = backend::resolve(reference, &sources, self.target(reference), &self.config);
        if model.key.is_some() && model.health_check.is_none() {
            model.health_check = self.health_check(reference);
        }
        let known = self.conditions.of_backends.get(reference).map(Vec::as_slice).unwrap_or_default();
        if *known != *problems {
            touched.extend(self.index.of_backend(reference).map(|name| name.of_kind(Kind::Ingress)));
            touched.extend(self.routes.authors(reference));
        }
        if problems.is_empty() {
            self.conditions.of_backends.remove(reference);
        } else {
            self.conditions.of_backends.insert(reference.clone(), problems);
        }
        if self.emitted.backends.get(reference).is_none_or(|emitted| **emitted != model) {
            let model = Arc::new(model);
            self.emitted.backends.insert(reference.clone(), Arc::clone(&model));
            delta.backends.insert(reference.clone(), Some(model));
        }
    }

    fn emit_certificate(&mut self, reference: &CertificateRef, delta: &mut Delta, touched: &mut BTreeSet<ObjectKey>) {
        let is_used =
            self.index.is_certificate_used(reference) || self.default_certificate().as_ref() == Some(reference);
        let certificate = is_used.then(|| self.store.certificate(reference)).flatten();
        // What the Ingress is told can change although the certificate does not: a Secret was refused, or is gone.
        touched.extend(self.index.of_certificate(reference).map(|name| name.of_kind(Kind::Ingress)));
        if self.emitted.certificates.get(reference) == certificate.as_ref() {
            return;
        }
        match &certificate {
            Some(certificate) => self.emitted.certificates.insert(reference.clone(), Arc::clone(certificate)),
            None => self.emitted.certificates.remove(reference),
        };
        delta.certificates.insert(reference.clone(), certificate);
    }

    fn emit_credentials(&mut self, reference: &CredentialsRef, delta: &mut Delta, touched: &mut BTreeSet<ObjectKey>) {
        let is_used = self.index.is_credentials_used(reference);
        let credentials = is_used.then(|| self.store.credentials(reference)).flatten();
        touched.extend(self.index.of_credentials(reference).map(|name| name.of_kind(Kind::Ingress)));
        if self.emitted.credentials.get(reference) == credentials.as_ref() {
            return;
        }
        match &credentials {
            Some(credentials) => self.emitted.credentials.insert(reference.clone(), Arc::clone(credentials)),
            None => self.emitted.credentials.remove(reference),
        };
        delta.credentials.insert(reference.clone(), credentials);
    }

    fn emit_authority(&mut self, reference: &AuthorityRef, delta: &mut Delta, touched: &mut BTreeSet<ObjectKey>) {
        let is_used = self.index.is_authority_used(reference);
        let authority = is_used.then(|| self.store.authority(reference)).and_then(Result::ok);
        touched.extend(self.index.of_authority(reference).map(|name| name.of_kind(Kind::Ingress)));
        if self.emitted.authorities.get(reference) == authority.as_ref() {
            return;
        }
        match &authority {
            Some(authority) => self.emitted.authorities.insert(reference.clone(), Arc::clone(authority)),
            None => self.emitted.authorities.remove(reference),
        };
        delta.authorities.insert(reference.clone(), authority);
    }

    // === look-ups ===

    /// What a backend consists of. As in ingress-nginx, the oldest Ingress that speaks of it decides for all.
    fn target(&self, reference: &BackendRef) -> backend::Target {
        // Who is the oldest of all does not matter where nobody says anything.
        let is_discussed = self.index.opinions_on(reference).next().is_some();
        let oldest = is_discussed.then(|| self.oldest(self.index.of_backend(reference))).flatten();
        let own = oldest.and_then(|oldest| oldest.annotations.service_upstream);
        if own.unwrap_or(self.settings.ingress.service_upstream) {
            backend::Target::Service
        } else {
            backend::Target::Endpoints
        }
    }

    /// How the oldest Ingress that wants it so has the endpoints of a backend asked whether they are well.
    fn health_check(&self, reference: &BackendRef) -> Option<Arc<HealthCheck>> {
        let users = self.in_order(self.index.opinions_on(reference));
        users.into_iter().find_map(|ingress| ingress.annotations.health_check.clone())
    }

    pub(super) fn neighbours<'a>(&'a self, host: &'a HostPattern) -> Neighbours<'a> {
        Neighbours {
            host,
            ingresses: self.in_order(self.index.of_host(host)),
            canaries: self.in_order(self.index.canaries_of(host)),
            config_maps: &self.store.config_maps,
            defaults: &self.settings.ingress,
            default_backend: self.default_backend.as_ref(),
        }
    }

    fn in_order<'a>(&'a self, names: impl Iterator<Item = &'a NamespacedName>) -> Vec<&'a Arc<Ingress>> {
        let mut ingresses: Vec<&Arc<Ingress>> = names.filter_map(|name| self.store.ingresses.get(name)).collect();
        ingresses.sort_by(|a, b| a.precedence(b));
        ingresses
    }

    /// The ports of nodes by which clients reach the gateway. The names are those of ingress-nginx's chart; the numbers
    /// tell where a port has another name.
    fn node_ports(&self) -> Option<NodePorts> {
        let (namespace, name) = self.config.published_service.as_ref()?;
        let service = self.store.services.get(&NamespacedName::new(namespace, name))?;
        let of = |name: &str, number: u16| {
            let ports = || service.ports.iter().filter(|port| port.transport == Transport::Tcp);
            let named = ports().find(|port| *port.name == *name);
            named.or_else(|| ports().find(|port| port.port == number))?.node_port
        };
        Some(NodePorts { http: of("http", 80)?, https: of("https", 443)? })
    }

    pub(super) fn default_certificate(&self) -> Option<CertificateRef> {
        let reference = |(namespace, name): &(String, String)| CertificateRef {
            namespace: namespace.as_str().into(),
            name: name.as_str().into(),
        };
        self.config.default_certificate.as_ref().map(reference)
    }
}
