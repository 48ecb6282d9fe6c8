//! The compiled tables against a naive matcher that is written from the specifications alone: it looks at every route,
//! keeps those that fit, and takes the one that the order of precedence puts first.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use proptest::sample::select;
use routing::model::{
    BackendRef, Host, HostKey, Listener, ListenerKey, Order, Origin, PortRef, Protocol, Rank, Route, RouteMatch, Rule,
    WeightedBackend,
};
use routing::{
    ConnectionView, Decision, Delta, HeaderMatch, HostPattern, LiveRouting, PathMatch, PathPrefix, Publisher,
    QueryMatch, RegexPattern, RequestView, Scheme, ValueMatch, Verdict, WildcardDepth, decide, explain,
};

/// Tables in one run, each asked [`N_REQUESTS`] times: 200,000 questions.
const N_TABLES: u32 = 10_000;
const N_REQUESTS: usize = 20;

/// A route as the generator says it, before any of our types reads it.
#[derive(Clone, Debug)]
struct Spec {
    host: &'static str,
    is_multi_label: bool,
    path: SpecPath,
    method: Option<&'static str>,
    headers: Vec<(&'static str, &'static str)>,
    query: Vec<(&'static str, &'static str)>,
    created: Option<i64>,
    is_gateway_api: bool,
}

#[derive(Clone, Debug)]
enum SpecPath {
    Exact(String),
    Prefix(String),
    /// A regular expression without meta characters but a trailing wildcard: matched by hand in the oracle.
    IngressRegex(String),
}

#[derive(Clone, Debug)]
struct Question {
    authority: &'static str,
    path: String,
    method: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    query: Vec<(&'static str, &'static str)>,
}

fn listener() -> ListenerKey {
    ListenerKey::tcp(([127, 0, 0, 1], 80).into())
}

// === generators ===

fn path() -> impl Strategy<Value = String> {
    let segment = select(vec!["a", "b", "ab", "a.b", ""]);
    (prop::collection::vec(segment, 0..4)).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn pairs() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    prop::collection::btree_map(select(vec!["x", "y"]), select(vec!["1", "2"]), 0..2)
        .prop_map(|pairs| pairs.into_iter().collect())
}

fn spec() -> impl Strategy<Value = Spec> {
    let path = prop_oneof![
        path().prop_map(SpecPath::Exact),
        path().prop_map(SpecPath::Prefix),
        path().prop_map(SpecPath::Prefix),
        select(vec!["/a", "/a/b", "/ab", "/", "/a/"]).prop_map(|text| SpecPath::IngressRegex(text.to_owned())),
    ];
    let hosts = vec!["", "a.example", "a.example", "b.a.example", "*.example", "*.a.example"];
    (
        select(hosts),
        any::<bool>(),
        path,
        prop::option::weighted(0.2, select(vec!["GET", "POST"])),
        pairs(),
        pairs(),
        prop::option::of(0_i64..3),
        any::<bool>(),
    )
        .prop_map(|(host, is_multi_label, path, method, headers, query, created, is_gateway_api)| Spec {
            host,
            is_multi_label,
            path,
            method,
            headers,
            query,
            created,
            is_gateway_api,
        })
}

fn question() -> impl Strategy<Value = Question> {
    let hosts = vec!["a.example", "A.Example:80", "b.a.example.", "c.b.a.example", "z.example", "example", "other", ""];
    (select(hosts), path(), select(vec!["GET", "POST", "PUT"]), pairs(), pairs())
        .prop_map(|(authority, path, method, headers, query)| Question { authority, path, method, headers, query })
}

// === the oracle ===

/// The number of the route that the specifications name.
fn oracle(table: &[Spec], question: &Question) -> Option<usize> {
    let host = question.authority.split(':').next().unwrap().trim_end_matches('.').to_ascii_lowercase();
    // "precedence must be given to rules from the Route with the most specific host": exact, longest wildcard, any.
    // Of two wildcards with one suffix, the one for a single label is the more specific.
    let best_host = table.iter().filter(|spec| host_fits(spec, &host)).map(host_rank).max()?;
    table
        .iter()
        .enumerate()
        .filter(|(_, spec)| host_fits(spec, &host) && host_rank(spec) == best_host)
        .filter(|(_, spec)| path_fits(&spec.path, &question.path))
        .filter(|(_, spec)| spec.method.is_none_or(|method| method == question.method))
        .filter(|(_, spec)| spec.headers.iter().all(|pair| question.headers.contains(pair)))
        .filter(|(_, spec)| spec.query.iter().all(|pair| question.query.contains(pair)))
        .min_by_key(|(number, spec)| {
            let (class, text) = match &spec.path {
                SpecPath::Exact(text) => (1, text),
                SpecPath::IngressRegex(text) => (2, text),
                SpecPath::Prefix(text) => (3, text),
            };
            let length = match &spec.path {
                SpecPath::Prefix(text) => text.strip_suffix('/').unwrap_or(text).len(),
                _ => text.len(),
            };
            // Objects are named by their number, so "ascending" is the number and "descending" its complement.
            let name = if spec.is_gateway_api { 1000 + number } else { 1000 - number };
            (
                (
                    class,
                    std::cmp::Reverse(length),
                    if class == 2 { std::cmp::Reverse(text.clone()) } else { std::cmp::Reverse(String::new()) },
                ),
                spec.method.is_none(),
                std::cmp::Reverse(spec.headers.len()),
                std::cmp::Reverse(spec.query.len()),
                spec.created.unwrap_or(i64::MIN),
                spec.is_gateway_api,
                name,
            )
        })
        .map(|(number, _)| number)
}

fn host_fits(spec: &Spec, host: &str) -> bool {
    match spec.host.strip_prefix("*.") {
        None => spec.host.is_empty() || spec.host == host,
        Some(suffix) => {
            let labels: Vec<&str> = host.split('.').collect();
            let wanted: Vec<&str> = suffix.split('.').collect();
            labels.ends_with(&wanted)
                && if spec.is_multi_label { labels.len() > wanted.len() } else { labels.len() == wanted.len() + 1 }
        }
    }
}

fn host_rank(spec: &Spec) -> (u8, usize, bool) {
    match spec.host {
        "" => (0, 0, false),
        wildcard if wildcard.starts_with("*.") => (1, wildcard.len(), !spec.is_multi_label),
        _ => (2, 0, false),
    }
}

fn path_fits(path: &SpecPath, asked: &str) -> bool {
    match path {
        SpecPath::Exact(text) => text == asked,
        // "Matching is performed element by element; a trailing slash of the prefix is ignored."
        SpecPath::Prefix(text) => {
            let elements = |text: &str| text.split('/').skip(1).map(str::to_owned).collect::<Vec<_>>();
            let mut prefix = elements(text);
            if prefix.last().is_some_and(String::is_empty) {
                prefix.pop();
            }
            elements(asked).starts_with(&prefix)
        }
        SpecPath::IngressRegex(text) => asked.to_ascii_lowercase().starts_with(text.as_str()),
    }
}

// === our side ===

fn publish(table: &[Spec]) -> Arc<LiveRouting> {
    let live = Arc::new(LiveRouting::new());
    let mut delta = Delta::default();
    delta.listeners.insert(listener(), Some(Arc::new(Listener { protocol: Protocol::Http })));
    let mut hosts: std::collections::BTreeMap<HostKey, Vec<Route>> = Default::default();
    for (number, spec) in table.iter().enumerate() {
        let depth = if spec.is_multi_label { WildcardDepth::OneOrMore } else { WildcardDepth::One };
        let key = HostKey { listener: listener(), host: HostPattern::parse(spec.host, depth).unwrap() };
        hosts.entry(key).or_default().push(route(number, spec));
    }
    delta.hosts = hosts
        .into_iter()
        .map(|(key, routes)| (key, Some(Arc::new(Host { routes: routes.into(), ..Host::default() }))))
        .collect();
    Publisher::new(Arc::clone(&live)).publish(&delta);
    live
}

fn route(number: usize, spec: &Spec) -> Route {
    let path = match &spec.path {
        SpecPath::Exact(text) => PathMatch::Exact(text.as_str().into()),
        SpecPath::Prefix(text) => PathMatch::Prefix(PathPrefix::new(text)),
        SpecPath::IngressRegex(text) => PathMatch::Regex(RegexPattern::ingress_location(text).unwrap()),
    };
    let matches = RouteMatch {
        path,
        method: spec.method.map(|method| method.parse().unwrap()),
        headers: spec
            .headers
            .iter()
            .map(|(name, value)| HeaderMatch {
                name: HeaderName::from_static(name),
                value: ValueMatch::Exact((*value).into()),
            })
            .collect(),
        query: spec
            .query
            .iter()
            .map(|(name, value)| QueryMatch { name: (*name).into(), value: ValueMatch::Exact((*value).into()) })
            .collect(),
    };
    let name: Box<str> = format!("{number:04}").into();
    let backend = BackendRef { namespace: "ns".into(), service: name.clone(), port: PortRef::Number(80) };
    let rule = Rule::new(
        Origin { kind: "Ingress", namespace: "ns".into(), name, place: "".into() },
        vec![WeightedBackend::only(backend)],
    );
    let order = if spec.is_gateway_api { Order::GatewayApi } else { Order::Ingress };
    Route { matches, rank: Rank { order, created: spec.created, rule: 0, entry: 0 }, rule: Arc::new(rule) }
}

fn with_views<R>(question: &Question, ask: impl FnOnce(&RequestView<'_>, &ConnectionView<'_>) -> R) -> R {
    let mut headers = HeaderMap::new();
    for (name, value) in &question.headers {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    let query = question.query.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    let method: Method = question.method.parse().unwrap();
    let request = RequestView {
        method: &method,
        authority: question.authority,
        path: &question.path,
        query: &query,
        received: None,
        headers: &headers,
        entropy: 0,
    };
    let listener = listener();
    let connection = ConnectionView {
        listener: &listener,
        scheme: Scheme::Http,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        server_name: None,
    };
    ask(&request, &connection)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: N_TABLES, failure_persistence: None, ..ProptestConfig::default() })]

    /// Tables of up to 8 routes are tried in order, larger ones through the index: both sizes are made.
    #[test]
    fn every_decision_is_the_one_that_the_specifications_name(
        table in prop_oneof![prop::collection::vec(spec(), 0..9), prop::collection::vec(spec(), 30..60)],
        questions in prop::collection::vec(question(), N_REQUESTS),
    ) {
        let live = publish(&table);
        let snapshot = live.pin();
        for question in &questions {
            let expected = oracle(&table, question).map(|number| format!("{number:04}"));
            with_views(question, |request, connection| {
                let decided = match decide(&snapshot, request, connection) {
                    Decision::Proxy(plan) => Some(plan.rule.rule.origin.name.to_string()),
                    Decision::Answer(_) | Decision::Redirect(_) => None,
                };
                prop_assert_eq!(&decided, &expected, "{:?}", question);
                let explanation = explain(&snapshot, request, connection);
                let winner = explanation.candidates.iter().find(|candidate| candidate.verdict == Verdict::Wins);
                let explained = winner.map(|candidate| candidate.origin.trim_start_matches("Ingress ns/").to_owned());
                prop_assert_eq!(&explained, &expected, "{:?}", question);
                Ok(())
            })?;
        }
    }
}
