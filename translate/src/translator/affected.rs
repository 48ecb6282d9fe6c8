//! What a batch of changes touches, and has to be looked at again.

use std::collections::BTreeSet;

use routing::HostPattern;
use routing::model::{AuthorityRef, BackendRef, CertificateRef, CredentialsForm, CredentialsRef};

use crate::index::{authority_refs, backend_refs, credentials_ref, twins, used_certificates};
use crate::ingress::Ingress;
use crate::resources::{NamespacedName, ObjectKey};

/// What has to be looked at again.
#[derive(Default)]
pub(super) struct Affected {
    pub(super) hosts: BTreeSet<HostPattern>,
    pub(super) backends: BTreeSet<BackendRef>,
    pub(super) certificates: BTreeSet<CertificateRef>,
    pub(super) credentials: BTreeSet<CredentialsRef>,
    pub(super) authorities: BTreeSet<AuthorityRef>,
    /// Objects about which there may be something else to say.
    pub(super) touched: BTreeSet<ObjectKey>,
    pub(super) settings: bool,
    /// The ports of TCP and UDP services.
    pub(super) streams: bool,
}

impl Affected {
    pub(super) fn add_ingress(&mut self, ingress: &Ingress) {
        self.hosts.extend(ingress.hosts().cloned());
        self.backends.extend(backend_refs(ingress));
        if ingress.annotations.canary.is_on {
            return;
        }
        self.hosts.extend(ingress.annotations.server_alias.iter().cloned());
        self.hosts.extend(twins(ingress));
        self.certificates.extend(used_certificates(ingress));
        self.credentials.extend(credentials_ref(ingress));
        self.authorities.extend(authority_refs(ingress));
    }

    /// Everything that a Secret may hold.
    pub(super) fn add_secret(&mut self, secret: &NamespacedName) {
        let NamespacedName { namespace, name } = secret;
        self.certificates.insert(CertificateRef { namespace: namespace.clone(), name: name.clone() });
        self.authorities.insert(AuthorityRef { namespace: namespace.clone(), name: name.clone() });
        for form in [CredentialsForm::File, CredentialsForm::Map] {
            self.credentials.insert(CredentialsRef { namespace: namespace.clone(), name: name.clone(), form });
        }
    }

    /// A backend that no Ingress names, where it is one of this Service.
    pub(super) fn add_of_service(&mut self, backend: Option<&BackendRef>, service: &NamespacedName) {
        let is_same = |backend: &&BackendRef| backend.namespace == service.namespace && backend.service == service.name;
        self.backends.extend(backend.filter(is_same).cloned());
    }
}
