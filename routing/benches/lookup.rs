//! The cost of a decision by the number of routes: it must not grow with it.
//!
//! `cargo bench -p routing`. Each table is asked in four ways: all routes alike, as popular sites are (Zipf 1.1), a name
//! that is not there, and a path that is not there. Tables are one route for each host, and all routes on one host.

#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up has no result")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use routing::model::{
    BackendRef, Host, HostKey, Listener, ListenerKey, Order, Origin, PortRef, Protocol, Rank, Route, RouteMatch, Rule,
    WeightedBackend,
};
use routing::{
    ConnectionView, Delta, HostPattern, LiveRouting, PathMatch, PathPrefix, Publisher, RequestView, Scheme, Snapshot,
    WildcardDepth, decide,
};

/// The allocator of the gateway: where things lie decides what a lookup costs.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Questions that are asked in turn; more than any cache of the processor remembers by heart.
const N_QUESTIONS: usize = 1 << 16;

fn listener() -> ListenerKey {
    ListenerKey::tcp(([127, 0, 0, 1], 80).into())
}

fn route(number: usize, path: &str) -> Route {
    let name: Box<str> = format!("service-{number}").into();
    let backend = BackendRef { namespace: "default".into(), service: name.clone(), port: PortRef::Number(80) };
    let rule = Rule {
        path: path.into(),
        ..Rule::new(
            Origin { kind: "Ingress", namespace: "default".into(), name, place: "rules[0].paths[0]".into() },
            vec![WeightedBackend::only(backend)],
        )
    };
    let rank = Rank { order: Order::Ingress, created: None, rule: 0, entry: 0 };
    Route { matches: RouteMatch::path(PathMatch::Prefix(PathPrefix::new(path))), rank, rule: Arc::new(rule) }
}

#[derive(Clone, Copy)]
enum Shape {
    ManyHosts,
    OneHost,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::ManyHosts => "many hosts",
            Self::OneHost => "one host",
        }
    }

    fn address(self, number: usize) -> (String, String) {
        match self {
            Self::ManyHosts => (format!("tenant-{number}.apps.example.com"), "/index.html".to_owned()),
            Self::OneHost => ("apps.example.com".to_owned(), format!("/team-{}/app-{number}/index.html", number % 97)),
        }
    }
}

fn snapshot(shape: Shape, n_routes: usize) -> Arc<Snapshot> {
    let mut delta = Delta::default();
    delta.listeners.insert(listener(), Some(Arc::new(Listener { protocol: Protocol::Http })));
    let mut add = |host: &str, routes: Vec<Route>| {
        let routes = routes.into();
        let host = HostPattern::parse(host, WildcardDepth::One).expect("a host");
        delta.hosts.insert(
            HostKey { listener: listener(), host },
            Some(Arc::new(Host { tls: None, client_tls: None, routes })),
        );
    };
    match shape {
        Shape::ManyHosts => (0..n_routes).for_each(|number| add(&shape.address(number).0, vec![route(number, "/")])),
        Shape::OneHost => {
            let path = |number: usize| format!("/team-{}/app-{number}", number % 97);
            add("apps.example.com", (0..n_routes).map(|number| route(number, &path(number))).collect());
        }
    }
    let live = Arc::new(LiveRouting::new());
    Publisher::new(Arc::clone(&live)).publish(&delta);
    live.pin()
}

/// A generator that gives the same numbers in every run.
struct Lcg(u64);

impl Lcg {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn unit(&mut self) -> f64 {
        self.next() as f64 / (1_u64 << 31) as f64
    }
}

fn uniform(n_routes: usize, random: &mut Lcg) -> usize {
    usize::try_from(random.next()).expect("33 bits fit") % n_routes
}

/// Zipf's law with exponent 1.1, by inverting its continuous form.
fn zipf(n_routes: usize, random: &mut Lcg) -> usize {
    const S: f64 = 1.1;
    let top = (n_routes as f64).powf(1.0 - S) - 1.0;
    let rank = (1.0 + random.unit() * top).powf(1.0 / (1.0 - S));
    (rank as usize).clamp(1, n_routes) - 1
}

fn questions(shape: Shape, n_routes: usize, kind: &str) -> Vec<(String, String)> {
    let mut random = Lcg(42);
    (0..N_QUESTIONS)
        .map(|_| match kind {
            "zipf" => shape.address(zipf(n_routes, &mut random)),
            "no host" => (format!("nobody-{}.example.org", random.next()), "/".to_owned()),
            "no path" => (shape.address(0).0, format!("/nothing/{}", random.next())),
            _ => shape.address(uniform(n_routes, &mut random)),
        })
        .collect()
}

fn lookup(criterion: &mut Criterion) {
    let headers = HeaderMap::new();
    let listener = listener();
    for shape in [Shape::ManyHosts, Shape::OneHost] {
        for kind in ["uniform", "zipf", "no host", "no path"] {
            let mut group = criterion.benchmark_group(format!("{}/{kind}", shape.name()));
            for n_routes in [10, 100, 1_000, 10_000, 100_000] {
                let snapshot = snapshot(shape, n_routes);
                let questions = questions(shape, n_routes, kind);
                let mut turn = 0;
                group.bench_function(BenchmarkId::from_parameter(n_routes), |bencher| {
                    bencher.iter(|| {
                        turn = (turn + 1) % N_QUESTIONS;
                        let (authority, path) = &questions[turn];
                        let request = RequestView {
                            method: &Method::GET,
                            authority,
                            path,
                            query: "",
                            received: None,
                            headers: &headers,
                            entropy: 7,
                        };
                        let connection = ConnectionView {
                            listener: &listener,
                            scheme: Scheme::Http,
                            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
                            server_name: None,
                        };
                        black_box(decide(black_box(&snapshot), &request, &connection));
                    });
                });
            }
            group.finish();
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(2)).warm_up_time(std::time::Duration::from_millis(500));
    targets = lookup
}
criterion_main!(benches);
