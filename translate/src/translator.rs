//! Translation in small steps: what changed, what that touches, and what becomes of it.
//!
//! Every step gives what a translation from scratch would give; a test makes random edits and compares.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use routing::model::{BackendModel, BackendRef, CertificateRef, Host, HostKey, Listener, PortRef, Protocol};
use routing::{Delta, HostPattern, Settings};

use crate::backend;
use crate::class::{self, ClassDecision};
use crate::config::{Config, ServiceRef};
use crate::index::{Index, backend_refs, certificate_refs};
use crate::ingress::{Ingress, Neighbours, translate_host};
use crate::problem::{Problem, Reason};
use crate::resources::{
    ConfigMap, EndpointSlice, IngressClass, Kind, NamespacedName, ObjectKey, Resource, Secret, Service,
};
use crate::settings::GlobalSettings;

/// A change of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The object is new or another. The problems are warnings.
    Apply(Box<Resource>, Vec<Problem>),
    /// The object is new or another, and cannot be used: its last good version stays.
    Refuse(ObjectKey, Vec<Problem>),
    /// The object is gone.
    Remove(ObjectKey),
}

/// What a batch of changes did.
#[derive(Debug, Default, PartialEq)]
pub struct Update {
    /// The change of the model.
    pub delta: Delta,
    /// Objects about which there may be something else to say now.
    pub touched: BTreeSet<ObjectKey>,
}

/// The resources, and the model that they amount to.
pub struct Translator {
    config: Config,
    default_backend: Option<BackendRef>,
    resources: Resources,
    index: Index,
    settings: GlobalSettings,
    /// What the last version of an object was refused for, or warned about.
    reports: BTreeMap<ObjectKey, Report>,
    /// What was emitted, so that a change without effect emits nothing.
    emitted: Emitted,
    host_problems: BTreeMap<HostPattern, Vec<(NamespacedName, Problem)>>,
    backend_problems: BTreeMap<BackendRef, Vec<Problem>>,
}

#[derive(Default)]
struct Resources {
    ingresses: BTreeMap<NamespacedName, Arc<Ingress>>,
    classes: BTreeMap<Box<str>, IngressClass>,
    services: BTreeMap<NamespacedName, Service>,
    /// By namespace and Service, then by name.
    slices: BTreeMap<NamespacedName, BTreeMap<Box<str>, EndpointSlice>>,
    /// The Service of each slice, for its removal.
    slice_services: BTreeMap<NamespacedName, Box<str>>,
    endpoints: BTreeMap<NamespacedName, EndpointSlice>,
    secrets: BTreeMap<NamespacedName, Secret>,
    config_map: Option<ConfigMap>,
}

#[derive(Default)]
struct Emitted {
    hosts: BTreeMap<HostPattern, Arc<Host>>,
    backends: BTreeMap<BackendRef, Arc<BackendModel>>,
    certificates: BTreeSet<CertificateRef>,
    settings: Option<Arc<Settings>>,
    has_listeners: bool,
}

struct Report {
    problems: Vec<Problem>,
    is_refused: bool,
}

/// What has to be looked at again.
#[derive(Default)]
struct Affected {
    hosts: BTreeSet<HostPattern>,
    backends: BTreeSet<BackendRef>,
    certificates: BTreeSet<CertificateRef>,
    touched: BTreeSet<ObjectKey>,
    settings: bool,
}

// === impl Translator ===

impl Translator {
    /// A translator that knows no object yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let default_backend = config.default_backend.as_ref().map(|ServiceRef { namespace, name, port }| BackendRef {
            namespace: namespace.as_str().into(),
            service: name.as_str().into(),
            port: port.clone().unwrap_or(PortRef::First),
        });
        Self {
            default_backend,
            resources: Resources::default(),
            index: Index::default(),
            settings: GlobalSettings::parse(None).0,
            reports: BTreeMap::new(),
            emitted: Emitted::default(),
            host_problems: BTreeMap::new(),
            backend_problems: BTreeMap::new(),
            config,
        }
    }

    /// The configuration that it translates by.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Applies a batch of changes: the order matters, states in between do not show.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Update {
        let mut affected = Affected::default();
        for change in changes {
            match change {
                Change::Apply(resource, warnings) => {
                    self.report(resource.key(), warnings, false, &mut affected);
                    self.put(*resource, &mut affected);
                }
                Change::Refuse(key, problems) => self.report(key, problems, true, &mut affected),
                Change::Remove(key) => {
                    self.reports.remove(&key);
                    affected.touched.insert(key.clone());
                    self.remove(&key, &mut affected);
                }
            }
        }
        self.emit(affected)
    }

    /// Everything that the author of an object should know now, sorted.
    #[must_use]
    pub fn problems(&self, key: &ObjectKey) -> Vec<Problem> {
        let mut problems: Vec<Problem> =
            self.reports.get(key).map(|report| report.problems.clone()).unwrap_or_default();
        if key.kind == Kind::Ingress
            && let Some(ingress) = self.resources.ingresses.get(&key.namespaced_name())
        {
            self.ingress_problems(ingress, &mut problems);
        }
        problems.sort();
        problems.dedup();
        problems
    }

    /// Every object that there is something to say about, or whose version is not the one that is live.
    pub fn reported(&self) -> impl Iterator<Item = ObjectKey> {
        let refused = self.reports.keys().cloned();
        let ingresses = self.resources.ingresses.keys().map(|name| name.of_kind(Kind::Ingress));
        refused.chain(ingresses).collect::<BTreeSet<_>>().into_iter()
    }

    /// How many objects are refused, and how many of them still work in an older version.
    #[must_use]
    pub fn n_refused(&self) -> (usize, usize) {
        let refused = self.reports.iter().filter(|(_, report)| report.is_refused);
        let stale = refused.clone().filter(|(key, _)| self.resources.holds(key));
        (refused.count(), stale.count())
    }

    /// Whether an Ingress of this name is known, and served.
    #[must_use]
    pub fn class_of(&self, ingress: &NamespacedName) -> Option<ClassDecision> {
        self.resources.ingresses.get(ingress).map(|ingress| self.decide_class(ingress))
    }

    fn decide_class(&self, ingress: &Ingress) -> ClassDecision {
        class::decide(ingress, &self.config, |name| self.resources.classes.get(name))
    }

    fn is_served(&self, ingress: &Ingress) -> bool {
        // A canary is never a host of its own: it only adds to another Ingress.
        !ingress.annotations.canary && self.decide_class(ingress) == ClassDecision::Served
    }

    fn report(&mut self, key: ObjectKey, problems: Vec<Problem>, is_refused: bool, affected: &mut Affected) {
        affected.touched.insert(key.clone());
        if problems.is_empty() && !is_refused {
            self.reports.remove(&key);
        } else {
            self.reports.insert(key, Report { problems, is_refused });
        }
    }

    // === objects ===

    fn put(&mut self, resource: Resource, affected: &mut Affected) {
        match resource {
            Resource::Ingress(ingress) => {
                let key = ingress.meta.key();
                self.forget_ingress(&key, affected);
                if self.is_served(&ingress) {
                    self.index.add(&ingress);
                    affected.add_ingress(&ingress);
                }
                self.resources.ingresses.insert(key, Arc::new(ingress));
            }
            Resource::IngressClass(class) => self.change_class(class.meta.name.clone(), Some(class), affected),
            Resource::Service(service) => {
                let key = service.meta.key();
                affected.backends.extend(self.index.backends_of_service(&key.namespace, &key.name).cloned());
                affected.add_default_backend(self.default_backend.as_ref(), &key);
                self.resources.services.insert(key, service);
            }
            Resource::EndpointSlice(slice) => {
                let key = slice.meta.key();
                self.remove_slice(&key, affected);
                let service = NamespacedName { namespace: key.namespace.clone(), name: slice.service.clone() };
                self.affect_service(&service, affected);
                self.resources.slice_services.insert(key.clone(), slice.service.clone());
                self.resources.slices.entry(service).or_default().insert(key.name, slice);
            }
            Resource::Endpoints(endpoints) => {
                let key = endpoints.meta.key();
                self.affect_service(&key, affected);
                self.resources.endpoints.insert(key, endpoints);
            }
            Resource::Secret(secret) => {
                let key = secret.meta.key();
                affected.add_certificate(&key);
                self.resources.secrets.insert(key, secret);
            }
            Resource::ConfigMap(map) => {
                if self.is_settings(&map.meta.key()) {
                    self.resources.config_map = Some(map);
                    affected.settings = true;
                }
            }
            // Namespaces matter to selectors of the source, not to the model.
            Resource::Namespace(_) => {}
        }
    }

    fn remove(&mut self, key: &ObjectKey, affected: &mut Affected) {
        let name = key.namespaced_name();
        match key.kind {
            Kind::Ingress => {
                self.forget_ingress(&name, affected);
                self.resources.ingresses.remove(&name);
            }
            Kind::IngressClass => self.change_class(name.name, None, affected),
            Kind::Service => {
                self.affect_service(&name, affected);
                self.resources.services.remove(&name);
            }
            Kind::EndpointSlice => self.remove_slice(&name, affected),
            Kind::Endpoints => {
                self.affect_service(&name, affected);
                self.resources.endpoints.remove(&name);
            }
            Kind::Secret => {
                affected.add_certificate(&name);
                self.resources.secrets.remove(&name);
            }
            Kind::ConfigMap if self.is_settings(&name) => {
                self.resources.config_map = None;
                affected.settings = true;
            }
            Kind::ConfigMap | Kind::Namespace => {}
        }
    }

    /// Takes an Ingress out of the index, as far as it is in it.
    fn forget_ingress(&mut self, key: &NamespacedName, affected: &mut Affected) {
        let Some(old) = self.resources.ingresses.get(key).map(Arc::clone) else { return };
        if self.is_served(&old) {
            // Before it leaves, so that hosts which only share an alias with it are found.
            affected.add_ingress(&old);
            self.index.remove(&old);
        }
    }

    fn change_class(&mut self, name: Box<str>, class: Option<IngressClass>, affected: &mut Affected) {
        let members: Vec<Arc<Ingress>> = self
            .resources
            .ingresses
            .values()
            .filter(|ingress| ingress.class_name.as_ref() == Some(&name))
            .map(Arc::clone)
            .collect();
        for ingress in &members {
            self.forget_ingress(&ingress.meta.key(), affected);
        }
        match class {
            Some(class) => self.resources.classes.insert(name, class),
            None => self.resources.classes.remove(&name),
        };
        for ingress in members {
            affected.touched.insert(ingress.meta.key().of_kind(Kind::Ingress));
            if self.is_served(&ingress) {
                self.index.add(&ingress);
                affected.add_ingress(&ingress);
            }
        }
    }

    fn remove_slice(&mut self, key: &NamespacedName, affected: &mut Affected) {
        let Some(service) = self.resources.slice_services.remove(key) else { return };
        let service = NamespacedName { namespace: key.namespace.clone(), name: service };
        self.affect_service(&service, affected);
        if let Some(slices) = self.resources.slices.get_mut(&service) {
            slices.remove(&key.name);
            if slices.is_empty() {
                self.resources.slices.remove(&service);
            }
        }
    }

    fn affect_service(&self, service: &NamespacedName, affected: &mut Affected) {
        affected.backends.extend(self.index.backends_of_service(&service.namespace, &service.name).cloned());
        affected.add_default_backend(self.default_backend.as_ref(), service);
    }

    fn is_settings(&self, key: &NamespacedName) -> bool {
        let is_same = |(namespace, name): &(String, String)| *key == NamespacedName::new(namespace, name);
        self.config.configmap.as_ref().is_some_and(is_same)
    }

    // === output ===

    fn emit(&mut self, mut affected: Affected) -> Update {
        let mut delta = Delta::default();
        if !std::mem::replace(&mut self.emitted.has_listeners, true) {
            let listener = |protocol: &Protocol| Some(Arc::new(Listener { protocol: protocol.clone() }));
            let listeners = self.config.listeners.iter();
            delta.listeners = listeners.map(|config| (config.key, listener(&config.protocol))).collect();
            affected.settings = true;
            affected.backends.extend(self.default_backend.clone());
            affected.certificates.extend(self.default_certificate());
        }
        if affected.settings {
            self.emit_settings(&mut delta, &mut affected);
        }
        self.close_over_aliases(&mut affected.hosts);
        for host in &affected.hosts {
            self.emit_host(host, &mut delta, &mut affected.touched);
        }
        for reference in &affected.backends {
            self.emit_backend(reference, &mut delta, &mut affected.touched);
        }
        for reference in &affected.certificates {
            self.emit_certificate(reference, &mut delta, &mut affected.touched);
        }
        Update { delta, touched: affected.touched }
    }

    fn emit_settings(&mut self, delta: &mut Delta, affected: &mut Affected) {
        let map = self.resources.config_map.as_ref();
        let (mut settings, problems) = GlobalSettings::parse(map.map(|map| &map.data));
        settings.runtime.default_certificate = self.default_certificate();
        if let Some((namespace, name)) = &self.config.configmap {
            let key = NamespacedName::new(namespace, name).of_kind(Kind::ConfigMap);
            self.report(key, problems, false, affected);
        }
        if settings.ingress != self.settings.ingress || self.emitted.settings.is_none() {
            affected.hosts.extend(self.index.hosts().cloned());
            affected.hosts.insert(HostPattern::Any);
        }
        let runtime = Arc::new(settings.runtime.clone());
        if self.emitted.settings.as_ref() != Some(&runtime) {
            self.emitted.settings = Some(Arc::clone(&runtime));
            delta.settings = Some(runtime);
        }
        self.settings = settings;
    }

    fn emit_host(&mut self, host: &HostPattern, delta: &mut Delta, touched: &mut BTreeSet<ObjectKey>) {
        let (translated, problems) = match self.real_host(host) {
            Some(real) => {
                let is_alias = real != *host;
                let neighbours = self.neighbours(&real);
                let translation = translate_host(&neighbours);
                // The problems of an alias are those of the host that it stands for.
                let problems = if is_alias { Vec::new() } else { translation.problems };
                let is_needed = !translation.host.routes.is_empty() || translation.host.tls.is_some();
                (is_needed.then_some(translation.host), problems)
            }
            None => (None, Vec::new()),
        };
        let old = if problems.is_empty() {
            self.host_problems.remove(host)
        } else {
            self.host_problems.insert(host.clone(), problems)
        };
        let new = self.host_problems.get(host);
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
        let is_used = self.index.is_backend_used(reference) || self.default_backend.as_ref() == Some(reference);
        if !is_used {
            self.backend_problems.remove(reference);
            if self.emitted.backends.remove(reference).is_some() {
                delta.backends.insert(reference.clone(), None);
            }
            return;
        }
        let (model, problems) = backend::resolve(reference, &self.resources.of_backend(reference), &self.config);
        let known = self.backend_problems.get(reference).map(Vec::as_slice).unwrap_or_default();
        if *known != *problems {
            touched.extend(self.index.of_backend(reference).map(|name| name.of_kind(Kind::Ingress)));
        }
        if problems.is_empty() {
            self.backend_problems.remove(reference);
        } else {
            self.backend_problems.insert(reference.clone(), problems);
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
        let certificate = is_used.then(|| self.resources.certificate(reference)).flatten();
        match certificate {
            Some(certificate) => {
                self.emitted.certificates.insert(reference.clone());
                delta.certificates.insert(reference.clone(), Some(certificate));
            }
            None => {
                if self.emitted.certificates.remove(reference) {
                    delta.certificates.insert(reference.clone(), None);
                }
            }
        }
        touched.extend(self.index.of_certificate(reference).map(|name| name.of_kind(Kind::Ingress)));
    }

    // === look-ups ===

    fn neighbours<'a>(&'a self, host: &'a HostPattern) -> Neighbours<'a> {
        let mut ingresses: Vec<&Arc<Ingress>> =
            self.index.of_host(host).filter_map(|name| self.resources.ingresses.get(name)).collect();
        // ingress-nginx: the oldest first; of equal age, `namespace/name` descending.
        ingresses.sort_by_key(|ingress| (ingress.meta.created, Reverse(ingress.meta.key())));
        Neighbours { host, ingresses, defaults: &self.settings.ingress, default_backend: self.default_backend.as_ref() }
    }

    /// The host that a name stands for: itself when an Ingress has a rule for it, else the host that it is an alias of.
    fn real_host(&self, host: &HostPattern) -> Option<HostPattern> {
        let is_ruled = self.index.of_host(host).next().is_some();
        if is_ruled || *host == HostPattern::Any {
            return Some(host.clone());
        }
        let mut owners: Vec<&Arc<Ingress>> =
            self.index.of_alias(host).filter_map(|name| self.resources.ingresses.get(name)).collect();
        owners.sort_by_key(|ingress| (ingress.meta.created, Reverse(ingress.meta.key())));
        owners.iter().find_map(|ingress| ingress.rules.first()).map(|rule| rule.host.clone())
    }

    /// An alias shows what its host does, so it changes with it.
    fn close_over_aliases(&self, hosts: &mut BTreeSet<HostPattern>) {
        let aliases: Vec<HostPattern> = hosts
            .iter()
            .flat_map(|host| self.index.of_host(host))
            .filter_map(|name| self.resources.ingresses.get(name))
            .flat_map(|ingress| ingress.annotations.server_alias.iter().cloned())
            .collect();
        hosts.extend(aliases);
    }

    fn default_certificate(&self) -> Option<CertificateRef> {
        let reference = |(namespace, name): &(String, String)| CertificateRef {
            namespace: namespace.as_str().into(),
            name: name.as_str().into(),
        };
        self.config.default_certificate.as_ref().map(reference)
    }

    fn ingress_problems(&self, ingress: &Ingress, problems: &mut Vec<Problem>) {
        if let ClassDecision::NotServed(why) = self.decide_class(ingress) {
            problems.push(Problem::warning(Reason::ClassNotServed, "", format_args!("not served: {why}")));
            return;
        }
        if ingress.annotations.canary {
            let message = "a canary adds to another Ingress, which is not done yet: it has no effect";
            problems.push(Problem::warning(Reason::AnnotationIgnored, "", message));
            return;
        }
        let key = ingress.meta.key();
        for host in ingress.hosts() {
            let of_host = self.host_problems.get(host).into_iter().flatten();
            problems.extend(of_host.filter(|(author, _)| *author == key).map(|(_, problem)| problem.clone()));
        }
        for backend in backend_refs(ingress).collect::<BTreeSet<_>>() {
            problems.extend(self.backend_problems.get(&backend).into_iter().flatten().cloned());
        }
        self.certificate_problems(ingress, problems);
    }

    fn certificate_problems(&self, ingress: &Ingress, problems: &mut Vec<Problem>) {
        for (index, tls) in ingress.tls.iter().enumerate() {
            let Some(secret) = &tls.secret else { continue };
            let field = format!("spec.tls[{index}].secretName");
            let name = NamespacedName { namespace: ingress.meta.namespace.clone(), name: secret.clone() };
            let reference = CertificateRef { namespace: name.namespace.clone(), name: name.name.clone() };
            let report = self.reports.get(&name.of_kind(Kind::Secret)).filter(|report| report.is_refused);
            let Some(certificate) = self.resources.certificate(&reference) else {
                let why = match report.and_then(|report| report.problems.first()) {
                    Some(problem) => format!("Secret {name} cannot be used: {problem}"),
                    None if self.resources.secrets.contains_key(&name) => format!("Secret {name} holds no certificate"),
                    None => format!("Secret {name} does not exist"),
                };
                let message = format_args!("{why}; the default certificate is presented").to_string();
                problems.push(Problem::warning(Reason::CertificateUnavailable, field, message));
                continue;
            };
            for host in tls.hosts.iter().filter(|host| !certificate.names.cover(host)) {
                let message = format_args!(
                    "the certificate in Secret {name} is not for host {host}; the default certificate is presented"
                )
                .to_string();
                problems.push(Problem::warning(Reason::CertificateMismatch, field.clone(), message));
            }
        }
    }
}

// === impl Resources ===

impl Resources {
    fn of_backend(&self, reference: &BackendRef) -> backend::Sources<'_> {
        let name = NamespacedName { namespace: reference.namespace.clone(), name: reference.service.clone() };
        backend::Sources {
            service: self.services.get(&name),
            slices: self.slices.get(&name).into_iter().flat_map(BTreeMap::values).collect(),
            endpoints: self.endpoints.get(&name),
        }
    }

    fn certificate(&self, reference: &CertificateRef) -> Option<Arc<routing::Certificate>> {
        let name = NamespacedName { namespace: reference.namespace.clone(), name: reference.name.clone() };
        self.secrets.get(&name)?.certificate.clone()
    }

    fn holds(&self, key: &ObjectKey) -> bool {
        let name = key.namespaced_name();
        match key.kind {
            Kind::ConfigMap => self.config_map.as_ref().is_some_and(|map| map.meta.key() == name),
            Kind::EndpointSlice => self.slice_services.contains_key(&name),
            Kind::Endpoints => self.endpoints.contains_key(&name),
            Kind::Ingress => self.ingresses.contains_key(&name),
            Kind::IngressClass => self.classes.contains_key(&name.name),
            Kind::Namespace => false,
            Kind::Secret => self.secrets.contains_key(&name),
            Kind::Service => self.services.contains_key(&name),
        }
    }
}

// === impl Affected ===

impl Affected {
    fn add_ingress(&mut self, ingress: &Ingress) {
        self.hosts.extend(ingress.hosts().cloned());
        self.hosts.extend(ingress.annotations.server_alias.iter().cloned());
        self.backends.extend(backend_refs(ingress));
        self.certificates.extend(certificate_refs(ingress));
    }

    fn add_certificate(&mut self, secret: &NamespacedName) {
        let NamespacedName { namespace, name } = secret.clone();
        self.certificates.insert(CertificateRef { namespace, name });
    }

    fn add_default_backend(&mut self, default_backend: Option<&BackendRef>, service: &NamespacedName) {
        let is_same = |backend: &&BackendRef| backend.namespace == service.namespace && backend.service == service.name;
        self.backends.extend(default_backend.filter(is_same).cloned());
    }
}
