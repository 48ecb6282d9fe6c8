//! Random edits: what they give step by step is what a translation from scratch gives.
//!
//! Few names, hosts and Services, so that objects meet; every annotation that reaches beyond its own Ingress is there.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use routing::model::{ListenerKey, PortRef, Protocol};
use routing::{HostPattern, Model};
use serde_json::{Value, json};
use translate::resources::{Ingress, Kind, ObjectKey, Resource};
use translate::{
    Change, ClassConfig, Config, Decoded, ListenerConfig, Preview, Problem, Reason, ServiceRef, Source, Translator,
    decode,
};

/// How many sequences of edits are tried, and how long they are.
const N_SEQUENCES: u32 = 2000;
const N_EDITS: usize = 30;

/// An edit, before it is decoded.
#[derive(Clone, Debug)]
enum Edit {
    /// The object is written; one that does not decode is refused.
    Write(Value),
    /// The object is written so badly that nothing of it can be read.
    Break(Value),
    /// The object is deleted.
    Delete(Value),
}

/// The objects as they are now: the last good version, and why a newer one was refused.
#[derive(Clone, Default)]
struct World(BTreeMap<ObjectKey, Entry>);

#[derive(Clone, Default)]
struct Entry {
    good: Option<(Box<Resource>, Vec<Problem>)>,
    refusal: Option<Vec<Problem>>,
}

// === generators ===

fn names() -> impl Strategy<Value = (&'static str, &'static str)> {
    // `team` and `team-b` are in another order as one text with a slash than as two.
    select(vec![("team", "one"), ("team", "two"), ("team-b", "one"), ("team-b", "two"), ("other", "one")])
}

fn hosts() -> impl Strategy<Value = &'static str> {
    select(vec!["", "a.example", "b.example", "*.example", "x.example", "y.example", "www.a.example"])
}

fn backends() -> impl Strategy<Value = Value> {
    let service = select(vec!["web", "api", "spare", "missing"]);
    let port = select(vec![json!({"number": 80}), json!({"name": "http"}), json!({"number": 8080})]);
    (service, port).prop_map(|(name, port)| json!({"service": {"name": name, "port": port}}))
}

fn paths() -> impl Strategy<Value = Value> {
    let path = select(vec!["/", "/foo", "/foo/", "/Foo/bar", "/x(.*)", "/bad("]);
    let kind = select(vec!["Exact", "Prefix", "ImplementationSpecific"]);
    (path, kind, backends())
        .prop_map(|(path, kind, backend)| json!({"path": path, "pathType": kind, "backend": backend}))
}

fn rules() -> impl Strategy<Value = Value> {
    (hosts(), prop::collection::vec(paths(), 0..3))
        .prop_map(|(host, paths)| json!({"host": host, "http": {"paths": paths}}))
}

fn tls() -> impl Strategy<Value = Value> {
    let hosts = prop::collection::vec(select(vec!["a.example", "b.example", "*.example", "www.a.example"]), 0..3);
    let secret = select(vec![json!("s1"), json!("s2"), Value::Null]);
    (hosts, secret).prop_map(|(hosts, secret)| json!({"hosts": hosts, "secretName": secret}))
}

fn annotations() -> impl Strategy<Value = Value> {
    let all = vec![
        ("server-alias", "x.example,y.example"),
        ("server-alias", "b.example, *.alias.example"),
        ("server-alias", "x.example"),
        ("server-alias", "www.a.example"),
        ("from-to-www-redirect", "true"),
        ("use-regex", "true"),
        ("use-regex", "false"),
        ("rewrite-target", "/$1"),
        ("rewrite-target", "/foo"),
        ("canary", "true"),
        ("default-backend", "spare"),
        ("app-root", "/app"),
        ("permanent-redirect", "https://elsewhere.example"),
        ("force-ssl-redirect", "true"),
        ("auth-tls-secret", "team/clients"),
        ("auth-url", "https://auth.example"),
        ("ssl-redirect", "perhaps"),
    ];
    let n = all.len();
    let few = prop_oneof![3 => subsequence(all.clone(), 0..2), 1 => subsequence(all, 0..n / 3)];
    few.prop_map(|pairs| {
        pairs.into_iter().map(|(name, value)| (format!("nginx.ingress.kubernetes.io/{name}"), json!(value))).collect()
    })
}

fn ingress() -> impl Strategy<Value = Value> {
    let created = select(vec![Value::Null, json!("2020-01-01T00:00:00Z"), json!("2021-01-01T00:00:00Z")]);
    let class = select(vec![Value::Null, Value::Null, Value::Null, json!("ours"), json!("theirs")]);
    let rest = (prop::option::of(backends()), prop::collection::vec(tls(), 0..2), annotations());
    (names(), created, class, prop::collection::vec(rules(), 0..3), rest).prop_map(
        |((namespace, name), created, class, rules, (default_backend, tls, annotations))| {
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                "metadata": {
                    "namespace": namespace, "name": name, "creationTimestamp": created, "annotations": annotations,
                },
                "spec": {"ingressClassName": class, "defaultBackend": default_backend, "rules": rules, "tls": tls},
            })
        },
    )
}

fn class() -> impl Strategy<Value = Value> {
    let controller = select(vec!["penstock.dev/ingress", "example.com/other"]);
    (select(vec!["ours", "theirs"]), controller).prop_map(|(name, controller)| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": name},
            "spec": {"controller": controller},
        })
    })
}

fn service() -> impl Strategy<Value = Value> {
    let spec = select(vec![
        json!({"ports": [{"port": 80, "targetPort": 8080}]}),
        json!({"ports": [{"port": 80, "name": "http", "targetPort": "http"}, {"port": 8080, "name": "admin"}]}),
        json!({"ports": [{"port": 53, "name": "dns-tcp"}, {"port": 53, "name": "dns", "protocol": "UDP"}]}),
        json!({"ports": [{"port": 8080, "appProtocol": "https"}], "externalIPs": ["192.0.2.1"]}),
        json!({"type": "ExternalName", "externalName": "api.example.com"}),
        json!({"type": "ExternalName", "externalName": "127.0.0.1"}),
        json!({"ports": [{"port": 0}]}),
    ]);
    let uid = select(vec!["u1", "u2"]);
    (select(vec!["team", "team-b"]), select(vec!["web", "api", "spare"]), spec, uid).prop_map(
        |(namespace, name, spec, uid)| {
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"namespace": namespace, "name": name, "uid": uid}, "spec": spec,
            })
        },
    )
}

fn slice() -> impl Strategy<Value = Value> {
    let addresses = subsequence(vec!["10.0.0.1", "10.0.0.2", "10.0.0.3", "127.0.0.1"], 0..3);
    let ready = select(vec![Value::Null, json!(true), json!(false)]);
    let port_name = select(vec!["", "http"]);
    (select(vec!["team", "team-b"]), select(vec!["web", "api", "spare"]), 0..2, addresses, ready, port_name).prop_map(
        |(namespace, service, number, addresses, ready, port_name)| {
            let condition = json!({"ready": ready, "serving": true, "terminating": ready == false});
            let endpoint = |address| json!({"addresses": [address], "conditions": condition});
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                // One name can move from one Service to another.
                "metadata": {
                    "namespace": namespace, "name": format!("slice-{number}"),
                    "labels": {"kubernetes.io/service-name": service},
                },
                "addressType": "IPv4",
                "ports": [{"name": port_name, "port": 8080}, {"name": "dns", "port": 5353, "protocol": "UDP"}],
                "endpoints": addresses.into_iter().map(endpoint).collect::<Vec<_>>(),
            })
        },
    )
}

fn endpoints() -> impl Strategy<Value = Value> {
    (select(vec!["team", "team-b"]), select(vec!["web", "api"])).prop_map(|(namespace, name)| {
        json!({
            "apiVersion": "v1", "kind": "Endpoints", "metadata": {"namespace": namespace, "name": name},
            "subsets": [{"addresses": [{"ip": "10.1.0.1"}], "ports": [{"port": 8080}]}],
        })
    })
}

fn secret() -> impl Strategy<Value = Value> {
    static PAIRS: LazyLock<Vec<Value>> = LazyLock::new(|| {
        let pair = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
            json!({"tls.crt": cert.pem(), "tls.key": signing_key.serialize_pem()})
        };
        let broken = json!({"tls.crt": "nonsense"});
        vec![pair(&["a.example", "x.example"]), pair(&["*.example"]), pair(&["b.example"]), json!({}), broken]
    });
    (select(vec!["team", "team-b"]), select(vec!["s1", "s2"]), select(&**PAIRS)).prop_map(|(namespace, name, data)| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": name},
            "stringData": data,
        })
    })
}

fn config_map() -> impl Strategy<Value = Value> {
    let data = select(vec![
        json!({}),
        json!({"force-ssl-redirect": "true"}),
        json!({"keep-alive": "5", "http-redirect-code": "301"}),
        json!({"global-auth-url": "https://auth.example"}),
        json!({"keep-alive": "never", "unknown": "x"}),
        json!({"9000": "team/web:80", "9001": "team-b/api:http"}),
        json!({"9000": "team/spare:53", "9002": "team/web:dns", "80": "team/web:80"}),
    ]);
    (select(vec!["settings", "settings", "tcp", "udp", "others"]), data).prop_map(|(name, data)| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "team", "name": name}, "data": data})
    })
}

fn object() -> impl Strategy<Value = Value> {
    prop_oneof![
        10 => ingress(),
        2 => class(),
        4 => service(),
        4 => slice(),
        1 => endpoints(),
        3 => secret(),
        2 => config_map(),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        6 => object().prop_map(Edit::Write),
        1 => object().prop_map(Edit::Break),
        3 => object().prop_map(Edit::Delete),
    ]
}

/// Edits in batches of random size.
fn batches() -> impl Strategy<Value = Vec<Vec<Edit>>> {
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), N_EDITS / 3);
    (prop::collection::vec(edit(), N_EDITS), cuts).prop_map(|(edits, cuts)| {
        let mut cuts: BTreeSet<usize> = cuts.iter().map(|cut| cut.index(N_EDITS)).collect();
        cuts.extend([0, N_EDITS]);
        let cuts: Vec<usize> = cuts.into_iter().collect();
        cuts.windows(2).map(|ends| edits[ends[0]..ends[1]].to_vec()).collect()
    })
}

fn configs() -> impl Strategy<Value = Config> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(is_cluster, has_default_backend, has_default_certificate)| {
            let listener = |port, protocol| ListenerConfig { key: ListenerKey::tcp(([0; 4], port).into()), protocol };
            let pair = |name: &str| ("team".to_owned(), name.to_owned());
            Config {
                listeners: vec![listener(80, Protocol::Http), listener(443, Protocol::Tls)],
                class: ClassConfig { without_class: true, ..ClassConfig::default() },
                source: if is_cluster { Source::Cluster } else { Source::Files },
                configmap: Some(pair("settings")),
                tcp_services: Some(pair("tcp")),
                udp_services: Some(pair("udp")),
                default_certificate: has_default_certificate.then(|| pair("s1")),
                default_backend: has_default_backend.then(|| ServiceRef {
                    namespace: "team".to_owned(),
                    name: "spare".to_owned(),
                    port: Some(PortRef::Number(80)),
                }),
                ..Config::default()
            }
        },
    )
}

// === the world ===

/// What an edit is to the translator, and the object that it is about.
fn change_of(edit: &Edit, config: &Config) -> (ObjectKey, Change) {
    let (Edit::Write(value) | Edit::Break(value) | Edit::Delete(value)) = edit;
    let decoded = match decode(value.clone(), config) {
        Decoded::Resource(resource, warnings) => (resource.key(), Change::Apply(resource, warnings)),
        Decoded::Refused(Some(key), problems) => (key.clone(), Change::Refuse(key, problems)),
        other => panic!("{other:?}"),
    };
    let (key, written) = decoded;
    let change = match edit {
        Edit::Write(_) => written,
        Edit::Break(_) => {
            Change::Refuse(key.clone(), vec![Problem::error(Reason::Malformed, "spec", "nothing can be read")])
        }
        Edit::Delete(_) => Change::Remove(key.clone()),
    };
    (key, change)
}

impl World {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Apply(resource, warnings) => {
                let entry = Entry { good: Some((resource.clone(), warnings.clone())), refusal: None };
                self.0.insert(resource.key(), entry);
            }
            Change::Refuse(key, problems) => {
                self.0.entry(key.clone()).or_default().refusal = Some(problems.clone());
            }
            Change::Recall(_) => panic!("no edit recalls anything"),
            Change::Remove(key) => drop(self.0.remove(key)),
        }
    }

    /// What somebody sees who comes only now: of what is refused there is no good version any more.
    fn newest(&self) -> Vec<Change> {
        let newest = |(key, Entry { good, refusal }): (&ObjectKey, &Entry)| match (refusal, good) {
            (Some(problems), _) => Some(Change::Refuse(key.clone(), problems.clone())),
            (None, good) => good.clone().map(|(resource, warnings)| Change::Apply(resource, warnings)),
        };
        self.0.iter().filter_map(newest).collect()
    }

    /// Everything that is there, in another order than it came.
    fn changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (key, Entry { good, refusal }) in self.0.iter().rev() {
            changes.extend(good.clone().map(|(resource, warnings)| Change::Apply(resource, warnings)));
            changes.extend(refusal.clone().map(|problems| Change::Refuse(key.clone(), problems)));
        }
        changes
    }

    fn ingresses(&self) -> impl Iterator<Item = &Ingress> {
        let good = self.0.values().filter_map(|entry| entry.good.as_ref());
        good.filter_map(|(resource, _)| if let Resource::Ingress(ingress) = &**resource { Some(ingress) } else { None })
    }

    /// The hosts that an object speaks of, by itself or by Ingresses that it decides about; `None` for all.
    fn hosts_of(&self, key: &ObjectKey, config: &Config) -> Option<BTreeSet<HostPattern>> {
        let is_default = |pair: &Option<(String, String)>| {
            pair.as_ref().is_some_and(|(namespace, name)| *namespace == *key.namespace && *name == *key.name)
        };
        let rule_hosts = |ingress: &Ingress| -> BTreeSet<HostPattern> {
            match &*ingress.rules {
                [] => [HostPattern::Any].into(),
                rules => rules.iter().map(|rule| rule.host.clone()).collect(),
            }
        };
        let mut hosts = BTreeSet::new();
        // Hosts that the object itself leaves alone, and whose aliases it may give TLS to.
        let mut certified = BTreeSet::new();
        for ingress in self.ingresses() {
            let aliases = || other_names(ingress);
            let uses_secret = ingress.meta.namespace == key.namespace
                && ingress.tls.iter().any(|tls| tls.secret.as_ref() == Some(&key.name));
            match key.kind {
                Kind::Ingress if ingress.meta.key() == key.namespaced_name() => {
                    hosts.extend(rule_hosts(ingress).into_iter().chain(aliases()));
                }
                Kind::IngressClass if ingress.class_name.as_ref() == Some(&key.name) => {
                    hosts.extend(rule_hosts(ingress).into_iter().chain(aliases()));
                }
                Kind::Secret if is_default(&config.default_certificate) => hosts.extend(aliases()),
                Kind::Secret if uses_secret => certified.extend(rule_hosts(ingress)),
                Kind::ConfigMap if is_default(&config.configmap) => return None,
                _ => {}
            }
        }
        let certified_ingresses = self.ingresses().filter(|ingress| !rule_hosts(ingress).is_disjoint(&certified));
        hosts.extend(certified_ingresses.flat_map(other_names));
        Some(hosts)
    }

    /// An alias shows what its host does.
    fn with_aliases(&self, hosts: &mut BTreeSet<HostPattern>) {
        let aliases: Vec<HostPattern> = self
            .ingresses()
            .filter(|ingress| ingress.rules.iter().any(|rule| hosts.contains(&rule.host)))
            .flat_map(other_names)
            .collect();
        hosts.extend(aliases);
    }
}

/// The aliases of an Ingress, and the names that it sends to its hosts.
fn other_names(ingress: &Ingress) -> impl Iterator<Item = HostPattern> {
    let twin = |host: &HostPattern| match host {
        HostPattern::Exact(name) => {
            let twin = name.strip_prefix("www.").map_or_else(|| format!("www.{name}"), str::to_owned);
            Some(HostPattern::Exact(twin.into()))
        }
        _ => None,
    };
    let twins = ingress.rules.iter().filter(|_| ingress.annotations.redirects.from_to_www);
    ingress.annotations.server_alias.iter().cloned().chain(twins.filter_map(move |rule| twin(&rule.host)))
}

fn problems(translator: &Translator, keys: &BTreeSet<ObjectKey>) -> BTreeMap<ObjectKey, Vec<Problem>> {
    keys.iter().map(|key| (key.clone(), translator.problems(key))).collect()
}

/// What would become of each Ingress of a batch, were it the only change.
fn foresee(translator: &mut Translator, changes: &[Change]) -> Vec<(ObjectKey, Preview)> {
    let mut foreseen = Vec::new();
    for change in changes {
        if let Change::Apply(resource, warnings) = change
            && let Resource::Ingress(ingress) = &**resource
            && let Some(preview) = translator.preview(ingress.clone(), warnings.clone())
        {
            foreseen.push((resource.key(), preview));
        }
    }
    foreseen
}

/// What was foreseen of a change came true with it.
fn check_foreseen(
    key: &ObjectKey,
    preview: &Preview,
    before: &BTreeMap<ObjectKey, Vec<Problem>>,
    after: &BTreeMap<ObjectKey, Vec<Problem>>,
) {
    for problem in &preview.own {
        assert!(after[key].contains(problem), "{problem} was foreseen");
    }
    let conflicts = |problems: &[Problem]| problems.iter().filter(|one| one.reason == Reason::Conflict).count();
    assert_eq!(conflicts(&preview.own), conflicts(&after[key]));
    for (other, problems) in &preview.of_others {
        let other = other.of_kind(Kind::Ingress);
        for problem in problems {
            assert!(after[&other].contains(problem) && !before[&other].contains(problem), "{problem} was foreseen");
        }
    }
}

/// Another process that is told what is last good goes on as this one does.
fn check_successor(translator: &Translator, model: &Model, world: &World, config: &Config) {
    let mut successor = Translator::new(config.clone());
    let mut succeeding = Model::default();
    succeeding.apply(&successor.apply(world.newest()).delta);
    let recalled = translator.stale().map(|key| match decode(translator.last_good(key).unwrap(), config) {
        Decoded::Resource(resource, _) => Change::Recall(resource),
        other => panic!("{other:?}"),
    });
    succeeding.apply(&successor.apply(recalled).delta);
    assert_eq!(succeeding, *model);
    assert_eq!(succeeding.digest(), model.digest());
    assert_eq!(successor.n_refused(), translator.n_refused());
    // What has a good version of its own is not touched by an older one.
    let good = world.0.values().filter_map(|entry| entry.good.as_ref());
    let again = successor.apply(good.map(|(resource, _)| Change::Recall(resource.clone())));
    assert_eq!(again, translate::Update::default());
}

fn run(batches: &[Vec<Edit>], config: &Config) {
    let mut translator = Translator::new(config.clone());
    let mut model = Model::default();
    model.apply(&translator.apply([]).delta);
    let mut world = World::default();
    let mut keys =
        BTreeSet::from([ObjectKey { kind: Kind::ConfigMap, namespace: "team".into(), name: "settings".into() }]);
    for batch in batches {
        let (changed, changes): (BTreeSet<ObjectKey>, Vec<Change>) =
            batch.iter().map(|edit| change_of(edit, config)).unzip();
        keys.extend(changed.iter().cloned());
        let before = world.clone();
        let problems_before = problems(&translator, &keys);
        let foreseen = foresee(&mut translator, &changes);
        assert_eq!(problems(&translator, &keys), problems_before, "a preview leaves no trace");
        assert_eq!(translator.apply([]), translate::Update::default(), "a preview leaves no trace");
        changes.iter().for_each(|change| world.apply(change));
        let update = translator.apply(changes);
        model.apply(&update.delta);

        let mut fresh = Translator::new(config.clone());
        let mut expected = Model::default();
        expected.apply(&fresh.apply(world.changes()).delta);
        assert_eq!(model, expected);
        assert_eq!(model.digest(), expected.digest());
        let problems_after = problems(&translator, &keys);
        assert_eq!(problems_after, problems(&fresh, &keys));
        if let ([_], Some((key, preview))) = (batch.as_slice(), foreseen.first()) {
            check_foreseen(key, preview, &problems_before, &problems_after);
        }
        assert_eq!(translator.n_refused(), fresh.n_refused());
        assert!(translator.reported().eq(fresh.reported()));

        for key in keys.iter().filter(|key| problems_before[*key] != problems_after[*key]) {
            assert!(update.touched.contains(key), "{key} has other problems and is not touched");
        }
        let spoken_of: Option<Vec<_>> =
            changed.iter().flat_map(|key| [before.hosts_of(key, config), world.hosts_of(key, config)]).collect();
        if let Some(spoken_of) = spoken_of {
            let mut allowed: BTreeSet<HostPattern> = spoken_of.into_iter().flatten().collect();
            // What stands between two states of one batch does not show.
            before.with_aliases(&mut allowed);
            world.with_aliases(&mut allowed);
            for key in update.delta.hosts.keys() {
                assert!(allowed.contains(&key.host), "{key} changed, and no changed object speaks of it");
            }
        }
        let again = translator.apply(world.changes());
        assert_eq!(again.delta, routing::Delta::default(), "what is there already was written again");
    }
    check_successor(&translator, &model, &world, config);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: N_SEQUENCES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn edits_give_step_by_step_what_a_translation_from_scratch_gives(batches in batches(), config in configs()) {
        run(&batches, &config);
    }
}

#[test]
fn a_batch_without_changes_emits_nothing() {
    let listener = ListenerConfig { key: ListenerKey::tcp(([0; 4], 80).into()), protocol: Protocol::Http };
    let mut translator = Translator::new(Config { listeners: vec![listener], ..Config::default() });
    let first = translator.apply([]).delta;
    assert!(first.settings.is_some() && first.listeners.len() == 1 && first.hosts.is_empty());
    assert_eq!(translator.apply([]), translate::Update::default());
}
