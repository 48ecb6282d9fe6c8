//! The parsers of annotations: any value of any of them gives a rule or a reason.

#![no_main]

use libfuzzer_sys::fuzz_target;
use routing::model::{ListenerKey, Protocol};
use serde_json::json;
use translate::ingress::annotations::{ANNOTATIONS, OWN_ANNOTATIONS};
use translate::{Change, Config, Decoded, ListenerConfig, Translator, decode};

fuzz_target!(|input: (u8, &str, u8, &str)| {
    let (first, first_value, second, second_value) = input;
    let all: Vec<&str> = ANNOTATIONS.iter().chain(OWN_ANNOTATIONS).map(|row| row.name).collect();
    let name = |number: u8| format!("nginx.ingress.kubernetes.io/{}", all[usize::from(number) % all.len()]);
    let annotations = json!({name(first): first_value, name(second): second_value});
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "web", "namespace": "default", "annotations": annotations},
        "spec": {"rules": [{"host": "a.test", "http": {"paths": [{"path": "/x/(.*)", "pathType": "ImplementationSpecific",
            "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]},
    });
    let listener = ListenerConfig { key: ListenerKey::tcp(([0; 4], 80).into()), protocol: Protocol::Http };
    let mut translator = Translator::new(Config { listeners: vec![listener], ..Config::default() });
    let Decoded::Resource(resource, warnings) = decode(ingress, translator.config()) else {
        return;
    };
    let key = resource.key();
    let update = translator.apply([Change::Apply(resource, warnings)]);
    let is_served = !update.delta.hosts.is_empty();
    assert!(is_served || !translator.problems(&key).is_empty(), "what is not served has a reason");
});
