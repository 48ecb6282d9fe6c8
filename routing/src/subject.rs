//! Distinguished names as nginx shows them: RFC 2253, with what is not ASCII as escaped bytes.

use std::fmt::Write as _;

use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The names in a certificate: of whom it is for, and of who has issued it. `None` for what is no certificate.
#[must_use]
pub fn subject_and_issuer(certificate: &[u8]) -> Option<(String, String)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some((text(certificate.subject()), text(certificate.issuer())))
}

/// "The output consists of the string encodings of each RelativeDistinguishedName in the RDNSequence, starting with the
/// last element of the sequence and moving backwards toward the first" (RFC 2253 section 2.1).
fn text(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for names in name.iter_rdn() {
        let attributes: Vec<String> = names.iter().map(attribute).collect();
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type();
    let mut text = match oid2abbrev(oid, oid_registry()) {
        Ok(name) => name.to_owned(),
        Err(_) => oid.to_id_string(),
    };
    text.push('=');
    match attribute.as_str() {
        Ok(value) => escape(value, &mut text),
        // What is no text is shown as it is encoded.
        Err(_) => {
            text.push('#');
            for byte in attribute.attr_value().data {
                // A text takes everything, so writing cannot fail.
                let _ = write!(text, "{byte:02X}");
            }
        }
    }
    text
}

/// RFC 2253 section 2.4. Everything that is not visible ASCII is escaped, so that the text is a header value and nothing
/// in it can be taken for another name.
fn escape(value: &str, text: &mut String) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b'#' | b' ' if at == 0 => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' ' if at == last => text.push_str("\\ "),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn shown(names: &[(DnType, &str)]) -> String {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name = DistinguishedName::new();
        for (kind, value) in names {
            parameters.distinguished_name.push(kind.clone(), *value);
        }
        let certificate = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let (subject, issuer) = subject_and_issuer(certificate.der()).unwrap();
        assert_eq!(subject, issuer, "self-signed");
        subject
    }

    /// The first two are examples of RFC 2253 section 5.
    #[test]
    fn names_are_written_as_rfc_2253_has_them() {
        use DnType::{
            CommonName, CountryName, LocalityName, OrganizationName, OrganizationalUnitName, StateOrProvinceName,
        };
        for (names, expected) in [
            (
                &[(CountryName, "GB"), (OrganizationName, "Isode Limited"), (CommonName, "Steve Kille")][..],
                "CN=Steve Kille,O=Isode Limited,C=GB",
            ),
            (
                &[(CountryName, "GB"), (OrganizationName, "Sue, Grabbit and Runn"), (CommonName, "L. Eagle")],
                "CN=L. Eagle,O=Sue\\, Grabbit and Runn,C=GB",
            ),
            (&[(LocalityName, "a"), (StateOrProvinceName, "b"), (OrganizationalUnitName, "c")], "OU=c,ST=b,L=a"),
            (&[(CommonName, " #x ")], "CN=\\ #x\\ "),
            (&[(CommonName, "#x")], "CN=\\#x"),
            // A name in a name stays one.
            (&[(CommonName, "a,CN=admin+x\\\"<>;")], "CN=a\\,CN=admin\\+x\\\\\\\"\\<\\>\\;"),
            (&[(CommonName, "L\u{fc}\n")], "CN=L\\C3\\BC\\0A"),
            (&[], ""),
        ] {
            assert_eq!(shown(names), expected);
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_name() {
        assert_eq!(subject_and_issuer(b"nonsense"), None);
    }
}
