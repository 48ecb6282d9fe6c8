//! The name that a TLS client asks for, and what it gets: the first bytes of a connection go through the acceptor that
//! the gateway reads them by, and a name through the tables of a snapshot. No certificate is another tenant's, and
//! nobody gets around the certificate that a host demands of its clients.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use routing::model::{ListenerKey, Protocol};
use routing::{CertificateChoice, LiveRouting, Publisher};
use rustls::pki_types::DnsName;
use rustls::server::Acceptor;
use translate::{Change, Config, Decoded, ListenerConfig, Translator, decode};

/// `exact.test`, which demands certificates of its clients, and `*.wild.test`, which does not.
const MANIFESTS: &str = include_str!("server_name.yaml");

static LISTENER: LazyLock<ListenerKey> = LazyLock::new(|| ListenerKey::tcp(([0; 4], 443).into()));
static LIVE: LazyLock<Arc<LiveRouting>> = LazyLock::new(live);

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    if first % 2 == 1 {
        let Ok(name) = std::str::from_utf8(bytes) else { return };
        // Whatever it is, it is looked up.
        let choice = LIVE.pin().certificate(&LISTENER, Some(name));
        drop(choice);
        if DnsName::try_from(name).is_ok() {
            check(Some(name));
        }
        return;
    }
    let Some(name) = server_name(&[bytes]) else { return };
    let cut = usize::from(*first).min(bytes.len());
    assert_eq!(server_name(&[&bytes[..cut], &bytes[cut..]]), Some(name.clone()), "in pieces it says the same");
    check(name.as_deref());
});

/// The name in a ClientHello; `None` where there is no ClientHello.
fn server_name(pieces: &[&[u8]]) -> Option<Option<String>> {
    let mut acceptor = Acceptor::default();
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            if acceptor.read_tls(&mut rest).ok()? == 0 {
                return None;
            }
            if let Some(accepted) = acceptor.accept().ok()? {
                return Some(accepted.client_hello().server_name().map(str::to_owned));
            }
        }
    }
    None
}

/// Compares what a name gets with what the two hosts are there for.
fn check(name: Option<&str>) {
    let snapshot = LIVE.pin();
    let lower = name.unwrap_or_default().to_ascii_lowercase();
    let plain = lower.strip_suffix('.').unwrap_or(&lower);
    let label = plain.strip_suffix(".wild.test").filter(|label| !label.is_empty() && !label.contains('.'));
    let expected = if plain == "exact.test" { Some("exact") } else { label.map(|_| "wild") };
    let found = match snapshot.certificate(&LISTENER, name) {
        CertificateChoice::Host(certificate) => snapshot
            .certificates()
            .into_iter()
            .find(|(_, _, known)| Arc::ptr_eq(known, &certificate))
            .map(|(_, reference, _)| reference.name.to_string()),
        CertificateChoice::Default(_) | CertificateChoice::Passthrough(_) => None,
    };
    assert_eq!(found.as_deref(), expected, "certificate for {name:?}");
    assert_eq!(snapshot.has_host(&LISTENER, name), expected.is_some(), "host {name:?}");
    assert_eq!(snapshot.client_tls(&LISTENER, name).is_some(), expected == Some("exact"), "clients of {name:?}");
}

fn live() -> Arc<LiveRouting> {
    let listener = ListenerConfig { key: *LISTENER, protocol: Protocol::Tls };
    let mut translator = Translator::new(Config { listeners: vec![listener], ..Config::default() });
    let documents = serde_saphyr::from_multiple::<serde_json::Value>(MANIFESTS).expect("the manifests are sound");
    let changes: Vec<Change> = documents
        .into_iter()
        .map(|document| match decode(document, translator.config()) {
            Decoded::Resource(resource, warnings) => Change::Apply(resource, warnings),
            other => panic!("{other:?}"),
        })
        .collect();
    let update = translator.apply(changes);
    let live = Arc::new(LiveRouting::new());
    Publisher::new(Arc::clone(&live)).publish(&update.delta);
    assert_eq!(live.pin().certificates().len(), 2, "both hosts have their certificate");
    live
}
