//! What is done with a request, as a table: filters, redirects, rewrites, and answers of the gateway itself.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::{HeaderMap, Method};
use routing::model::{
    BackendKey, BackendModel, BackendRef, DirectResponse, EndpointAddress, EndpointCondition, EndpointModel, Filter,
    Host, HostKey, HostTls, Listener, ListenerKey, Order, Origin, PathRewrite, PortRef, Protocol, Rank, Redirect,
    RedirectTarget, RedirectWhen, Rewrite, Route, RouteMatch, Rule, UriParts, WeightedBackend,
};
use routing::{
    ConnectionView, Decision, Delta, HostPattern, LiveRouting, PathMatch, PathPrefix, Publisher, Reason, RegexPattern,
    RequestView, Scheme, Settings, Snapshot, Template, WildcardDepth, decide,
};

const PLAIN: Scheme = Scheme::Http;
const TLS: Scheme = Scheme::Https;

fn listener() -> ListenerKey {
    ListenerKey::tcp(([127, 0, 0, 1], 8080).into())
}

fn backend(name: &str) -> BackendRef {
    BackendRef { namespace: "ns".into(), service: name.into(), port: PortRef::Number(80) }
}

fn rule(filters: Vec<Filter>, backends: Vec<WeightedBackend>) -> Arc<Rule> {
    Arc::new(Rule {
        filters: filters.into(),
        ..Rule::new(Origin { kind: "Ingress", namespace: "ns".into(), name: "web".into(), place: "".into() }, backends)
    })
}

fn route(path: PathMatch, filters: Vec<Filter>) -> Route {
    let rank = Rank { order: Order::Ingress, created: None, rule: 0, entry: 0 };
    let backends = vec![WeightedBackend::only(backend("web"))];
    Route { matches: RouteMatch::path(path), rank, rule: rule(filters, backends) }
}

fn prefix(path: &str) -> PathMatch {
    PathMatch::Prefix(PathPrefix::new(path))
}

fn regex(path: &str) -> PathMatch {
    PathMatch::Regex(RegexPattern::ingress_location(path).unwrap())
}

/// A snapshot with these hosts on one listener.
fn snapshot(hosts: Vec<(&str, Option<HostTls>, Vec<Route>)>) -> Arc<Snapshot> {
    let mut delta = Delta { settings: Some(Arc::new(Settings::default())), ..Delta::default() };
    delta.listeners.insert(listener(), Some(Arc::new(Listener { protocol: Protocol::Http })));
    for (host, tls, routes) in hosts {
        let host = HostPattern::parse(host, WildcardDepth::One).unwrap();
        delta.hosts.insert(
            HostKey { listener: listener(), host },
            Some(Arc::new(Host { tls, client_tls: None, routes: routes.into() })),
        );
    }
    let live = Arc::new(LiveRouting::new());
    Publisher::new(Arc::clone(&live)).publish(&delta);
    live.pin()
}

/// What was decided, in a form that a table can hold.
#[derive(Debug, PartialEq)]
enum Outcome {
    Answer(u16, Reason, String),
    Redirect(u16, String),
    Proxy(String),
}

fn ask(snapshot: &Snapshot, scheme: Scheme, authority: &str, target: &str) -> Outcome {
    ask_listener(snapshot, &listener(), scheme, authority, target)
}

fn ask_listener(snapshot: &Snapshot, listener: &ListenerKey, scheme: Scheme, authority: &str, target: &str) -> Outcome {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = HeaderMap::new();
    let request =
        RequestView { method: &Method::GET, authority, path, query, received: None, headers: &headers, entropy: 0 };
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let connection = ConnectionView { listener, scheme, client, server_name: None };
    match decide(snapshot, &request, &connection) {
        Decision::Answer(answer) => Outcome::Answer(answer.status, answer.reason, answer.body.to_owned()),
        Decision::Redirect(redirect) => Outcome::Redirect(redirect.status, redirect.location),
        Decision::Proxy(plan) => Outcome::Proxy(plan.rewritten.path.unwrap_or_else(|| path.to_owned())),
    }
}

fn redirect(location: &str) -> Outcome {
    Outcome::Redirect(308, location.to_owned())
}

fn proxy(path: &str) -> Outcome {
    Outcome::Proxy(path.to_owned())
}

#[test]
fn what_nobody_claims_is_not_found() {
    let snapshot = snapshot(vec![("a.example", None, vec![route(prefix("/x"), vec![])])]);
    let not_found = |reason| Outcome::Answer(404, reason, "default backend - 404".to_owned());
    assert_eq!(ask(&snapshot, PLAIN, "a.example", "/y"), not_found(Reason::RouteNotFound));
    assert_eq!(ask(&snapshot, PLAIN, "b.example", "/x"), not_found(Reason::HostNotFound));
    assert_eq!(ask(&snapshot, PLAIN, "", "/x"), not_found(Reason::HostNotFound));
    assert_eq!(ask(&snapshot, PLAIN, &"a".repeat(300), "/x"), not_found(Reason::HostNotFound));
}

#[test]
fn the_health_check_is_on_the_catch_all_host_and_nowhere_else() {
    let health = Outcome::Answer(200, Reason::Health, String::new());
    let only_named = snapshot(vec![("a.example", None, vec![route(prefix("/"), vec![])])]);
    assert_eq!(ask(&only_named, PLAIN, "10.0.0.1", "/healthz"), health);
    assert_eq!(ask(&only_named, PLAIN, "a.example", "/healthz"), proxy("/healthz"));
    let with_default = snapshot(vec![("", None, vec![route(prefix("/"), vec![])])]);
    assert_eq!(ask(&with_default, PLAIN, "10.0.0.1", "/healthz"), health);
    assert_eq!(ask(&with_default, PLAIN, "10.0.0.1", "/healthz/x"), proxy("/healthz/x"));
    let claimed = snapshot(vec![("", None, vec![route(PathMatch::Exact("/healthz".into()), vec![])])]);
    assert_eq!(ask(&claimed, PLAIN, "10.0.0.1", "/healthz"), proxy("/healthz"));
}

#[test]
fn plain_text_is_sent_to_https_where_a_certificate_is_configured() {
    let to_https = |when, keep_trailing_slash| {
        Filter::Redirect(Redirect {
            when,
            to: RedirectTarget::Https { keep_trailing_slash, with_port: false },
            status: 308,
        })
    };
    let usual = || vec![route(prefix("/"), vec![to_https(RedirectWhen::PlainTextWithCertificate, false)])];
    let tls = || Some(HostTls::Terminate(Vec::new()));
    let snapshot = snapshot(vec![
        ("tls.example", tls(), usual()),
        ("plain.example", None, usual()),
        ("*.wild.example", tls(), usual()),
        ("own.wild.example", None, usual()),
        ("forced.example", None, vec![route(prefix("/"), vec![to_https(RedirectWhen::PlainText, true)])]),
    ]);
    for (scheme, authority, target, expected) in [
        (PLAIN, "tls.example:8080", "/a/b?x=1", redirect("https://tls.example/a/b?x=1")),
        (PLAIN, "TLS.example", "/a/", redirect("https://tls.example/a")),
        (PLAIN, "tls.example", "/", redirect("https://tls.example")),
        (PLAIN, "tls.example", "/a?x=/", redirect("https://tls.example/a?x=")),
        (TLS, "tls.example", "/a", proxy("/a")),
        (PLAIN, "tls.example", "/.well-known/acme-challenge/token", proxy("/.well-known/acme-challenge/token")),
        (PLAIN, "plain.example", "/a", proxy("/a")),
        (PLAIN, "x.wild.example", "/a", redirect("https://x.wild.example/a")),
        (PLAIN, "own.wild.example", "/a", redirect("https://own.wild.example/a")),
        (PLAIN, "forced.example", "/a/", redirect("https://forced.example/a/")),
        (TLS, "forced.example", "/a/", proxy("/a/")),
    ] {
        assert_eq!(ask(&snapshot, scheme, authority, target), expected, "{authority} {target}");
    }
}

#[test]
fn a_rule_that_denies_answers_before_it_redirects() {
    let deny = Filter::Deny("auth-url: not evaluated".into());
    let redirect = Filter::Redirect(Redirect {
        when: RedirectWhen::Always,
        to: RedirectTarget::Https { keep_trailing_slash: false, with_port: false },
        status: 308,
    });
    let snapshot = snapshot(vec![("a.example", None, vec![route(prefix("/"), vec![deny, redirect])])]);
    let denied = Outcome::Answer(503, Reason::Denied, "auth-url: not evaluated".to_owned());
    assert_eq!(ask(&snapshot, PLAIN, "a.example", "/"), denied);
}

#[test]
fn captures_of_the_path_make_the_upstream_path() {
    let rewrite = |target: &str| {
        let path = Some(PathRewrite::Captures(Template::parse(target).unwrap()));
        vec![Filter::Rewrite(Rewrite { path, ..Rewrite::default() })]
    };
    let snapshot = snapshot(vec![
        ("a.example", None, vec![route(regex("/foo(/|$)(.*)"), rewrite("/$2"))]),
        ("b.example", None, vec![route(regex("/v1/(.*)/x/(.*)"), rewrite("/$2/$1"))]),
        ("c.example", None, vec![route(regex("/a(.*)"), rewrite("/base/$1"))]),
    ]);
    for (authority, target, expected) in [
        ("a.example", "/foo", proxy("/")),
        ("a.example", "/foo/bar/", proxy("/bar/")),
        ("a.example", "/FOO/Bar", proxy("/Bar")),
        ("b.example", "/v1/p%2Fq/x/r", proxy("/r/p%2Fq")),
        // A capture can start with dots although no segment of the request was one.
        ("c.example", "/a../../etc", proxy("/etc")),
    ] {
        assert_eq!(ask(&snapshot, PLAIN, authority, target), expected, "{authority} {target}");
    }
}

/// Gateway API v1.7, the table beside `HTTPPathModifier.replacePrefixMatch`.
#[test]
fn a_matched_prefix_is_replaced_as_the_gateway_api_says() {
    for (matched, replacement, path, expected) in [
        ("/foo", "/xyz", "/foo/bar", "/xyz/bar"),
        ("/foo", "/xyz/", "/foo/bar", "/xyz/bar"),
        ("/foo/", "/xyz", "/foo/bar", "/xyz/bar"),
        ("/foo/", "/xyz/", "/foo/bar", "/xyz/bar"),
        ("/foo", "/xyz", "/foo", "/xyz"),
        ("/foo", "/xyz/", "/foo/", "/xyz/"),
        ("/foo/", "/xyz", "/foo/", "/xyz/"),
        ("/foo", "/", "/foo/bar", "/bar"),
        ("/foo", "", "/foo/bar", "/bar"),
        ("/foo", "/", "/foo/", "/"),
        ("/foo", "/", "/foo", "/"),
        ("/foo", "", "/foo", "/"),
        ("/", "/xyz", "/a", "/xyz/a"),
    ] {
        let rewrite = Rewrite { path: Some(PathRewrite::Prefix(replacement.into())), ..Rewrite::default() };
        let snapshot = snapshot(vec![("", None, vec![route(prefix(matched), vec![Filter::Rewrite(rewrite)])])]);
        assert_eq!(ask(&snapshot, PLAIN, "h", path), proxy(expected), "{matched} -> {replacement}: {path}");
    }
}

/// Gateway API v1.7, `HTTPRequestRedirectFilter.port`.
#[test]
fn a_redirect_of_parts_keeps_what_it_does_not_name() {
    let parts = |scheme, host: Option<&str>, port, path| {
        let parts = UriParts { scheme, host: host.map(Into::into), port, path };
        vec![Filter::Redirect(Redirect { when: RedirectWhen::Always, to: RedirectTarget::Parts(parts), status: 308 })]
    };
    for (filters, expected) in [
        (parts(None, Some("other"), None, None), "http://other:8080/a/b?x=1"),
        (parts(Some(TLS), None, None, None), "https://h.example/a/b?x=1"),
        (parts(Some(PLAIN), None, None, None), "http://h.example/a/b?x=1"),
        (parts(Some(TLS), None, Some(8443), None), "https://h.example:8443/a/b?x=1"),
        (parts(None, None, Some(80), None), "http://h.example/a/b?x=1"),
        (parts(Some(TLS), None, None, Some(PathRewrite::Full("/new".into()))), "https://h.example/new?x=1"),
        (parts(Some(TLS), None, None, Some(PathRewrite::Prefix("/new".into()))), "https://h.example/new/b?x=1"),
    ] {
        let snapshot = snapshot(vec![("h.example", None, vec![route(prefix("/a"), filters)])]);
        assert_eq!(ask(&snapshot, PLAIN, "h.example:8080", "/a/b?x=1"), redirect(expected));
    }
}

/// What a filter that copies the header `X` of a request answers where nothing good comes of it.
fn refusal(filter: Filter, header: &'static str) -> Option<(u16, Reason)> {
    let snapshot = snapshot(vec![("", None, vec![route(prefix("/"), vec![filter])])]);
    let mut headers = HeaderMap::new();
    headers.insert("x", http::HeaderValue::from_static(header));
    let request = RequestView {
        method: &Method::GET,
        authority: "h",
        path: "/",
        query: "",
        received: None,
        headers: &headers,
        entropy: 0,
    };
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let connection = ConnectionView { listener: &listener(), scheme: PLAIN, client, server_name: None };
    match decide(&snapshot, &request, &connection) {
        Decision::Answer(answer) => Some((answer.status, answer.reason)),
        _ => None,
    }
}

#[test]
fn a_redirect_never_carries_a_control_character() {
    let filter = || {
        let location = RedirectTarget::Location(Template::parse("https://x/$http_x").unwrap());
        Filter::Redirect(Redirect { when: RedirectWhen::Always, to: location, status: 302 })
    };
    assert_eq!(refusal(filter(), "a\tb"), Some((400, Reason::RewriteInvalid)));
    assert_eq!(refusal(filter(), "ab"), None);
}

#[test]
fn a_rewritten_path_has_what_a_target_may_have() {
    let filter = || {
        let path = Some(PathRewrite::Captures(Template::parse("/$http_x").unwrap()));
        Filter::Rewrite(Rewrite { host: None, path, prefix: None })
    };
    for header in ["<a>", "a b", "a#b", "a\\b"] {
        assert_eq!(refusal(filter(), header), Some((400, Reason::RewriteInvalid)), "{header}");
    }
    assert_eq!(refusal(filter(), "a/b"), None);
}

#[test]
fn a_rule_without_a_backend_that_can_take_requests_answers_itself() {
    let respond = Filter::Respond(DirectResponse { status: 418, body: "short and stout".into() });
    let invalid = WeightedBackend { backend: None, weight: 1, filters: Vec::new() };
    let idle = WeightedBackend { backend: Some(backend("web")), weight: 0, filters: Vec::new() };
    let with = |filters, backends| {
        let mut route = route(prefix("/"), vec![]);
        route.rule = rule(filters, backends);
        ask(&snapshot(vec![("", None, vec![route])]), PLAIN, "h", "/")
    };
    assert_eq!(with(vec![respond], vec![]), Outcome::Answer(418, Reason::Direct, "short and stout".to_owned()));
    let not_found = Outcome::Answer(404, Reason::RouteNotFound, "default backend - 404".to_owned());
    assert_eq!(with(vec![Filter::NotFound], vec![]), not_found);
    for backends in [vec![], vec![invalid], vec![idle]] {
        assert_eq!(with(vec![], backends), Outcome::Answer(500, Reason::BackendInvalid, String::new()));
    }
}

#[test]
fn endpoints_change_beside_the_snapshot_and_keep_their_identity() {
    let endpoint = |last: u8, condition| EndpointModel {
        address: EndpointAddress::Socket(([10, 0, 0, last], 80).into()),
        pod_uid: "".into(),
        condition,
    };
    let model = |endpoints| {
        let key = BackendKey { namespace: "ns".into(), service: "web".into(), uid: "".into(), port: 80 };
        Some(Arc::new(BackendModel { key: Some(Arc::new(key)), protocol: None, health_check: None, endpoints }))
    };
    let live = Arc::new(LiveRouting::new());
    let mut publisher = Publisher::new(Arc::clone(&live));
    let mut delta = Delta::default();
    delta.listeners.insert(listener(), Some(Arc::new(Listener { protocol: Protocol::Http })));
    let key = HostKey { listener: listener(), host: HostPattern::Any };
    delta
        .hosts
        .insert(key, Some(Arc::new(Host { tls: None, client_tls: None, routes: [route(prefix("/"), vec![])].into() })));
    delta.backends.insert(backend("web"), model(vec![endpoint(1, EndpointCondition::Ready)]));
    publisher.publish(&delta);
    let pinned = live.pin();
    let addresses = |snapshot: &Snapshot| -> Vec<_> {
        let explanation = routing::explain(
            snapshot,
            &RequestView {
                method: &Method::GET,
                authority: "h",
                path: "/",
                query: "",
                received: None,
                headers: &HeaderMap::new(),
                entropy: 0,
            },
            &ConnectionView {
                listener: &listener(),
                scheme: PLAIN,
                client: IpAddr::V4(Ipv4Addr::LOCALHOST),
                server_name: None,
            },
        );
        match explanation.outcome {
            routing::Outcome::Proxy { backends, .. } => backends[0].endpoints.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(addresses(&pinned), ["10.0.0.1:80"]);
    let change = |publisher: &mut Publisher, endpoints| {
        let mut delta = Delta::default();
        delta.backends.insert(backend("web"), model(endpoints));
        publisher.publish(&delta)
    };
    let published = change(
        &mut publisher,
        vec![endpoint(1, EndpointCondition::NotReady), endpoint(2, EndpointCondition::Draining)],
    );
    assert_eq!(published.recompiled_hosts, 0);
    assert_eq!(published.generation, pinned.generation(), "no new snapshot for an endpoint");
    assert_eq!(addresses(&pinned), ["10.0.0.2:80"], "none is ready, so the one on its way out serves on");
    change(&mut publisher, vec![endpoint(1, EndpointCondition::Ready), endpoint(2, EndpointCondition::Draining)]);
    assert_eq!(addresses(&pinned), ["10.0.0.1:80"]);
    change(&mut publisher, vec![]);
    assert_eq!(addresses(&pinned), Vec::<String>::new());
}

#[test]
fn a_change_compiles_its_own_hosts_and_no_others() {
    let live = Arc::new(LiveRouting::new());
    let mut publisher = Publisher::new(Arc::clone(&live));
    let key = |number: usize| HostKey {
        listener: listener(),
        host: HostPattern::parse(&format!("h{number}.example"), WildcardDepth::One).unwrap(),
    };
    let host =
        |path: &str| Some(Arc::new(Host { tls: None, client_tls: None, routes: [route(prefix(path), vec![])].into() }));
    let mut delta = Delta::default();
    delta.listeners.insert(listener(), Some(Arc::new(Listener { protocol: Protocol::Http })));
    delta.hosts.extend((0..10_000).map(|number| (key(number), host("/"))));
    assert_eq!(publisher.publish(&delta).recompiled_hosts, 10_000);
    let mut delta = Delta::default();
    delta.hosts.insert(key(5_000), host("/new"));
    delta.hosts.insert(key(5_001), None);
    assert_eq!(publisher.publish(&delta).recompiled_hosts, 1);
    let snapshot = live.pin();
    assert_eq!(snapshot.n_hosts(), 9_999);
    assert_eq!(ask(&snapshot, PLAIN, "h5000.example", "/new/x"), proxy("/new/x"));
    assert_eq!(ask(&snapshot, PLAIN, "h4999.example", "/x"), proxy("/x"));
    assert!(matches!(ask(&snapshot, PLAIN, "h5001.example", "/"), Outcome::Answer(404, ..)));
}

#[test]
fn listeners_with_the_same_hosts_share_them_until_one_differs() {
    let live = Arc::new(LiveRouting::new());
    let mut publisher = Publisher::new(Arc::clone(&live));
    let other = ListenerKey::tcp(([127, 0, 0, 1], 8443).into());
    let host = |path: &str| Arc::new(Host { routes: [route(prefix(path), vec![])].into(), ..Host::default() });
    let changes = |listeners: &[ListenerKey], changes: &[(&str, Option<&Arc<Host>>)]| {
        let host = |name: &str| HostPattern::parse(name, WildcardDepth::One).unwrap();
        let of_listener = |listener: ListenerKey| {
            changes.iter().map(move |(name, new)| (HostKey { listener, host: host(name) }, new.map(Arc::clone)))
        };
        Delta { hosts: listeners.iter().copied().flat_map(of_listener).collect(), ..Delta::default() }
    };
    let (one, two, three) = (host("/1"), host("/2"), host("/3"));
    let both = [listener(), other];

    let mut delta = changes(&both, &[("a", Some(&one)), ("b", Some(&one)), ("*.c", Some(&one))]);
    delta.listeners.extend(both.map(|key| (key, Some(Arc::new(Listener { protocol: Protocol::Http })))));
    assert_eq!(publisher.publish(&delta).recompiled_hosts, 3);
    assert_eq!(publisher.publish(&changes(&both, &[("a", Some(&two)), ("b", None)])).recompiled_hosts, 1);
    assert_eq!(live.pin().n_hosts(), 4);

    // From here on they differ.
    assert_eq!(publisher.publish(&changes(&[other], &[("a", Some(&three))])).recompiled_hosts, 1);
    assert_eq!(publisher.publish(&changes(&both, &[("b", Some(&two)), ("x.c", Some(&one))])).recompiled_hosts, 4);
    let mut delta = changes(&[other], &[("x.c", None)]);
    delta.hosts.extend(changes(&[listener()], &[("b", None)]).hosts);
    assert_eq!(publisher.publish(&delta).recompiled_hosts, 0);

    let snapshot = live.pin();
    let is_found = |listener: &ListenerKey, authority, path| {
        matches!(ask_listener(&snapshot, listener, PLAIN, authority, path), Outcome::Proxy(_))
    };
    for (authority, path, on_first, on_other) in [
        ("a", "/1", false, false),
        ("a", "/2", true, false),
        ("a", "/3", false, true),
        ("b", "/2", false, true),
        ("x.c", "/1", true, true),
    ] {
        let found = (is_found(&listener(), authority, path), is_found(&other, authority, path));
        assert_eq!(found, (on_first, on_other), "{authority}{path}");
    }
    assert_eq!(snapshot.n_hosts(), 6);
}

#[test]
fn the_hash_of_a_model_does_not_depend_on_the_way_to_it() {
    let key =
        |name: &str| HostKey { listener: listener(), host: HostPattern::parse(name, WildcardDepth::One).unwrap() };
    let host =
        |path: &str| Some(Arc::new(Host { tls: None, client_tls: None, routes: [route(prefix(path), vec![])].into() }));
    let apply = |model: &mut routing::Model, entries: Vec<(&str, Option<Arc<Host>>)>| {
        let hosts = entries.into_iter().map(|(name, host)| (key(name), host)).collect();
        model.apply(&Delta { hosts, ..Delta::default() });
    };
    let mut direct = routing::Model::default();
    apply(&mut direct, vec![("a", host("/1")), ("b", host("/2"))]);
    let mut winding = routing::Model::default();
    apply(&mut winding, vec![("b", host("/x")), ("c", host("/3"))]);
    apply(&mut winding, vec![("c", None)]);
    apply(&mut winding, vec![("b", host("/2"))]);
    apply(&mut winding, vec![("a", host("/1"))]);
    assert_eq!(direct.digest(), winding.digest());
    apply(&mut winding, vec![("a", host("/2"))]);
    assert_ne!(direct.digest(), winding.digest());
}
