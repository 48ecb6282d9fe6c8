//! Certificates that clients show: taken in the handshake, judged afterwards.
//!
//! The handshake proves that a client holds the key of its certificate, and nothing else: ingress-nginx answers a bad one
//! with 400, which takes a connection. Who vouches for it is asked when a request comes, by the authorities of the
//! moment, and not again as long as they are the same.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use routing::{Authority, Judgement, subject_and_issuer};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};

/// What a client has shown of itself.
#[derive(Debug, Default)]
pub(crate) enum ClientIdentity {
    /// Nobody asked.
    #[default]
    Unasked,
    /// It was asked for a certificate, and showed this one, or none.
    Asked(Option<Box<ClientCertificate>>),
}

/// The certificate of a client that holds its key.
#[derive(Debug)]
pub(crate) struct ClientCertificate {
    chain: Box<[CertificateDer<'static>]>,
    /// Its subject and issuer; empty when they cannot be read.
    names: (String, String),
    /// All of it, as a header value.
    text: OnceLock<Option<HeaderValue>>,
    judged: ArcSwapOption<Judged>,
}

#[derive(Debug)]
struct Judged {
    authority: Arc<Authority>,
    depth: u8,
    judgement: Judgement,
}

/// Takes every certificate whose key the client holds.
#[derive(Debug)]
pub(crate) struct AnyClientCertificate(pub(crate) Arc<CryptoProvider>);

/// What nginx's `ssl_client_escaped_cert` escapes.
const ESCAPED: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Characters in a line of PEM (RFC 7468 section 2).
const PEM_LINE: usize = 64;

// === impl ClientIdentity ===

impl ClientIdentity {
    /// A client that was asked, and what it showed.
    pub(crate) fn asked(chain: Option<&[CertificateDer<'_>]>) -> Self {
        let shown = chain.filter(|chain| !chain.is_empty()).map(|chain| {
            let chain: Box<[CertificateDer<'static>]> = chain.iter().map(|one| one.clone().into_owned()).collect();
            let names = chain.first().and_then(|leaf| subject_and_issuer(leaf)).unwrap_or_default();
            Box::new(ClientCertificate { chain, names, text: OnceLock::new(), judged: ArcSwapOption::empty() })
        });
        Self::Asked(shown)
    }
}

// === impl ClientCertificate ===

impl ClientCertificate {
    /// The distinguished name of whom it is for.
    pub(crate) fn subject(&self) -> &str {
        &self.names.0
    }

    /// The distinguished name of who has issued it.
    pub(crate) fn issuer(&self) -> &str {
        &self.names.1
    }

    /// What authorities say of it.
    pub(crate) fn judged_by(&self, authority: &Arc<Authority>, depth: u8) -> Judgement {
        let is_same = |known: &&Arc<Judged>| Arc::ptr_eq(&known.authority, authority) && known.depth == depth;
        if let Some(known) = self.judged.load().as_ref().filter(is_same) {
            return known.judgement;
        }
        let judgement = authority.judge(&self.chain, depth, UnixTime::now());
        self.judged.store(Some(Arc::new(Judged { authority: Arc::clone(authority), depth, judgement })));
        judgement
    }

    /// All of it as PEM, escaped so that it fits into one line.
    pub(crate) fn escaped(&self) -> Option<HeaderValue> {
        let text = || {
            let body = STANDARD.encode(self.chain.first()?);
            let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
            let mut rest = body.as_str();
            while !rest.is_empty() {
                let (line, tail) = rest.split_at(rest.len().min(PEM_LINE));
                pem.push_str(line);
                pem.push('\n');
                rest = tail;
            }
            pem.push_str("-----END CERTIFICATE-----\n");
            HeaderValue::try_from(percent_encoding::utf8_percent_encode(&pem, ESCAPED).to_string()).ok()
        };
        self.text.get_or_init(text).clone()
    }
}

// === impl AnyClientCertificate ===

impl ClientCertVerifier for AnyClientCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
