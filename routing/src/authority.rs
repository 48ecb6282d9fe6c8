//! Certificate authorities: whom rules trust to vouch for clients, and for upstreams. Parsed once; the clock is an
//! argument.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, RootCertStore};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::certificate::{provider, sha256_hex};
use crate::slot::Slot;

/// The largest PEM text that is looked at, in bytes: a Secret cannot hold more than 1 MiB.
const MAX_PEM: usize = 1 << 20;
/// The most certificates that can stand between a leaf and an authority: webpki follows no longer chain. With more of
/// them at hand it would still try every order, of which there are too many where all have the same name.
const MAX_BETWEEN: usize = 6;

/// Why a text is no list of authorities.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The text has no PEM block of type `CERTIFICATE`, or a broken one.
    #[error("ca.crt holds no certificate in PEM form: {0}")]
    Certificates(String),
    /// A certificate that nothing can be verified by.
    #[error("ca.crt holds a certificate that cannot be trusted: {0}")]
    Anchor(String),
    /// A list of revoked certificates that cannot be read.
    #[error("ca.crl holds no list of revoked certificates in PEM form: {0}")]
    Revocations(String),
    /// More text than a Secret can hold.
    #[error("authorities are larger than {MAX_PEM} bytes")]
    TooLarge,
}

/// Certificate authorities, and what they have revoked.
pub struct Authority {
    certificates: Box<[CertificateDer<'static>]>,
    clients: Arc<dyn ClientCertVerifier>,
    fingerprint: Box<str>,
    /// Room for what the data plane derives from it.
    pub slot: Slot,
}

/// What authorities say of the certificate of a client, in the words of nginx's `ssl_client_verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// They vouch for it.
    Verified,
    /// They have nothing to do with it, and nothing else is wrong as far as can be told.
    Unknown,
    /// They do not vouch for it.
    Invalid(&'static str),
}

// === impl Authority ===

impl Authority {
    /// Reads certificates of authorities, and the certificates that they have revoked where that is told. With such a
    /// list, nothing is good that no list speaks of (nginx `ssl_crl`).
    pub fn from_pem(certificates: &[u8], revocations: Option<&[u8]>) -> Result<Self, AuthorityError> {
        let texts = [Some(certificates), revocations];
        if texts.into_iter().flatten().any(|text| text.len() > MAX_PEM) {
            return Err(AuthorityError::TooLarge);
        }
        let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<_, _>>()
            .map_err(|error| AuthorityError::Certificates(error.to_string()))?;
        if found.is_empty() {
            return Err(AuthorityError::Certificates("no CERTIFICATE block".to_owned()));
        }
        let mut roots = RootCertStore::empty();
        for certificate in &found {
            roots.add(certificate.clone()).map_err(|error| AuthorityError::Anchor(error.to_string()))?;
        }
        let revoked = revocations.map(read_revocations).transpose()?.unwrap_or_default();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .with_crls(revoked)
            .build()
            .map_err(|error| AuthorityError::Revocations(error.to_string()))?;
        // White space around says nothing, and does not survive everywhere.
        let [known, revoked] = [Some(certificates), revocations].map(|text| text.unwrap_or_default().trim_ascii());
        let fingerprint = sha256_hex(&[known, b"\0", revoked].concat()).into();
        Ok(Self { certificates: found.into(), clients, fingerprint, slot: Slot::default() })
    }

    /// The certificates.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// What is said of a chain, the leaf first, of which at most `depth` certificates, and never more than six, may stand
    /// between the leaf and an authority. `now` is the time since 1970.
    #[must_use]
    pub fn judge(&self, chain: &[CertificateDer<'_>], depth: u8, now: UnixTime) -> Judgement {
        let Some((leaf, rest)) = chain.split_first() else { return Judgement::Invalid(UNUSABLE) };
        let rest = rest.get(..usize::from(depth).min(MAX_BETWEEN)).unwrap_or(rest);
        match self.clients.verify_client_cert(leaf, rest, now) {
            Ok(_) => Judgement::Verified,
            Err(rustls::Error::InvalidCertificate(error)) => judgement(&error),
            Err(_) => Judgement::Invalid(UNUSABLE),
        }
    }
}

const UNUSABLE: &str = "certificate cannot be used";

fn judgement(error: &CertificateError) -> Judgement {
    match error {
        CertificateError::UnknownIssuer => Judgement::Unknown,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            Judgement::Invalid("certificate has expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Judgement::Invalid("certificate is not yet valid")
        }
        CertificateError::Revoked => Judgement::Invalid("certificate revoked"),
        CertificateError::UnknownRevocationStatus => Judgement::Invalid("unable to get certificate CRL"),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            Judgement::Invalid("unsupported certificate purpose")
        }
        _ => Judgement::Invalid(UNUSABLE),
    }
}

fn read_revocations(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, AuthorityError> {
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| AuthorityError::Revocations(error.to_string()))?;
    if lists.is_empty() {
        return Err(AuthorityError::Revocations("no X509 CRL block".to_owned()));
    }
    Ok(lists)
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.fingerprint)
    }
}

impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Authority {}

impl Serialize for Authority {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut authority = serializer.serialize_struct("Authority", 2)?;
        authority.serialize_field("certificates", &self.certificates.len())?;
        authority.serialize_field("sha256", &self.fingerprint)?;
        authority.end()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
        Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
    };

    use super::*;

    struct Ca {
        pem: String,
        der: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
    }

    fn parameters(name: &str, is_ca: bool) -> CertificateParams {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(2030, 1, 1);
        if is_ca {
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        }
        parameters
    }

    fn ca(name: &str, above: Option<&Ca>) -> Ca {
        let (key, parameters) = (KeyPair::generate().unwrap(), parameters(name, true));
        let certificate = match above {
            None => parameters.self_signed(&key).unwrap(),
            Some(above) => parameters.signed_by(&key, &above.issuer).unwrap(),
        };
        Ca { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(parameters, key) }
    }

    fn leaf(ca: &Ca, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut parameters = parameters("client", false);
        parameters.serial_number = Some(SerialNumber::from(7));
        change(&mut parameters);
        parameters.signed_by(&KeyPair::generate().unwrap(), &ca.issuer).unwrap().der().clone()
    }

    fn at(year: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_557_600 + 86_400))
    }

    #[test]
    fn an_authority_vouches_for_what_it_has_issued_and_for_as_long_as_it_holds() {
        let (root, other) = (ca("root", None), ca("root", None));
        let authority = Authority::from_pem(root.pem.as_bytes(), None).unwrap();
        let good = leaf(&root, |_| {});
        for (chain, year, expected) in [
            (vec![good.clone()], 2025, Judgement::Verified),
            (vec![good.clone()], 2031, Judgement::Invalid("certificate has expired")),
            (vec![good], 2019, Judgement::Invalid("certificate is not yet valid")),
            // The same name is not the same key.
            (vec![leaf(&other, |_| {})], 2025, Judgement::Invalid(UNUSABLE)),
            (vec![leaf(&ca("stranger", None), |_| {})], 2025, Judgement::Unknown),
            (
                vec![leaf(&root, |leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])],
                2025,
                Judgement::Invalid("unsupported certificate purpose"),
            ),
            (vec![CertificateDer::from(vec![1, 2, 3])], 2025, Judgement::Invalid(UNUSABLE)),
            (vec![], 2025, Judgement::Invalid(UNUSABLE)),
        ] {
            assert_eq!(authority.judge(&chain, 1, at(year)), expected, "{year} {} certificates", chain.len());
        }
    }

    #[test]
    fn no_more_certificates_than_the_depth_stand_in_between() {
        let root = ca("root", None);
        let first = ca("first", Some(&root));
        let second = ca("second", Some(&first));
        let authority = Authority::from_pem(root.pem.as_bytes(), None).unwrap();
        let one = [leaf(&first, |_| {}), first.der.clone()];
        let two = [leaf(&second, |_| {}), second.der.clone(), first.der.clone()];
        for (chain, depth, expected) in [
            (&one[..], 0, Judgement::Unknown),
            (&one, 1, Judgement::Verified),
            (&two, 1, Judgement::Unknown),
            (&two, 2, Judgement::Verified),
        ] {
            assert_eq!(authority.judge(chain, depth, at(2025)), expected, "{} at {depth}", chain.len());
        }
    }

    #[test]
    fn no_more_than_six_certificates_stand_in_between_at_any_depth() {
        let root = ca("root", None);
        let authority = Authority::from_pem(root.pem.as_bytes(), None).unwrap();
        let mut above = vec![ca("1", Some(&root))];
        for n_between in 1..=20 {
            let lowest = above.first().unwrap();
            let chain: Vec<_> =
                [leaf(lowest, |_| {})].into_iter().chain(above.iter().map(|ca| ca.der.clone())).collect();
            let expected = if n_between <= 6 { Judgement::Verified } else { Judgement::Unknown };
            assert_eq!(authority.judge(&chain, u8::MAX, at(2025)), expected, "{n_between}");
            let next = ca(&(n_between + 1).to_string(), above.first());
            above.insert(0, next);
        }
    }

    /// Sixty certificates that may all have issued each other can be put in more orders than anybody can try.
    #[test]
    fn a_chain_of_many_ways_is_given_up_before_they_are_tried() {
        let authority = Authority::from_pem(ca("root", None).pem.as_bytes(), None).unwrap();
        let same: Vec<_> = (0..60).map(|_| ca("same", None)).collect();
        let chain: Vec<_> = [leaf(&same[0], |_| {})].into_iter().chain(same.iter().map(|ca| ca.der.clone())).collect();
        assert_eq!(authority.judge(&chain, u8::MAX, at(2025)), Judgement::Unknown);
        // With all of them webpki runs out of what it may spend, which takes it long.
        let spent = authority.clients.verify_client_cert(&chain[0], &chain[1..], at(2025)).unwrap_err();
        assert_ne!(spent, CertificateError::UnknownIssuer.into());
    }

    #[test]
    fn what_an_authority_has_revoked_is_no_longer_good() {
        let root = ca("root", None);
        let list = |serials: &[u64]| {
            let revoked = serials.iter().map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from(*serial),
                revocation_time: date_time_ymd(2021, 1, 1),
                reason_code: None,
                invalidity_date: None,
            });
            let parameters = CertificateRevocationListParams {
                this_update: date_time_ymd(2021, 1, 1),
                next_update: date_time_ymd(2029, 1, 1),
                crl_number: SerialNumber::from(1),
                issuing_distribution_point: None,
                revoked_certs: revoked.collect(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            parameters.signed_by(&root.issuer).unwrap().pem().unwrap()
        };
        let client = leaf(&root, |_| {});
        for (serials, expected) in [(&[8][..], Judgement::Verified), (&[7], Judgement::Invalid("certificate revoked"))]
        {
            let authority = Authority::from_pem(root.pem.as_bytes(), Some(list(serials).as_bytes())).unwrap();
            assert_eq!(authority.judge(std::slice::from_ref(&client), 1, at(2025)), expected, "{serials:?}");
        }
        // A list of somebody else says nothing, and what no list speaks of is not good.
        let other = ca("other", None);
        let both = [root.pem.as_str(), &other.pem].concat();
        let authority = Authority::from_pem(both.as_bytes(), Some(list(&[]).as_bytes())).unwrap();
        let stranger = leaf(&other, |_| {});
        assert_eq!(authority.judge(&[stranger], 1, at(2025)), Judgement::Invalid("unable to get certificate CRL"));
    }

    #[test]
    fn a_broken_text_is_no_authority() {
        let root = ca("root", None);
        let good = root.pem.as_bytes();
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (certificates, revocations) in [
            (&b""[..], None),
            (b"nonsense", None),
            (broken, None),
            (&[good, broken].concat(), None),
            (good, Some(&b""[..])),
            (good, Some(b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")),
        ] {
            assert!(Authority::from_pem(certificates, revocations).is_err());
        }
        assert_eq!(Authority::from_pem(&vec![b'-'; MAX_PEM + 1], None).unwrap_err(), AuthorityError::TooLarge);
    }
}
