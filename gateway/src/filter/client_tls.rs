//! Client certificates: who gets through with which, and what upstreams are told of them.

use http::{HeaderName, HeaderValue};
use routing::model::{CertificateDemand, CertificateDetail};
use routing::{CompiledClientTls, CompiledRule, ConnectionView, Judgement, RequestView, Scheme};

use super::access::Refusal;
use crate::client_certificate::{ClientCertificate, ClientIdentity};
use crate::connection::ConnectionInfo;
use crate::failure::Failure;
use crate::request_head::RequestHead;

const VERIFY: HeaderName = HeaderName::from_static("ssl-client-verify");
const SUBJECT: HeaderName = HeaderName::from_static("ssl-client-subject-dn");
const ISSUER: HeaderName = HeaderName::from_static("ssl-client-issuer-dn");
const CERTIFICATE: HeaderName = HeaderName::from_static("ssl-client-cert");

/// Whether a connection shows what the host of a request demands.
///
/// nginx answers 400 where a certificate is missing or bad, and 421 where the connection was made for another host, whose
/// clients need none. In plain text nobody shows anything.
pub(crate) fn admit(
    tls: &CompiledClientTls,
    connection: &ConnectionInfo,
    view: &RequestView<'_>,
    connection_view: &ConnectionView<'_>,
) -> Result<(), Refusal> {
    if connection.scheme == Scheme::Https && matches!(connection.identity, ClientIdentity::Unasked) {
        return Err(Refusal::of(Failure::Misdirected));
    }
    let policy = &tls.policy;
    let certificate = shown(connection);
    let Some(judgement) = judgement(tls, certificate) else { return Err(Refusal::of(Failure::Denied)) };
    let is_good = match (policy.demand, judgement) {
        (_, Some(Judgement::Verified)) => true,
        (CertificateDemand::Verified, _) => false,
        (CertificateDemand::Optional | CertificateDemand::OptionalUnknown, None) => true,
        (CertificateDemand::OptionalUnknown, Some(Judgement::Unknown)) => true,
        (CertificateDemand::Optional | CertificateDemand::OptionalUnknown, Some(_)) => false,
    };
    if !is_good {
        let elsewhere = tls.error_page(view, connection_view);
        return Err(Refusal { elsewhere, ..Refusal::of(Failure::CertificateMissing) });
    }
    let subject = certificate.map(ClientCertificate::subject).unwrap_or_default();
    match &policy.subject {
        Some(wanted) if !wanted.matches(subject.as_bytes()) => Err(Refusal::of(Failure::Forbidden)),
        _ => Ok(()),
    }
}

/// Tells an upstream who the client is. What a client says of itself in these headers never passes.
pub(super) fn tell(rule: &CompiledRule, connection: &ConnectionInfo, request: &mut RequestHead<'_>) {
    request.remove_all(&[VERIFY, SUBJECT, ISSUER, CERTIFICATE]);
    let Some(tls) = rule.client_tls.as_ref().filter(|_| connection.scheme == Scheme::Https) else { return };
    let certificate = shown(connection);
    let verify = match judgement(tls, certificate).flatten() {
        None => HeaderValue::from_static("NONE"),
        Some(Judgement::Verified) => HeaderValue::from_static("SUCCESS"),
        Some(Judgement::Unknown) => HeaderValue::from_static("FAILED:unable to verify the first certificate"),
        // It did not get through when it was judged; the authorities have changed since.
        Some(Judgement::Invalid(_)) => HeaderValue::from_static("FAILED:certificate cannot be verified"),
    };
    request.insert(VERIFY, verify);
    let Some(certificate) = certificate else { return };
    for (name, text) in [(SUBJECT, certificate.subject()), (ISSUER, certificate.issuer())] {
        if let (false, Ok(value)) = (text.is_empty(), HeaderValue::from_str(text)) {
            request.insert(name, value);
        }
    }
    if let Some(text) = certificate.escaped().filter(|_| tls.policy.told == CertificateDetail::Whole) {
        request.insert(CERTIFICATE, text);
    }
}

fn shown(connection: &ConnectionInfo) -> Option<&ClientCertificate> {
    match &connection.identity {
        ClientIdentity::Asked(certificate) => certificate.as_deref(),
        ClientIdentity::Unasked => None,
    }
}

/// What the authorities of the moment say of a certificate, where there is one; `None` while there are no authorities.
fn judgement(tls: &CompiledClientTls, certificate: Option<&ClientCertificate>) -> Option<Option<Judgement>> {
    let authority = tls.authority.load();
    let authority = authority.as_ref()?;
    Some(certificate.map(|certificate| certificate.judged_by(authority, tls.policy.depth)))
}
