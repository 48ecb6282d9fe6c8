//! The certificates of a host.

use routing::HostPattern;
use routing::model::{CertificateRef, HostTls};

use super::Neighbours;
use crate::index::certificate_refs;
use crate::ingress::Ingress;
use crate::problem::{Problem, Reason};
use crate::resources::NamespacedName;

/// The certificates of the oldest Ingress of the host that has a `tls` section: those of the entry that names the host,
/// else all of its Secrets, of which the one is presented that covers the name.
pub(super) fn tls(neighbours: &Neighbours<'_>, problems: &mut Vec<(NamespacedName, Problem)>) -> Option<HostTls> {
    if *neighbours.host == HostPattern::Any {
        // Entries without hosts, of Ingresses that serve any host: each certificate for the names that it covers.
        let certificates: Vec<CertificateRef> =
            neighbours.ingresses.iter().flat_map(|ingress| certificate_refs(ingress)).collect();
        return (!certificates.is_empty()).then_some(HostTls::Terminate(certificates));
    }
    let mut ingresses = neighbours.ingresses.iter().filter(|ingress| !ingress.tls.is_empty());
    let winner = ingresses.next()?;
    let certificates: Vec<CertificateRef> = match named(winner, neighbours.host) {
        Some((_, certificate)) => certificate.into_iter().collect(),
        None => certificate_refs(winner).collect(),
    };
    for loser in ingresses {
        let Some((index, certificate)) = named(loser, neighbours.host) else { continue };
        if !certificates.iter().eq(&certificate) {
            let (host, winner) = (neighbours.host, winner.meta.key());
            let message = format_args!("the certificate of host {host} comes from Ingress {winner}").to_string();
            let problem = Problem::warning(Reason::Conflict, format!("spec.tls[{index}]"), message);
            problems.push((loser.meta.key(), problem));
        }
    }
    Some(HostTls::Terminate(certificates))
}

/// The entry of `tls` that names the host: its place, and its certificate if it has one.
fn named(ingress: &Ingress, host: &HostPattern) -> Option<(usize, Option<CertificateRef>)> {
    let (index, tls) = ingress.tls.iter().enumerate().find(|(_, tls)| tls.hosts.contains(host))?;
    let namespace = ingress.meta.namespace.clone();
    Some((index, tls.secret.clone().map(|name| CertificateRef { namespace, name })))
}
