//! The objects that are known, each in its last good version.

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::{AuthorityRef, BackendRef, CertificateRef, CredentialsForm, CredentialsRef};
use routing::packed::repack;
use routing::{Authority, Certificate, Credentials};
use serde_json::Value;

use crate::backend;
use crate::encode;
use crate::ingress::Ingress;
use crate::resources::{ConfigMap, EndpointSlice, IngressClass, Kind, NamespacedName, ObjectKey, Secret, Service};

/// The objects that are known.
#[derive(Default)]
pub(super) struct Store {
    pub(super) ingresses: BTreeMap<NamespacedName, Arc<Ingress>>,
    pub(super) classes: BTreeMap<Box<str>, IngressClass>,
    pub(super) services: BTreeMap<NamespacedName, Service>,
    pub(super) endpoints: BTreeMap<NamespacedName, EndpointSlice>,
    pub(super) secrets: BTreeMap<NamespacedName, Secret>,
    pub(super) config_maps: BTreeMap<NamespacedName, ConfigMap>,
    /// By namespace and Service, then sorted by name. Most Services have one, and a map of one takes the room of eleven.
    slices: BTreeMap<NamespacedName, Vec<EndpointSlice>>,
    /// The Service of each slice, for its removal.
    slice_services: BTreeMap<NamespacedName, Box<str>>,
}

impl Store {
    /// How many objects are known.
    pub(super) fn len(&self) -> usize {
        let named = [self.services.len(), self.endpoints.len(), self.slice_services.len(), self.secrets.len()];
        self.ingresses.len() + self.classes.len() + self.config_maps.len() + named.iter().sum::<usize>()
    }

    /// Gives back the room that many changes leave in the maps.
    pub(super) fn repack(&mut self) {
        let Self { ingresses, classes: _, services, endpoints, secrets, config_maps, slices, slice_services } = self;
        repack(ingresses);
        repack(services);
        repack(endpoints);
        repack(secrets);
        repack(config_maps);
        repack(slices);
        repack(slice_services);
    }

    /// Keeps a slice that is new to the store; returns its Service.
    pub(super) fn put_slice(&mut self, slice: EndpointSlice) -> NamespacedName {
        let key = slice.meta.key();
        let service = NamespacedName { namespace: key.namespace.clone(), name: slice.service.clone() };
        self.slice_services.insert(key.clone(), slice.service.clone());
        let slices = self.slices.entry(service.clone()).or_default();
        slices.reserve_exact(1);
        slices.insert(slices.partition_point(|other| other.meta.name < key.name), slice);
        service
    }

    /// Forgets a slice; returns the Service that it belonged to.
    pub(super) fn remove_slice(&mut self, key: &NamespacedName) -> Option<NamespacedName> {
        let name = self.slice_services.remove(key)?;
        let service = NamespacedName { namespace: key.namespace.clone(), name };
        if let Some(slices) = self.slices.get_mut(&service) {
            slices.retain(|slice| slice.meta.name != key.name);
            if slices.is_empty() {
                self.slices.remove(&service);
            }
        }
        Some(service)
    }

    /// What a backend is resolved from.
    pub(super) fn of_backend(&self, reference: &BackendRef) -> backend::Sources<'_> {
        let name = NamespacedName { namespace: reference.namespace.clone(), name: reference.service.clone() };
        backend::Sources {
            service: self.services.get(&name),
            slices: self.slices.get(&name).into_iter().flatten().collect(),
            endpoints: self.endpoints.get(&name),
        }
    }

    /// The certificate in a Secret.
    pub(super) fn certificate(&self, reference: &CertificateRef) -> Option<Arc<Certificate>> {
        let name = NamespacedName { namespace: reference.namespace.clone(), name: reference.name.clone() };
        self.secrets.get(&name)?.certificate.clone()
    }

    /// The users in a Secret.
    pub(super) fn credentials(&self, reference: &CredentialsRef) -> Option<Arc<Credentials>> {
        let CredentialsRef { namespace, name, form } = reference;
        let secret = self.secrets.get(&NamespacedName { namespace: namespace.clone(), name: name.clone() })?;
        match form {
            CredentialsForm::File => secret.users_file.clone(),
            CredentialsForm::Map => Some(Arc::clone(&secret.users_map)),
        }
    }

    /// The authorities in a Secret, or why there are none.
    pub(super) fn authority(&self, reference: &AuthorityRef) -> Result<Arc<Authority>, String> {
        let AuthorityRef { namespace, name } = reference;
        let found = self.secrets.get(&NamespacedName { namespace: namespace.clone(), name: name.clone() });
        let secret = found.ok_or_else(|| format!("Secret {reference} does not exist"))?;
        match &secret.authority {
            None => Err(format!("Secret {reference} has no key \"ca.crt\"")),
            Some(Ok(authority)) => Ok(Arc::clone(authority)),
            Some(Err(error)) => Err(format!("Secret {reference}: {error}")),
        }
    }

    /// An object, in a form that is read as the same.
    pub(super) fn encode(&self, key: &ObjectKey) -> Option<Value> {
        let name = key.namespaced_name();
        match key.kind {
            Kind::ConfigMap => self.config_maps.get(&name).map(encode::config_map),
            Kind::EndpointSlice => self.slice(&name).map(encode::endpoint_slice),
            Kind::Endpoints => self.endpoints.get(&name).map(encode::endpoints),
            Kind::Ingress => self.ingresses.get(&name).map(|ingress| encode::ingress(ingress)),
            Kind::IngressClass => self.classes.get(&name.name).map(encode::ingress_class),
            Kind::Namespace => None,
            Kind::Secret => self.secrets.get(&name).map(encode::secret),
            Kind::Service => self.services.get(&name).map(encode::service),
        }
    }

    fn slice(&self, key: &NamespacedName) -> Option<&EndpointSlice> {
        let name = self.slice_services.get(key)?.clone();
        let slices = self.slices.get(&NamespacedName { namespace: key.namespace.clone(), name })?;
        slices.iter().find(|slice| slice.meta.name == key.name)
    }

    /// Whether a version of an object is known.
    pub(super) fn holds(&self, key: &ObjectKey) -> bool {
        let name = key.namespaced_name();
        match key.kind {
            Kind::ConfigMap => self.config_maps.contains_key(&name),
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
