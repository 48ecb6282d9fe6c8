//! Translation in small steps: what changed, what that touches, and what becomes of it.
//!
//! Every step gives what a translation from scratch would give; a test makes random edits and compares.

mod affected;
mod aliases;
mod conditions;
mod emit;
mod preview;
mod store;
mod streams;
mod twins;

use std::collections::BTreeSet;
use std::sync::Arc;

use routing::Delta;
use routing::model::{BackendRef, PortRef};
use routing::packed::Wear;

use self::affected::Affected;
use self::conditions::Conditions;
use self::emit::Emitted;
pub use self::preview::Preview;
use self::store::Store;
use self::streams::Routes;
use crate::class::{self, ClassDecision};
use crate::config::{Config, ServiceRef};
use crate::index::Index;
use crate::ingress::Ingress;
use crate::problem::Problem;
use crate::resources::{IngressClass, Kind, NamespacedName, ObjectKey, Resource};
use crate::settings::GlobalSettings;

/// A change of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The object is new or another. The problems are warnings.
    Apply(Box<Resource>, Vec<Problem>),
    /// The object is new or another, and cannot be used: its last good version stays.
    Refuse(ObjectKey, Vec<Problem>),
    /// The object is there and its newest version cannot be used; this one was the last good one with another process.
    /// It counts only where none is known.
    Recall(Box<Resource>),
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
    store: Store,
    index: Index,
    settings: GlobalSettings,
    routes: Routes,
    conditions: Conditions,
    emitted: Emitted,
    wear: Wear,
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
            store: Store::default(),
            index: Index::default(),
            settings: GlobalSettings::default(),
            routes: Routes::default(),
            conditions: Conditions::default(),
            emitted: Emitted::default(),
            wear: Wear::default(),
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
        let mut n_changes = 0;
        for change in changes {
            n_changes += 1;
            match change {
                Change::Apply(resource, warnings) => {
                    self.report(resource.key(), warnings, false, &mut affected);
                    self.put(*resource, &mut affected);
                }
                Change::Refuse(key, problems) => {
                    self.touch_users(&key, &mut affected);
                    self.report(key, problems, true, &mut affected);
                }
                Change::Recall(resource) => self.recall(*resource, &mut affected),
                Change::Remove(key) => {
                    self.touch_users(&key, &mut affected);
                    self.conditions.reports.remove(&key);
                    affected.touched.insert(key.clone());
                    self.remove(&key, &mut affected);
                }
            }
        }
        let update = self.emit(affected);
        if self.wear.is_due(n_changes, self.store.len()) {
            self.store.repack();
            self.index.repack();
            self.emitted.repack();
        }
        update
    }

    /// Whether an Ingress of this name is known, and served.
    #[must_use]
    pub fn class_of(&self, ingress: &NamespacedName) -> Option<ClassDecision> {
        self.store.ingresses.get(ingress).map(|ingress| self.decide_class(ingress))
    }

    /// Whether an Ingress would be served that names these classes: by `spec.ingressClassName`, by the annotation.
    #[must_use]
    pub fn serves_class(&self, class_name: Option<&str>, class_annotation: Option<&str>) -> bool {
        let find = |name: &str| self.store.classes.get(name);
        class::decide_by_names(class_name, class_annotation, &self.config, find) == ClassDecision::Served
    }

    fn decide_class(&self, ingress: &Ingress) -> ClassDecision {
        class::decide(ingress, &self.config, |name| self.store.classes.get(name))
    }

    fn is_served(&self, ingress: &Ingress) -> bool {
        self.decide_class(ingress) == ClassDecision::Served
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
                self.store.ingresses.insert(key, Arc::new(ingress));
            }
            Resource::IngressClass(class) => self.change_class(class.meta.name.clone(), Some(class), affected),
            Resource::Service(service) => {
                let key = service.meta.key();
                self.affect_service(&key, affected);
                self.store.services.insert(key, service);
            }
            Resource::EndpointSlice(slice) => {
                self.remove_slice(&slice.meta.key(), affected);
                let service = self.store.put_slice(slice);
                self.affect_service(&service, affected);
            }
            Resource::Endpoints(endpoints) => {
                let key = endpoints.meta.key();
                self.affect_service(&key, affected);
                self.store.endpoints.insert(key, endpoints);
            }
            Resource::Secret(secret) => {
                let key = secret.meta.key();
                affected.add_secret(&key);
                self.store.secrets.insert(key, secret);
            }
            Resource::ConfigMap(map) => {
                let key = map.meta.key();
                self.affect_config_map(&key, affected);
                self.store.config_maps.insert(key, map);
            }
            // Namespaces matter to selectors of the source, not to the model.
            Resource::Namespace(_) => {}
        }
    }

    fn recall(&mut self, resource: Resource, affected: &mut Affected) {
        let key = resource.key();
        if !self.store.holds(&key) {
            self.touch_users(&key, affected);
            affected.touched.insert(key);
            self.put(resource, affected);
        }
    }

    fn remove(&mut self, key: &ObjectKey, affected: &mut Affected) {
        let name = key.namespaced_name();
        match key.kind {
            Kind::Ingress => {
                self.forget_ingress(&name, affected);
                self.store.ingresses.remove(&name);
            }
            Kind::IngressClass => self.change_class(name.name, None, affected),
            Kind::Service => {
                self.affect_service(&name, affected);
                self.store.services.remove(&name);
            }
            Kind::EndpointSlice => self.remove_slice(&name, affected),
            Kind::Endpoints => {
                self.affect_service(&name, affected);
                self.store.endpoints.remove(&name);
            }
            Kind::Secret => {
                affected.add_secret(&name);
                self.store.secrets.remove(&name);
            }
            Kind::ConfigMap => {
                self.affect_config_map(&name, affected);
                self.store.config_maps.remove(&name);
            }
            Kind::Namespace => {}
        }
    }

    /// Takes an Ingress out of the index, as far as it is in it.
    fn forget_ingress(&mut self, key: &NamespacedName, affected: &mut Affected) {
        let Some(old) = self.store.ingresses.get(key).map(Arc::clone) else { return };
        if self.is_served(&old) {
            // Before it leaves, so that hosts which only share an alias with it are found.
            affected.add_ingress(&old);
            self.index.remove(&old);
        }
    }

    fn change_class(&mut self, name: Box<str>, class: Option<IngressClass>, affected: &mut Affected) {
        let members: Vec<Arc<Ingress>> = self
            .store
            .ingresses
            .values()
            .filter(|ingress| ingress.class_name.as_ref() == Some(&name))
            .map(Arc::clone)
            .collect();
        for ingress in &members {
            self.forget_ingress(&ingress.meta.key(), affected);
        }
        match class {
            Some(class) => self.store.classes.insert(name, class),
            None => self.store.classes.remove(&name),
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
        if let Some(service) = self.store.remove_slice(key) {
            self.affect_service(&service, affected);
        }
    }

    /// Those who use an object are told why they cannot: because it is refused, or because it is gone.
    fn touch_users(&self, key: &ObjectKey, affected: &mut Affected) {
        match key.kind {
            Kind::Secret => affected.add_secret(&key.namespaced_name()),
            Kind::Service => {
                let backends = self.index.backends_of_service(&key.namespace, &key.name);
                let users = backends.flat_map(|backend| self.index.of_backend(backend));
                affected.touched.extend(users.map(|user| user.of_kind(Kind::Ingress)));
                affected
                    .touched
                    .extend(self.config.stream_maps().into_iter().map(|(_, map)| map.of_kind(Kind::ConfigMap)));
            }
            _ => {}
        }
    }

    fn affect_service(&self, service: &NamespacedName, affected: &mut Affected) {
        affected.backends.extend(self.index.backends_of_service(&service.namespace, &service.name).cloned());
        self.routes.backends().for_each(|backend| affected.add_of_service(Some(backend), service));
        affected.add_of_service(self.default_backend.as_ref(), service);
        affected.add_of_service(self.settings.ingress.external.backend(), service);
        let published = self.config.published_service.as_ref();
        affected.settings |=
            published.is_some_and(|(namespace, name)| *namespace == *service.namespace && *name == *service.name);
    }

    /// A ConfigMap has the settings, or headers that they or annotations name. Few change, so that nobody keeps an
    /// index of who names them.
    fn affect_config_map(&self, key: &NamespacedName, affected: &mut Affected) {
        affected.streams |= self.is_stream_map(key);
        affected.settings |= self.is_settings(key) || self.settings.named_config_maps().any(|name| name == key);
        let names = |ingress: &&Arc<Ingress>| {
            let reference = ingress.annotations.custom_headers.as_deref();
            let answers = reference.map(|reference| reference.rsplit_once('/').map_or(reference, |(_, name)| name));
            let questions = ingress.annotations.external.request_headers.as_ref();
            let questions = questions.and_then(|name| name.within(&ingress.meta.namespace).ok());
            ingress.meta.namespace == key.namespace && [answers, questions].contains(&Some(&key.name))
        };
        for ingress in self.store.ingresses.values().filter(names) {
            affected.hosts.extend(ingress.hosts().cloned());
        }
    }

    fn is_settings(&self, key: &NamespacedName) -> bool {
        let is_same = |(namespace, name): &(String, String)| *key == NamespacedName::new(namespace, name);
        self.config.configmap.as_ref().is_some_and(is_same)
    }
}
