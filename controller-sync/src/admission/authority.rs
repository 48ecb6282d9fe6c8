//! What the webhook shows of itself when nobody else issues it a certificate: an authority of its own, what that has
//! signed, and when they are made anew.
//!
//! Nothing here asks anybody anything, and the time is given.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use routing::{Certificate, HostPattern, WildcardDepth};
use serde_json::{Value, json};
use zeroize::Zeroizing;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an authority holds. Whoever relies on it has to be told of another one.
const AUTHORITY_LIFE: Duration = DAY.saturating_mul(3650);
/// How long a certificate holds, and how much of that is left when another one is made.
const LIFE: Duration = DAY.saturating_mul(360);
const RENEWED_BEFORE: Duration = DAY.saturating_mul(120);
/// Clocks of others may be behind ours.
const SKEW: Duration = Duration::from_secs(60 * 60);
/// The common name of the authority, which is all that is known of one whose key is read.
const AUTHORITY_NAME: &str = "authority of a Penstock webhook";

/// Keys of the Secret that it is kept in. The middle two are those of a Secret of type kubernetes.io/tls.
const AUTHORITY: &str = "ca.crt";
const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITY_KEY: &str = "ca.key";

/// An authority, and a certificate that it has signed.
pub(super) struct Credentials {
    /// The authority as PEM; behind it the one before, for as long as somebody may still be shown its certificates.
    bundle: String,
    authority_key: Zeroizing<String>,
    authority_ends: SystemTime,
    chain: String,
    key: Zeroizing<String>,
    certificate: Arc<Certificate>,
}

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum MakeError {
    #[error("make a certificate: {0}")]
    Rcgen(#[from] rcgen::Error),
    #[error("read what was made: {0}")]
    Certificate(#[from] routing::CertificateError),
}

impl Credentials {
    /// What the `data` of a Secret holds; `None` when that is not all of it, or does not fit together.
    pub(super) fn read(data: &Value) -> Option<Self> {
        let text = |name: &str| -> Option<String> {
            let bytes = STANDARD.decode(data.get(name)?.as_str()?).ok()?;
            String::from_utf8(bytes).ok()
        };
        let (bundle, chain) = (text(AUTHORITY)?, text(CHAIN)?);
        let (authority_key, key) = (Zeroizing::new(text(AUTHORITY_KEY)?), Zeroizing::new(text(KEY)?));
        Self::new(bundle, authority_key, chain, key).ok()
    }

    fn new(
        bundle: String,
        authority_key: Zeroizing<String>,
        chain: String,
        key: Zeroizing<String>,
    ) -> Result<Self, routing::CertificateError> {
        let authority = Certificate::from_pem(bundle.as_bytes(), authority_key.as_bytes())?;
        let certificate = Arc::new(Certificate::from_pem(chain.as_bytes(), key.as_bytes())?);
        Ok(Self { bundle, authority_key, authority_ends: end(&authority), chain, key, certificate })
    }

    /// Makes them for names, by the authority that was there before when it holds for long enough.
    pub(super) fn make(previous: Option<&Self>, names: &[String], now: SystemTime) -> Result<Self, MakeError> {
        let kept = previous.filter(|previous| previous.authority_ends >= now + LIFE);
        let (bundle, authority_key) = match kept {
            Some(kept) => (kept.bundle.clone(), kept.authority_key.clone()),
            None => {
                let key = KeyPair::generate()?;
                let made = authority(now).self_signed(&key)?.pem();
                // Only the last one before: a bundle does not grow for ever.
                let before = previous.and_then(|previous| first_block(&previous.bundle)).unwrap_or_default();
                (format!("{made}{before}"), Zeroizing::new(key.serialize_pem()))
            }
        };
        let issuer = Issuer::new(authority(now), KeyPair::from_pem(&authority_key)?);
        let key = KeyPair::generate()?;
        let chain = leaf(names, now)?.signed_by(&key, &issuer)?.pem();
        Ok(Self::new(bundle, authority_key, chain, Zeroizing::new(key.serialize_pem()))?)
    }

    /// Whether it is for these names, and will be for a while.
    pub(super) fn serve(&self, names: &[String], now: SystemTime) -> bool {
        let is_covered = |name: &String| {
            HostPattern::parse(name, WildcardDepth::One).is_ok_and(|name| self.certificate.names.cover(&name))
        };
        let lasts = end(&self.certificate) > now + RENEWED_BEFORE && self.authority_ends > now + RENEWED_BEFORE;
        lasts && names.iter().all(is_covered)
    }

    /// What a Secret has to say to hold it.
    pub(super) fn data(&self) -> Value {
        json!({
            AUTHORITY: STANDARD.encode(&self.bundle),
            AUTHORITY_KEY: STANDARD.encode(self.authority_key.as_bytes()),
            CHAIN: STANDARD.encode(&self.chain),
            KEY: STANDARD.encode(self.key.as_bytes()),
        })
    }

    /// What API servers are told to rely on, as they are told it.
    pub(super) fn bundle(&self) -> String {
        STANDARD.encode(&self.bundle)
    }

    /// What the webhook shows.
    pub(super) fn certificate(&self) -> &Arc<Certificate> {
        &self.certificate
    }
}

fn end(certificate: &Certificate) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(certificate.not_after).unwrap_or_default())
}

fn authority(now: SystemTime) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, AUTHORITY_NAME);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    parameters.not_before = (now - SKEW).into();
    parameters.not_after = (now + AUTHORITY_LIFE).into();
    parameters
}

fn leaf(names: &[String], now: SystemTime) -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.use_authority_key_identifier_extension = true;
    parameters.not_before = (now - SKEW).into();
    parameters.not_after = (now + LIFE).into();
    Ok(parameters)
}

/// The first block of a PEM text.
fn first_block(pem: &str) -> Option<&str> {
    const END: &str = "-----END CERTIFICATE-----\n";
    pem.find(END).and_then(|at| pem.get(..at + END.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        vec!["admission.penstock.svc".to_owned()]
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn made() -> Credentials {
        Credentials::make(None, &names(), now()).unwrap()
    }

    #[test]
    fn what_a_secret_holds_is_what_was_made() {
        let (made, names) = (made(), names());
        let read = Credentials::read(&made.data()).unwrap();
        assert_eq!(read.data(), made.data());
        assert_eq!(read.certificate().fingerprint, made.certificate().fingerprint);
        assert!(read.serve(&names, now()));
    }

    #[test]
    fn a_secret_without_all_of_it_or_with_keys_of_others_holds_nothing() {
        let (mut mixed, other) = (made().data(), made().data());
        for name in [AUTHORITY, AUTHORITY_KEY, CHAIN, KEY] {
            let mut data = other.clone();
            data.as_object_mut().unwrap().remove(name);
            assert!(Credentials::read(&data).is_none(), "{name}");
            data[name] = json!("not base64");
            assert!(Credentials::read(&data).is_none(), "{name}");
        }
        mixed[KEY] = other[KEY].clone();
        assert!(Credentials::read(&mixed).is_none());
        assert!(Credentials::read(&Value::Null).is_none());
    }

    #[test]
    fn another_certificate_is_made_by_the_same_authority_when_a_third_of_its_life_is_left() {
        let (made, names) = (made(), names());
        assert!(made.serve(&names, now() + LIFE / 3 * 2 - DAY));
        let later = now() + LIFE / 3 * 2 + DAY;
        assert!(!made.serve(&names, later));
        let renewed = Credentials::make(Some(&made), &names, later).unwrap();
        assert!(renewed.serve(&names, later));
        assert_eq!(renewed.bundle(), made.bundle());
        assert_ne!(renewed.certificate().fingerprint, made.certificate().fingerprint);
    }

    #[test]
    fn a_new_authority_is_relied_on_beside_the_one_before_and_no_earlier_one() {
        let first = made();
        let second = Credentials::make(Some(&first), &names(), now() + AUTHORITY_LIFE).unwrap();
        assert!(second.bundle.ends_with(&first.bundle) && second.bundle.len() > first.bundle.len());
        assert_ne!(*second.authority_key, *first.authority_key);
        let third = Credentials::make(Some(&second), &names(), now() + AUTHORITY_LIFE * 2).unwrap();
        assert!(!third.bundle.contains(&first.bundle));
        assert_eq!(third.bundle.matches("BEGIN CERTIFICATE").count(), 2);
    }

    #[test]
    fn no_certificate_outlives_its_authority() {
        let first = made();
        let late = now() + AUTHORITY_LIFE - LIFE + DAY;
        let second = Credentials::make(Some(&first), &names(), late).unwrap();
        assert_ne!(second.bundle(), first.bundle());
        assert!(end(second.certificate()) < second.authority_ends);
    }

    #[test]
    fn a_certificate_for_other_names_does_not_serve() {
        assert!(!made().serve(&["other.penstock.svc".to_owned()], now()));
        let both = [names(), vec!["other.penstock.svc".to_owned()]].concat();
        assert!(Credentials::make(None, &both, now()).unwrap().serve(&both, now()));
    }

    #[test]
    fn the_authority_has_signed_the_certificate() {
        let made = made();
        let mut roots = rustls::RootCertStore::empty();
        let authority = Certificate::from_pem(made.bundle.as_bytes(), made.authority_key.as_bytes()).unwrap();
        roots.add(authority.key.cert[0].clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let name = rustls::pki_types::ServerName::try_from("admission.penstock.svc").unwrap();
        let at = rustls::pki_types::UnixTime::since_unix_epoch(now().duration_since(SystemTime::UNIX_EPOCH).unwrap());
        rustls::client::danger::ServerCertVerifier::verify_server_cert(
            &*verifier,
            &made.certificate().key.cert[0],
            &[],
            &name,
            &[],
            at,
        )
        .unwrap();
    }
}
