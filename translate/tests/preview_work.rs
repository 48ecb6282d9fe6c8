//! What the webhook asks about costs as much as it is large, however many Ingresses there are. Work is counted in
//! allocations, which no other program on the machine disturbs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use routing::model::{ListenerKey, Protocol};
use serde_json::{Value, json};
use translate::resources::{Ingress, Resource};
use translate::{Change, Config, Decoded, ListenerConfig, Translator, decode};

fn config() -> Config {
    let listener = ListenerConfig { key: ListenerKey::tcp(([0; 4], 80).into()), protocol: Protocol::Http };
    let mut config = Config { listeners: vec![listener], ..Config::default() };
    config.class.without_class = true;
    config
}

fn object(name: &str, host: &str, paths: &[&str]) -> Value {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let path = |path: &&str| json!({"path": path, "pathType": "Prefix", "backend": backend});
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"namespace": "shop", "name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"rules": [{"host": host, "http": {"paths": paths.iter().map(path).collect::<Vec<_>>()}}]},
    })
}

fn read(value: Value) -> Resource {
    match decode(value, &config()) {
        Decoded::Resource(resource, _) => *resource,
        other => panic!("{other:?}"),
    }
}

fn ingress(value: Value) -> Ingress {
    match read(value) {
        Resource::Ingress(ingress) => ingress,
        other => panic!("{other:?}"),
    }
}

/// A translator that knows this many Ingresses, each with a host of its own.
fn translator(n_ingresses: usize) -> Translator {
    let mut translator = Translator::new(config());
    let known = |number: usize| read(object(&format!("i{number}"), &format!("h{number}.test"), &["/", "/api"]));
    translator.apply((0..n_ingresses).map(|number| Change::Apply(Box::new(known(number)), Vec::new())));
    translator
}

/// The allocations of one question, after one that was like it: what grows with use has grown.
fn allocations(translator: &mut Translator, question: &Value) -> u64 {
    translator.preview(ingress(question.clone()), Vec::new()).unwrap();
    let asked = ingress(question.clone());
    allocation_counter::measure(|| drop(translator.preview(asked, Vec::new()).unwrap())).count_total
}

#[test]
fn a_question_costs_the_same_among_ten_ingresses_and_among_twenty_thousand() {
    let (mut few, mut many) = (translator(10), translator(20_000));
    for (what, question) in [
        ("a new host", object("new", "new.test", &["/"])),
        ("an Ingress that there is", object("i5", "h5.test", &["/", "/other"])),
        ("a host of another one", object("new", "h5.test", &["/api", "/new"])),
        ("another host for one that there is", object("i5", "other.test", &["/"])),
    ] {
        let (few, many) = (allocations(&mut few, &question), allocations(&mut many, &question));
        assert!(few > 0 && many <= few + few / 10, "{what}: {few} allocations among few, {many} among many");
    }
}

#[test]
fn a_question_costs_what_it_is_large() {
    let mut translator = translator(1000);
    let paths: Vec<String> = (0..200).map(|number| format!("/p{number}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let of = |n_paths: usize| object("new", "new.test", &paths[..n_paths]);
    let (small, large) = (allocations(&mut translator, &of(20)), allocations(&mut translator, &of(200)));
    assert!(large <= small * 20, "ten times the paths: {small} allocations, then {large}");
}
