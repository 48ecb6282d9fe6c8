//! A decision about a request that goes to an upstream allocates nothing: what it needs was prepared with the snapshot.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::{HeaderMap, Method};
use routing::model::{
    BackendRef, Host, HostKey, Listener, ListenerKey, Order, Origin, PortRef, Protocol, Rank, Route, RouteMatch, Rule,
    WeightedBackend,
};
use routing::{
    ConnectionView, Decision, Delta, HostPattern, LiveRouting, PathMatch, PathPrefix, Publisher, RegexPattern,
    RequestView, Scheme, WildcardDepth, decide,
};

fn route(path: PathMatch) -> Route {
    let backend = BackendRef { namespace: "ns".into(), service: "web".into(), port: PortRef::Number(80) };
    let rule = Rule::new(
        Origin { kind: "Ingress", namespace: "ns".into(), name: "web".into(), place: "".into() },
        vec![WeightedBackend::only(backend)],
    );
    let rank = Rank { order: Order::Ingress, created: None, rule: 0, entry: 0 };
    Route { matches: RouteMatch::path(path), rank, rule: Arc::new(rule) }
}

#[test]
fn a_decision_allocates_nothing() {
    let listener = ListenerKey::tcp(([127, 0, 0, 1], 80).into());
    let mut delta = Delta::default();
    delta.listeners.insert(listener, Some(Arc::new(Listener { protocol: Protocol::Http })));
    let mut add = |host: &str, routes: Vec<Route>| {
        let routes = routes.into();
        let host = HostPattern::parse(host, WildcardDepth::One).unwrap();
        delta.hosts.insert(HostKey { listener, host }, Some(Arc::new(Host { tls: None, client_tls: None, routes })));
    };
    for number in 0..1000 {
        add(&format!("h{number}.example"), vec![route(PathMatch::Prefix(PathPrefix::new("/")))]);
    }
    let many = |number: usize| route(PathMatch::Prefix(PathPrefix::new(&format!("/a/{number}"))));
    add("many.example", (0..1000).map(many).collect());
    add("*.wild.example", vec![route(PathMatch::Exact("/x".into()))]);
    let regexes = ["/foo(/|$)(.*)", "/bar/[0-9]+"];
    add(
        "regex.example",
        regexes.map(|text| route(PathMatch::Regex(RegexPattern::ingress_location(text).unwrap()))).into(),
    );
    let live = Arc::new(LiveRouting::new());
    Publisher::new(Arc::clone(&live)).publish(&delta);
    let snapshot = live.pin();
    let headers = HeaderMap::new();
    let ask = |authority: &str, path: &str| {
        let request = RequestView {
            method: &Method::GET,
            authority,
            path,
            query: "q=1",
            received: None,
            headers: &headers,
            entropy: 7,
        };
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let connection = ConnectionView { listener: &listener, scheme: Scheme::Http, client, server_name: None };
        matches!(decide(&snapshot, &request, &connection), Decision::Proxy(_))
    };
    for (authority, path, is_routed) in [
        ("H500.example:8080", "/x/y", true),
        ("many.example", "/a/999/z", true),
        ("many.example", "/a/1000/z", false),
        ("x.wild.example", "/x", true),
        ("regex.example", "/bar/42", true),
        ("nowhere.example", "/", false),
    ] {
        // The first search with a regular expression makes its working memory.
        assert_eq!(ask(authority, path), is_routed, "{authority}{path}");
        let counted = allocation_counter::measure(|| assert_eq!(ask(authority, path), is_routed));
        assert_eq!(counted.count_total, 0, "{authority}{path}");
    }
}
