//! What one change does, and what it leaves alone.

use std::collections::BTreeSet;

use routing::model::{ListenerKey, Protocol};
use routing::{Delta, Model};
use serde_json::{Value, json};
use translate::resources::ObjectKey;
use translate::{Change, Config, Decoded, ListenerConfig, Problem, Reason, Translator, Update, decode};

struct World {
    translator: Translator,
    model: Model,
}

impl World {
    fn new() -> Self {
        let listener = ListenerConfig { key: ListenerKey::tcp(([0; 4], 80).into()), protocol: Protocol::Http };
        let translator = Translator::new(Config {
            listeners: vec![listener],
            configmap: Some(("default".to_owned(), "settings".to_owned())),
            ..Config::default()
        });
        let mut world = Self { translator, model: Model::default() };
        world.apply([]);
        world
    }

    fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Update {
        let update = self.translator.apply(changes);
        self.model.apply(&update.delta);
        update
    }

    fn write(&mut self, object: Value) -> Update {
        let change = match decode(object, self.translator.config()) {
            Decoded::Resource(resource, warnings) => Change::Apply(resource, warnings),
            Decoded::Refused(Some(key), problems) => Change::Refuse(key, problems),
            other => panic!("{other:?}"),
        };
        self.apply([change])
    }

    fn reasons(&self, key: &ObjectKey) -> Vec<Reason> {
        self.translator.problems(key).into_iter().map(|problem| problem.reason).collect()
    }

    /// The Ingresses that the routes of a host come from, without the implied one.
    fn origins(&self, host: &str) -> Vec<String> {
        let found = self.model.hosts.iter().filter(|(key, _)| key.host.to_string() == host);
        let routes = found.flat_map(|(_, host)| &host.routes);
        let written = routes.filter(|route| route.rule.origin.place.starts_with("rules"));
        written.map(|route| route.rule.origin.name.to_string()).collect()
    }
}

fn key(kind: &str, name: &str) -> ObjectKey {
    let object = json!({"apiVersion": if kind == "Ingress" { "networking.k8s.io/v1" } else { "v1" }, "kind": kind,
        "metadata": {"name": name}, "spec": 5, "data": 5});
    let mut config = World::new().translator.config().clone();
    config.listeners.clear();
    match decode(object, &config) {
        Decoded::Refused(Some(key), _) => key,
        Decoded::Resource(resource, _) => resource.key(),
        other => panic!("{other:?}"),
    }
}

fn ingress(name: &str, created: &str, hosts: &[&str]) -> Value {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let rule = |host: &&str| json!({"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}});
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": name, "creationTimestamp": created},
        "spec": {"rules": hosts.iter().map(rule).collect::<Vec<_>>()},
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"ports": [{"port": 80, "targetPort": 8080}]},
    })
}

fn slice(addresses: &[&str]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"port": 8080}],
        "endpoints": addresses.iter().map(|address| json!({"addresses": [address]})).collect::<Vec<_>>(),
    })
}

const OLD: &str = "2020-01-01T00:00:00Z";
const YOUNG: &str = "2021-01-01T00:00:00Z";

#[test]
fn the_loser_of_a_path_takes_over_when_the_winner_leaves() {
    let mut world = World::new();
    world.write(service());
    world.write(slice(&["10.0.0.1"]));
    world.write(ingress("young", YOUNG, &["a.example"]));
    assert_eq!(world.origins("a.example"), ["young"]);
    let update = world.write(ingress("old", OLD, &["a.example"]));
    assert_eq!(world.origins("a.example"), ["old"]);
    assert_eq!(world.reasons(&key("Ingress", "young")), [Reason::Conflict]);
    assert!(update.touched.contains(&key("Ingress", "young")));
    let update = world.apply([Change::Remove(key("Ingress", "old"))]);
    assert_eq!(world.origins("a.example"), ["young"]);
    assert_eq!(world.reasons(&key("Ingress", "young")), []);
    assert!(update.touched.contains(&key("Ingress", "young")));
}

#[test]
fn a_refused_object_keeps_its_last_good_version() {
    let mut world = World::new();
    world.write(service());
    world.write(slice(&["10.0.0.1"]));
    world.write(ingress("web", OLD, &["a.example"]));
    let model = world.model.clone();
    let mut broken = ingress("web", OLD, &["b.example"]);
    broken["metadata"]["annotations"] = json!({"nginx.ingress.kubernetes.io/use-regex": "perhaps"});
    assert_eq!(world.write(broken.clone()).delta, Delta::default());
    assert_eq!(world.model, model);
    assert_eq!(world.reasons(&key("Ingress", "web")), [Reason::AnnotationParsingFailed]);
    assert_eq!(world.translator.n_refused(), (1, 1));
    world.write(ingress("web", OLD, &["b.example"]));
    assert_eq!((world.origins("a.example"), world.origins("b.example")), (vec![], vec!["web".to_owned()]));
    assert_eq!(world.translator.n_refused(), (0, 0));

    let mut fresh = World::new();
    fresh.write(broken);
    assert_eq!(fresh.translator.n_refused(), (1, 0), "who never saw a good version does without it");
    assert!(fresh.model.hosts.is_empty());
}

#[test]
fn an_endpoint_that_comes_or_goes_touches_no_host() {
    let mut world = World::new();
    world.write(service());
    world.write(slice(&["10.0.0.1"]));
    world.write(ingress("web", OLD, &["a.example"]));
    for addresses in [&["10.0.0.1", "10.0.0.2"][..], &["10.0.0.2"], &[]] {
        let Delta { settings, listeners, hosts, backends, certificates, credentials, authorities } =
            world.write(slice(addresses)).delta;
        assert_eq!((settings, listeners.len(), hosts.len()), (None, 0, 0));
        assert_eq!((certificates.len(), credentials.len(), authorities.len()), (0, 0, 0));
        assert_eq!(backends.len(), 1);
    }
    assert_eq!(world.reasons(&key("Ingress", "web")), [Reason::NoEndpoints]);
}

#[test]
fn a_changed_ingress_emits_its_own_hosts_only() {
    let mut world = World::new();
    for number in 0..50 {
        let (own, shared) = (format!("{number}.example"), format!("shared-{}.example", number / 10));
        world.write(ingress(&format!("web-{number}"), OLD, &[&own, &shared]));
    }
    let update = world.write(ingress("web-7", YOUNG, &["7.example", "new.example"]));
    let hosts: Vec<String> = update.delta.hosts.keys().map(|key| key.host.to_string()).collect();
    // web-7 had lost shared-0.example to the others, so that it changes nothing there.
    assert_eq!(hosts, ["7.example", "new.example"]);
    let touched: BTreeSet<String> = update.touched.iter().map(ToString::to_string).collect();
    assert!(touched.contains("Ingress default/web-7") && !touched.contains("Ingress default/web-17"), "{touched:?}");
}

#[test]
fn a_refused_configmap_stays_reported_from_the_start() {
    let mut world = World::new();
    let problem = Problem::error(Reason::Malformed, "data", "x");
    world.apply([Change::Refuse(key("ConfigMap", "settings"), vec![problem.clone()])]);
    assert_eq!(world.translator.problems(&key("ConfigMap", "settings")), std::slice::from_ref(&problem));

    let mut at_once = World::new().translator;
    at_once.apply([Change::Refuse(key("ConfigMap", "settings"), vec![problem.clone()])]);
    assert_eq!(at_once.problems(&key("ConfigMap", "settings")), [problem]);
    assert_eq!(at_once.n_refused(), (1, 0));
}

#[test]
fn the_authors_of_another_class_are_told_nothing_else() {
    let mut world = World::new();
    let mut other = ingress("other", OLD, &["a.example"]);
    other["spec"]["ingressClassName"] = "traefik".into();
    other["metadata"]["annotations"] = json!({"nginx.ingress.kubernetes.io/auth-url": "https://auth.example"});
    world.write(other);
    assert_eq!(world.reasons(&key("Ingress", "other")), [Reason::ClassNotServed]);
}

#[test]
fn the_message_of_a_problem_has_a_limit() {
    let problem = Problem::error(Reason::Malformed, "", "\u{fc}".repeat(100_000));
    assert_eq!(problem.message.chars().count(), 1003);
}
