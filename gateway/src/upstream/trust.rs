//! Certificates of connections to upstreams, in Pingora's terms, made once for each authority and each certificate.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use routing::{Authority, Certificate, CompiledRule, UpstreamTrust, subject_and_issuer};

/// Something that connections are kept apart by.
struct Numbered<T> {
    number: u64,
    /// `None` when Pingora could not read it, which it would not survive.
    value: Option<Arc<T>>,
}

/// The Secret of the rule does not hold what connections must be made with.
pub(crate) struct Untrusted;

/// Prepares the connections of a rule: who must vouch for the upstream, and what the gateway shows.
///
/// Pingora's own key of a pooled connection leaves the authorities out, so they are part of the group.
pub(crate) fn prepare(rule: &CompiledRule, peer: &mut HttpPeer) -> Result<(), Untrusted> {
    let Some(tls) = &rule.upstream_tls else { return Ok(()) };
    let UpstreamTrust { authority, certificate } = tls.trust().ok_or(Untrusted)?;
    let mut hasher = DefaultHasher::new();
    peer.group_key.hash(&mut hasher);
    if let Some(authority) = authority {
        let Numbered { number, value: Some(list) } = of_authority(&authority).ok_or(Untrusted)? else {
            return Err(Untrusted);
        };
        (1, number).hash(&mut hasher);
        peer.options.ca = Some(Arc::clone(&list.0));
        peer.options.verify_cert = true;
        peer.options.verify_hostname = true;
    }
    if let Some(certificate) = certificate {
        let Numbered { number, value: Some(pair) } = of_certificate(&certificate).ok_or(Untrusted)? else {
            return Err(Untrusted);
        };
        (2, number).hash(&mut hasher);
        peer.client_cert_key = Some(Arc::clone(pair));
    }
    peer.group_key = hasher.finish();
    Ok(())
}

/// A list of authorities, which has no size of its own.
struct Authorities(Arc<CaType>);

fn of_authority(authority: &Authority) -> Option<&Numbered<Authorities>> {
    authority.slot.get_or_init(|| {
        let certificates = authority.certificates();
        let list = is_readable(certificates).then(|| {
            let wrapped = certificates.iter().map(|one| WrappedX509::new(one.to_vec(), parse_x509));
            Arc::new(Authorities(wrapped.collect::<Vec<_>>().into()))
        });
        Numbered { number: next_number(), value: list }
    })
}

fn of_certificate(certificate: &Certificate) -> Option<&Numbered<CertKey>> {
    certificate.slot.get_or_init(|| {
        let chain = &certificate.key.cert;
        let pair = (is_readable(chain) && !chain.is_empty()).then(|| {
            let chain = chain.iter().map(|one| one.to_vec()).collect();
            Arc::new(CertKey::new(chain, certificate.private_key().to_vec()))
        });
        Numbered { number: next_number(), value: pair }
    })
}

/// Whether Pingora can read certificates: it takes for granted that it can.
fn is_readable(certificates: &[impl AsRef<[u8]>]) -> bool {
    certificates.iter().all(|one| subject_and_issuer(one.as_ref()).is_some())
}

fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
