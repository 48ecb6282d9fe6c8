//! What a batch of changes touches, and has to be looked at again.

use std::collections::BTreeSet;

use routing::HostPattern;
use routing::model::{BackendRef, CertificateRef};

use crate::index::{backend_refs, certificate_refs};
use crate::ingress::Ingress;
use crate::resources::{NamespacedName, ObjectKey};

/// What has to be looked at again.
#[derive(Default)]
pub(super) struct Affected {
    pub(super) hosts: BTreeSet<HostPattern>,
    pub(super) backends: BTreeSet<BackendRef>,
    pub(super) certificates: BTreeSet<CertificateRef>,
    /// Objects about which there may be something else to say.
    pub(super) touched: BTreeSet<ObjectKey>,
    pub(super) settings: bool,
}

impl Affected {
    pub(super) fn add_ingress(&mut self, ingress: &Ingress) {
        self.hosts.extend(ingress.hosts().cloned());
        self.backends.extend(backend_refs(ingress));
        if ingress.annotations.canary.is_on {
            return;
        }
        self.hosts.extend(ingress.annotations.server_alias.iter().cloned());
        self.certificates.extend(certificate_refs(ingress));
    }

    pub(super) fn add_certificate(&mut self, secret: &NamespacedName) {
        let NamespacedName { namespace, name } = secret.clone();
        self.certificates.insert(CertificateRef { namespace, name });
    }

    pub(super) fn add_default_backend(&mut self, default_backend: Option<&BackendRef>, service: &NamespacedName) {
        let is_same = |backend: &&BackendRef| backend.namespace == service.namespace && backend.service == service.name;
        self.backends.extend(default_backend.filter(is_same).cloned());
    }
}
