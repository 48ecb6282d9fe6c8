//! The certificates of a host.

use routing::HostPattern;
use routing::model::{CertificateRef, HostTls};

use super::Neighbours;
use crate::index::certificate_refs;

/// The certificates of the oldest Ingress of the host that has a `tls` section: those of the entry that names the host,
/// else all of its Secrets, of which the one is presented that covers the name.
pub(super) fn tls(neighbours: &Neighbours<'_>) -> Option<HostTls> {
    if *neighbours.host == HostPattern::Any {
        // Entries without hosts, of Ingresses that serve any host: each certificate for the names that it covers.
        let certificates: Vec<CertificateRef> =
            neighbours.ingresses.iter().flat_map(|ingress| certificate_refs(ingress)).collect();
        return (!certificates.is_empty()).then_some(HostTls::Terminate(certificates));
    }
    let ingress = neighbours.ingresses.iter().find(|ingress| !ingress.tls.is_empty())?;
    let named = ingress.tls.iter().find(|tls| tls.hosts.contains(neighbours.host));
    let certificates = match named {
        Some(tls) => tls
            .secret
            .iter()
            .map(|secret| CertificateRef { namespace: ingress.meta.namespace.clone(), name: secret.clone() })
            .collect(),
        None => certificate_refs(ingress).collect(),
    };
    Some(HostTls::Terminate(certificates))
}
