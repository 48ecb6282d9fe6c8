use serde_json::{Value, json};
use translate::{Config, Source};

use super::*;
use crate::source::kube::object::read;

/// The watches of every desk here, in this order.
const KINDS: [Kind; 3] = [Kind::Ingress, Kind::Service, Kind::Secret];
const INGRESSES: usize = 0;
const SERVICES: usize = 1;
const SECRETS: usize = 2;

fn config() -> Config {
    Config {
        annotation_prefixes: vec!["nginx.ingress.kubernetes.io".to_owned()],
        source: Source::Cluster,
        ..Config::default()
    }
}

fn desk() -> Desk {
    let scopes = KINDS.map(|kind| Scope::all(kind, None));
    Desk::new(&scopes, Arc::new(Demand::default()), &[], false)
}

/// A desk to which every watch has told its list.
fn listed(lists: [Vec<Object>; 3]) -> Desk {
    let mut desk = desk();
    for (watch, objects) in lists.into_iter().enumerate() {
        list(&mut desk, watch, objects);
    }
    desk.take_outcome();
    desk
}

fn list(desk: &mut Desk, watch: usize, objects: Vec<Object>) {
    let began = desk.demand.now();
    desk.take(Message::Listed { watch, objects, began });
}

fn change(desk: &mut Desk, watch: usize, object: Object) {
    desk.take(Message::Changed { watch, object: Box::new(object) });
}

fn object(kind: Kind, name: &str, version: u64, content: Value) -> Object {
    let (namespace, name) = name.split_once('/').unwrap();
    let mut value = content;
    value["metadata"] = json!({
        "namespace": namespace, "name": name, "uid": format!("uid of {name}"),
        "resourceVersion": version.to_string(), "managedFields": [{"manager": version}],
    });
    read(value, kind, &config()).unwrap()
}

fn service(name: &str, version: u64, port: u16) -> Object {
    object(Kind::Service, name, version, json!({"spec": {"ports": [{"port": port}]}}))
}

fn backend() -> Value {
    json!({"service": {"name": "web", "port": {"number": 80}}})
}

/// An Ingress that names a Secret.
fn ingress(name: &str, version: u64, secret: &str) -> Object {
    object(
        Kind::Ingress,
        name,
        version,
        json!({"spec": {"defaultBackend": backend(), "tls": [{"secretName": secret}]}}),
    )
}

fn secret(name: &str, version: u64) -> Object {
    object(Kind::Secret, name, version, json!({"data": {"auth": "", "version": ""}}))
}

fn key(kind: Kind, name: &str) -> ObjectKey {
    let (namespace, name) = name.split_once('/').unwrap();
    ObjectKey { kind, namespace: namespace.into(), name: name.into() }
}

/// The changes since the last time.
fn told(desk: &mut Desk) -> Vec<String> {
    let text = |change: Change| match change {
        Change::Apply(resource, _) => format!("+{}", resource.key()),
        Change::Refuse(key, _) => format!("!{key}"),
        Change::Recall(resource) => format!("~{}", resource.key()),
        Change::Remove(key) => format!("-{key}"),
    };
    desk.take_outcome().changes.into_iter().map(text).collect()
}

#[test]
fn a_new_list_tells_only_what_differs_from_the_last() {
    let mut desk =
        listed([vec![], vec![service("a/one", 1, 80), service("a/two", 2, 80), service("a/three", 3, 80)], vec![]]);
    list(&mut desk, SERVICES, vec![service("a/one", 1, 80), service("a/two", 9, 81)]);
    assert_eq!(told(&mut desk), ["-Service a/three", "+Service a/two"]);
}

#[test]
fn a_change_of_what_is_not_used_is_not_told() {
    let mut desk = listed([vec![], vec![service("a/one", 1, 80)], vec![]]);
    change(&mut desk, SERVICES, service("a/one", 2, 80));
    assert_eq!(told(&mut desk), [""; 0]);
    change(&mut desk, SERVICES, service("a/one", 3, 81));
    assert_eq!(told(&mut desk), ["+Service a/one"]);
}

#[test]
fn an_older_version_of_the_same_object_is_passed_over() {
    let mut desk = listed([vec![], vec![service("a/one", 7, 80)], vec![]]);
    change(&mut desk, SERVICES, service("a/one", 5, 81));
    assert_eq!(told(&mut desk), [""; 0]);
}

#[test]
fn a_list_counts_also_where_versions_have_gone_back() {
    let mut desk = listed([vec![], vec![service("a/one", 900, 80)], vec![]]);
    list(&mut desk, SERVICES, vec![service("a/one", 5, 81)]);
    assert_eq!(told(&mut desk), ["+Service a/one"]);
    change(&mut desk, SERVICES, service("a/one", 6, 82));
    assert_eq!(told(&mut desk), ["+Service a/one"]);
}

#[test]
fn only_secrets_that_are_named_are_told() {
    let mut desk = desk();
    list(&mut desk, INGRESSES, vec![ingress("a/web", 1, "cert")]);
    list(&mut desk, SERVICES, vec![]);
    list(&mut desk, SECRETS, vec![secret("a/cert", 2), secret("a/other", 3), secret("b/cert", 4)]);
    assert_eq!(told(&mut desk), ["+Ingress a/web", "+Secret a/cert"]);
    assert!(desk.is_complete());
    change(&mut desk, SECRETS, secret("a/other", 5));
    assert_eq!(told(&mut desk), [""; 0]);
}

#[test]
fn an_ingress_waits_for_the_secret_that_it_is_the_first_to_name() {
    let mut desk = listed([vec![], vec![], vec![]]);
    change(&mut desk, INGRESSES, ingress("a/web", 1, "cert"));
    let Outcome { changes, fetch, .. } = desk.take_outcome();
    assert_eq!((changes.len(), fetch), (0, vec![key(Kind::Secret, "a/cert")]));
    let found = Fetched::Found(Box::new(secret("a/cert", 2)));
    desk.take(Message::Fetched { key: key(Kind::Secret, "a/cert"), found });
    assert_eq!(told(&mut desk), ["+Secret a/cert", "+Ingress a/web"]);
    // The next one finds it there.
    change(&mut desk, INGRESSES, ingress("a/shop", 3, "cert"));
    assert_eq!(told(&mut desk), ["+Ingress a/shop"]);
}

#[test]
fn a_secret_that_cannot_be_had_holds_nobody_up() {
    for (found, n_relists) in [(Fetched::Absent, 0), (Fetched::Unknown, 1)] {
        let mut desk = listed([vec![], vec![], vec![]]);
        change(&mut desk, INGRESSES, ingress("a/web", 1, "cert"));
        desk.take(Message::Fetched { key: key(Kind::Secret, "a/cert"), found });
        let Outcome { changes, relist, .. } = desk.take_outcome();
        assert_eq!((changes.len(), relist.len()), (1, n_relists));
    }
}

#[test]
fn the_newest_version_of_a_waiting_ingress_is_the_one_that_is_told() {
    let mut desk = listed([vec![], vec![], vec![]]);
    change(&mut desk, INGRESSES, ingress("a/web", 1, "cert"));
    change(&mut desk, INGRESSES, object(Kind::Ingress, "a/web", 2, json!({"spec": {"defaultBackend": backend()}})));
    desk.take(Message::Fetched { key: key(Kind::Secret, "a/cert"), found: Fetched::Absent });
    assert_eq!(told(&mut desk), ["+Ingress a/web"]);
    assert!(desk.is_complete());
}

#[test]
fn a_secret_that_nobody_names_any_more_is_forgotten() {
    let mut desk =
        listed([vec![ingress("a/web", 1, "cert"), ingress("a/shop", 2, "cert")], vec![], vec![secret("a/cert", 3)]]);
    change(&mut desk, INGRESSES, ingress("a/web", 4, "other"));
    desk.take(Message::Fetched { key: key(Kind::Secret, "a/other"), found: Fetched::Absent });
    assert_eq!(told(&mut desk), ["+Ingress a/web"]);
    desk.take(Message::Gone { watch: INGRESSES, key: key(Kind::Ingress, "a/shop") });
    assert_eq!(told(&mut desk), ["-Ingress a/shop", "-Secret a/cert"]);
}

#[test]
fn a_secret_that_goes_while_it_is_asked_for_leaves_no_ghost() {
    let mut desk = listed([vec![], vec![], vec![]]);
    change(&mut desk, INGRESSES, ingress("a/web", 1, "cert"));
    desk.take(Message::Gone { watch: SECRETS, key: key(Kind::Secret, "a/cert") });
    let found = Fetched::Found(Box::new(secret("a/cert", 2)));
    desk.take(Message::Fetched { key: key(Kind::Secret, "a/cert"), found });
    let Outcome { changes, relist, .. } = desk.take_outcome();
    assert_eq!((changes.len(), relist), (1, BTreeSet::from([SECRETS])));
}

#[test]
fn a_list_does_not_take_away_what_became_wanted_while_it_was_made() {
    let mut desk = listed([vec![], vec![], vec![]]);
    let began = desk.demand.now();
    change(&mut desk, INGRESSES, ingress("a/web", 1, "cert"));
    let found = || Fetched::Found(Box::new(secret("a/cert", 2)));
    desk.take(Message::Fetched { key: key(Kind::Secret, "a/cert"), found: found() });
    desk.take_outcome();
    desk.take(Message::Listed { watch: SECRETS, objects: vec![], began });
    let Outcome { changes, fetch, .. } = desk.take_outcome();
    assert_eq!((changes.len(), fetch), (0, vec![key(Kind::Secret, "a/cert")]), "it is asked for once more");
}

#[test]
fn what_a_refused_version_leaves_live_keeps_what_it_names() {
    let mut desk = listed([vec![ingress("a/web", 1, "cert")], vec![], vec![secret("a/cert", 2)]]);
    let bad = json!({"metadata": {}, "spec": {"rules": [{"host": "no host"}]}});
    change(&mut desk, INGRESSES, object(Kind::Ingress, "a/web", 3, bad));
    assert_eq!(told(&mut desk), ["!Ingress a/web"]);
}

// === last good versions of another process ===

/// An Ingress of this name that is refused.
fn refused(name: &str, version: u64) -> Object {
    object(Kind::Ingress, name, version, json!({"spec": {"rules": [{"host": "no host"}]}}))
}

fn recall(desk: &mut Desk, object: Object) {
    let Change::Apply(resource, _) = object.change else { panic!("{object:?}") };
    desk.recall(*resource, object.references);
}

#[test]
fn a_recalled_ingress_waits_for_the_secret_that_it_names() {
    let mut desk = listed([vec![refused("a/web", 2)], vec![], vec![]]);
    recall(&mut desk, ingress("a/web", 1, "cert"));
    let keys = [key(Kind::Ingress, "a/web")].into();
    assert!(desk.awaits(&keys));
    let found = Fetched::Found(Box::new(secret("a/cert", 2)));
    desk.take(Message::Fetched { key: key(Kind::Secret, "a/cert"), found });
    assert!(!desk.awaits(&keys));
    assert_eq!(told(&mut desk), ["+Secret a/cert", "~Ingress a/web"]);
    desk.take(Message::Gone { watch: INGRESSES, key: key(Kind::Ingress, "a/web") });
    assert_eq!(told(&mut desk), ["-Ingress a/web", "-Secret a/cert"]);
}

#[test]
fn nothing_is_recalled_but_the_same_object_whose_newest_version_is_refused() {
    let mut desk = listed([vec![refused("a/web", 2), ingress("a/good", 1, "cert")], vec![], vec![]]);
    desk.take_outcome();
    for other in [ingress("a/gone", 1, "old"), ingress("a/good", 1, "old")] {
        recall(&mut desk, other);
    }
    let another = json!({"metadata": {"namespace": "a", "name": "web", "uid": "of another"}, "spec": {"defaultBackend": backend()}});
    recall(&mut desk, read(another, Kind::Ingress, &config()).unwrap());
    let Outcome { changes, fetch, .. } = desk.take_outcome();
    assert_eq!((changes.len(), fetch.len()), (0, 0));
    change(&mut desk, INGRESSES, ingress("a/web", 3, "cert"));
    desk.take_outcome();
    recall(&mut desk, ingress("a/web", 1, "old"));
    assert_eq!(told(&mut desk), [""; 0], "it has become good meanwhile");
}

#[test]
fn the_last_good_version_of_an_object_does_not_stand_in_for_another_of_its_name() {
    let mut desk = listed([vec![ingress("a/web", 1, "cert")], vec![], vec![secret("a/cert", 2)]]);
    let another = json!({
        "metadata": {"namespace": "a", "name": "web", "uid": "of another"}, "spec": {"rules": [{"host": "no host"}]},
    });
    list(&mut desk, INGRESSES, vec![read(another, Kind::Ingress, &config()).unwrap()]);
    assert_eq!(told(&mut desk), ["-Ingress a/web", "-Secret a/cert", "!Ingress a/web"]);
}

// === namespaces ===

fn namespaces(names: &[&str]) -> Vec<Object> {
    names
        .iter()
        .map(|name| {
            let value = json!({"metadata": {"name": name, "uid": name, "resourceVersion": "1"}});
            read(value, Kind::Namespace, &config()).unwrap()
        })
        .collect()
}

fn selective() -> Desk {
    let scopes = [Kind::Ingress, Kind::Service, Kind::Secret, Kind::Namespace].map(|kind| Scope::all(kind, None));
    let named = [key(Kind::Service, "edge/fallback")];
    Desk::new(&scopes, Arc::new(Demand::default()), &named, true)
}

#[test]
fn only_selected_namespaces_are_told_and_what_the_flags_name() {
    let mut desk = selective();
    list(&mut desk, 3, namespaces(&["prod"]));
    list(
        &mut desk,
        SERVICES,
        vec![service("prod/web", 2, 80), service("dev/web", 3, 80), service("edge/fallback", 4, 80)],
    );
    assert_eq!(told(&mut desk), ["+Service prod/web", "+Service edge/fallback"]);
}

#[test]
fn a_namespace_that_becomes_selected_is_listed_and_one_that_ceases_to_be_is_emptied() {
    let mut desk = selective();
    list(&mut desk, 3, namespaces(&["prod"]));
    list(&mut desk, SERVICES, vec![service("prod/web", 2, 80)]);
    desk.take_outcome();
    for namespace in namespaces(&["dev"]) {
        change(&mut desk, 3, namespace);
    }
    assert_eq!(desk.take_outcome().relist, BTreeSet::from([SERVICES]), "those that have listed already");
    list(&mut desk, SERVICES, vec![service("prod/web", 2, 80), service("dev/web", 3, 80)]);
    assert_eq!(told(&mut desk), ["+Service dev/web"]);
    let gone = ObjectKey { kind: Kind::Namespace, namespace: "".into(), name: "prod".into() };
    desk.take(Message::Gone { watch: 3, key: gone });
    assert_eq!(told(&mut desk), ["-Service prod/web"]);
}
