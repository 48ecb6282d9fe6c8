//! The decoder and the translator, fed with documents.

#![no_main]

use libfuzzer_sys::fuzz_target;
use routing::model::{ListenerKey, Protocol};
use translate::{Change, Config, Decoded, ListenerConfig, Translator, decode};

fuzz_target!(|text: &str| {
    let Ok(value) = serde_saphyr::from_str::<serde_json::Value>(text) else { return };
    let listener = ListenerConfig { key: ListenerKey::tcp(([0; 4], 80).into()), protocol: Protocol::Http };
    let mut translator = Translator::new(Config {
        listeners: vec![listener],
        configmap: Some(("default".to_owned(), "settings".to_owned())),
        ..Config::default()
    });
    let change = match decode(value, translator.config()) {
        Decoded::Resource(resource, warnings) => Change::Apply(resource, warnings),
        Decoded::Refused(Some(key), problems) => {
            assert!(!problems.is_empty(), "a refusal has a reason");
            Change::Refuse(key, problems)
        }
        _ => return,
    };
    translator.apply([change.clone()]);
    assert!(translator.apply([change]).delta.hosts.is_empty(), "the same object again is no change");
});
