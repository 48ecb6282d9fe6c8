//! Values of the keys about TLS, which ingress-nginx hands to OpenSSL as text.

use http::HeaderValue;
use routing::{CipherSuite, TlsVersions};

use super::GlobalSettings;
use super::value::Parsed;

/// The `hsts` keys. ingress-nginx sends the header unless it is told not to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hsts {
    pub(super) enabled: bool,
    pub(super) max_age: u32,
    pub(super) include_subdomains: bool,
    pub(super) preload: bool,
}

/// Names that stand for all suites; what they have beside ours has no forward secrecy or no authenticated encryption.
const EVERY_SUITE: [&str; 5] = ["DEFAULT", "HIGH", "ALL", "COMPLEMENTOFDEFAULT", "ECDHE"];

/// `ssl-protocols`: names that nginx knows, of which at least one must be one of ours.
pub(super) fn protocols(text: &str, settings: &mut GlobalSettings) -> Parsed<()> {
    let (mut has_12, mut has_13) = (false, false);
    for name in text.split_ascii_whitespace() {
        match name {
            "TLSv1.2" => has_12 = true,
            "TLSv1.3" => has_13 = true,
            // What is too old for anybody's good is left out, and said.
            other => settings.unknown.push(other.into()),
        }
    }
    settings.runtime.tls.versions = match (has_12, has_13) {
        (true, true) => TlsVersions::Both,
        (true, false) => TlsVersions::Tls12,
        (false, true) => TlsVersions::Tls13,
        (false, false) => {
            settings.unknown.clear();
            return Err("a list with TLSv1.2 or TLSv1.3, separated by spaces");
        }
    };
    Ok(())
}

/// `ssl-ciphers`: OpenSSL's list, as far as it names suites: `!NAME` and `-NAME` take one out.
pub(super) fn ciphers(text: &str, settings: &mut GlobalSettings) -> Parsed<()> {
    let mut suites: Vec<CipherSuite> = Vec::new();
    let mut excluded: Vec<CipherSuite> = Vec::new();
    for name in text.split([':', ',', ' ']).filter(|name| !name.is_empty()) {
        if let Some(name) = name.strip_prefix(['!', '-']) {
            // Whatever else is excluded is not there anyway.
            excluded.extend(CipherSuite::from_openssl_name(name));
        } else if EVERY_SUITE.contains(&name) {
            suites.extend(CipherSuite::ALL.iter().map(|(_, suite)| suite));
        } else if let Some(suite) = CipherSuite::from_openssl_name(name) {
            suites.push(suite);
        } else if !name.starts_with("TLS_") && !name.starts_with('@') {
            settings.unknown.push(name.into());
        }
    }
    let mut ciphers = Vec::new();
    for suite in suites {
        if !excluded.contains(&suite) && !ciphers.contains(&suite) {
            ciphers.push(suite);
        }
    }
    if ciphers.is_empty() {
        settings.unknown.clear();
        return Err("a list with a cipher suite of ECDHE and AES-GCM or ChaCha20, separated by colons");
    }
    settings.runtime.tls.ciphers = ciphers;
    Ok(())
}

impl Hsts {
    /// The value of `Strict-Transport-Security` (RFC 6797 section 6.1).
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let Self { enabled, max_age, include_subdomains, preload } = self;
        let subdomains = if *include_subdomains { "; includeSubDomains" } else { "" };
        let preload = if *preload { "; preload" } else { "" };
        if *enabled { HeaderValue::try_from(format!("max-age={max_age}{subdomains}{preload}")).ok() } else { None }
    }
}

impl Default for Hsts {
    fn default() -> Self {
        Self { enabled: true, max_age: 31_536_000, include_subdomains: true, preload: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openssl_cipher_lists_keep_the_suites_that_exist_here() {
        use CipherSuite::{EcdheEcdsaAes128GcmSha256, EcdheRsaAes256GcmSha384};
        for (text, expected, unknown) in [
            ("ECDHE-RSA-AES256-GCM-SHA384", vec![EcdheRsaAes256GcmSha384], vec![]),
            (
                "ECDHE-ECDSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256",
                vec![EcdheEcdsaAes128GcmSha256],
                vec!["DHE-RSA-AES128-GCM-SHA256"],
            ),
            ("TLS_AES_128_GCM_SHA256:ECDHE-RSA-AES256-GCM-SHA384:!aNULL:!MD5", vec![EcdheRsaAes256GcmSha384], vec![]),
        ] {
            let mut settings = GlobalSettings::default();
            assert_eq!(ciphers(text, &mut settings), Ok(()), "{text}");
            assert_eq!(settings.runtime.tls.ciphers, expected, "{text}");
            assert_eq!(settings.unknown, unknown.into_iter().map(Into::into).collect::<Vec<Box<str>>>(), "{text}");
        }
        let mut settings = GlobalSettings::default();
        assert_eq!(ciphers("HIGH:!ECDHE-RSA-AES256-GCM-SHA384", &mut settings), Ok(()));
        assert_eq!(settings.runtime.tls.ciphers.len(), 5);
        for text in ["", "RC4-SHA", "!ECDHE-RSA-AES256-GCM-SHA384", "DHE-RSA-AES128-GCM-SHA256"] {
            assert!(ciphers(text, &mut settings).is_err(), "{text}");
            assert_eq!(settings.runtime.tls.ciphers.len(), 5, "{text}");
        }
    }

    #[test]
    fn protocols_below_tls_1_2_are_left_out() {
        let mut settings = GlobalSettings::default();
        assert_eq!(protocols("TLSv1 TLSv1.1 TLSv1.3", &mut settings), Ok(()));
        assert_eq!(settings.runtime.tls.versions, TlsVersions::Tls13);
        assert_eq!(settings.take_unknown().as_deref(), Some("TLSv1, TLSv1.1"));
        assert!(protocols("SSLv3 TLSv1", &mut settings).is_err());
        assert!(protocols("", &mut settings).is_err());
    }

    #[test]
    fn hsts_is_on_with_subdomains_unless_it_is_switched_off() {
        let header = |hsts: Hsts| hsts.header().map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header(Hsts::default()).as_deref(), Some("max-age=31536000; includeSubDomains"));
        let preloaded = Hsts { max_age: 5, include_subdomains: false, preload: true, ..Hsts::default() };
        assert_eq!(header(preloaded).as_deref(), Some("max-age=5; preload"));
        assert_eq!(header(Hsts { enabled: false, ..Hsts::default() }), None);
    }
}
