//! What is shipped for Grafana and Prometheus, and what the community has for ingress-nginx: every query and every alert,
//! judged by a real Prometheus that scrapes real gateways, moves when what it is about happens.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use http::Response;
use tests::certificate::Certificate;
use tests::dashboard::Dashboard;
use tests::gateway::{Addresses, binary};
use tests::handoff::Place;
use tests::manifests::{SETTINGS, ingress, service, settings, tls};
use tests::prometheus::{Prometheus, Vector, monitoring};
use tests::upstream::{full, refusing_address};
use tests::{Client, Gateway, Manifests, Upstream, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What the community asks of an ingress-nginx.
const COMMUNITY: &str = include_str!("dashboards/ingress-nginx.promql");
/// What nobody's traffic moves: a metric that does not exist, and a constant.
const STILL: [&str; 2] = ["sum(rate(nginx_ingress_controller_requestz[1m]))", "vector(1)"];
/// The second gateway has so many descriptors: enough for 16 clients.
const FEW_DESCRIPTORS: u64 = 160;
/// What the alert about slow requests calls slow, and a little more.
const SLOW: Duration = Duration::from_millis(5200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_and_every_alert_moves_with_what_it_is_about() {
    let mut scene = Scene::start().await;
    let targets = [scene.first.addresses(), scene.second.addresses(), scene.of_third];
    let targets = targets.map(|addresses| addresses.status);
    let prometheus = Prometheus::start("200ms", &targets).await;
    let mut watch = Watch::start(&prometheus).await;
    scene.disturb(watch.time).await;
    // An object that is stale on one replica excuses that they differ, so these two come one after the other.
    scene.edit("maybe");
    watch.until(&mut scene, |unmoved| !unmoved.contains("penstock_stale_objects")).await;
    scene.edit("false");
    watch.until(&mut scene, |unmoved| unmoved.is_empty()).await;
}

/// Which queries and alerts have not moved yet.
struct Watch<'p> {
    prometheus: &'p Prometheus,
    dashboards: Vec<Dashboard>,
    /// The time of the test, in seconds since 1970.
    time: f64,
    /// What each query gave when all was quiet.
    before: Vec<Vector>,
    unmoved: BTreeSet<usize>,
    /// Alerts that have not been raised yet.
    silent: BTreeSet<String>,
}

impl<'p> Watch<'p> {
    /// Remembers what all queries give while nothing happens.
    async fn start(prometheus: &'p Prometheus) -> Self {
        let files = std::fs::read_dir(monitoring().join("dashboards")).unwrap();
        let mut dashboards: Vec<_> = files.map(|file| Dashboard::of_grafana(&file.unwrap().path())).collect();
        assert!(dashboards.len() >= 3);
        dashboards.push(Dashboard::of_list(COMMUNITY));
        dashboards.push(Dashboard::of_list(&STILL.join("\n")));
        // One is not enough for a rate.
        prometheus.wait_for_scrapes(3).await;
        let time = prometheus.query("time()").await[""].floor();
        let silent = prometheus.alert_names().await;
        assert!(!silent.is_empty());
        let mut watch = Self { prometheus, dashboards, time, before: Vec::new(), unmoved: BTreeSet::new(), silent };
        for (_, query) in watch.queries().await {
            watch.before.push(prometheus.query(&query).await);
        }
        watch.unmoved = (0..watch.before.len()).collect();
        let raised = prometheus.alerts().await;
        assert!(raised.is_empty(), "nothing has happened yet: {raised:?}");
        watch
    }

    /// All queries, each with the place that it is at.
    async fn queries(&self) -> Vec<(String, String)> {
        let mut queries = Vec::new();
        for dashboard in &self.dashboards {
            queries.extend(dashboard.filled_in(self.prometheus, self.time).await);
        }
        queries
    }

    /// Crosses out what has moved, or been raised, since the beginning.
    async fn look(&mut self) {
        let queries = self.queries().await;
        let mut moved = Vec::new();
        for index in &self.unmoved {
            let now = self.prometheus.query(&queries[*index].1).await;
            if now.iter().any(|(labels, value)| self.before[*index].get(labels) != Some(value)) {
                moved.push(*index);
            }
        }
        self.unmoved.retain(|index| !moved.contains(index));
        for alert in self.prometheus.alerts().await {
            let is_sound = |text: &String| !text.contains("<error") && !text.contains("<no value>");
            assert!(alert.annotations.iter().all(is_sound), "{alert:?}");
            self.silent.remove(&alert.name);
        }
    }

    /// Lets things happen until what has not moved, which is given as text, is as wanted.
    async fn until(&mut self, scene: &mut Scene, is_enough: impl Fn(&str) -> bool) {
        let mut left = String::new();
        let everything = async {
            loop {
                scene.round().await;
                self.look().await;
                let queries = self.queries().await;
                let unmoved = self.unmoved.iter().map(|index| &queries[*index]);
                let unmoved = unmoved.filter(|(_, query)| !STILL.contains(&query.as_str()));
                let mut lines: Vec<_> = unmoved.map(|(place, query)| format!("{place}: {query}")).collect();
                lines.extend(self.silent.iter().map(|name| format!("alert {name}")));
                left = lines.join("\n");
                if is_enough(&left) {
                    break;
                }
            }
        };
        let in_time = tokio::time::timeout(wait::LIMIT, everything).await;
        assert!(in_time.is_ok(), "nothing moves these:\n{left}");
        let queries = self.queries().await;
        let still = self.unmoved.iter().filter(|index| STILL.contains(&queries[**index].1.as_str())).count();
        assert_eq!(still, STILL.len(), "the test must see what stands still");
    }
}

/// Gateways, and what they lead to.
struct Scene {
    first: Gateway,
    /// One with narrow limits.
    second: Gateway,
    /// A replica of the first, which is not there at the beginning.
    third: Option<Gateway>,
    of_first: Manifests,
    of_second: Manifests,
    of_third: Addresses,
    place: Place,
    /// The upstream that is actively checked, as long as it is there.
    checked: Option<Upstream>,
    _upstreams: Vec<Upstream>,
    /// Connections of clients that wait.
    held: Vec<TcpStream>,
    n_rounds: usize,
}

impl Scene {
    /// Everything is well, and what serves has done so once.
    async fn start() -> Self {
        let [web, canary, checked] = [Upstream::echo("web"), Upstream::echo("canary"), Upstream::echo("checked")];
        let (web, canary, checked) = (web.await, canary.await, checked.await);
        let (slow, failing) = (slow().await, [failing().await, failing().await, failing().await]);
        let objects = [
            service("web", &[web.address()]),
            ingress("web", "web.test", &[("ssl-redirect", "false")], &[("/", "web"), ("/api", "web")]),
            tls(&["web.test"], "web"),
            service("canary", &[canary.address()]),
            ingress("canary", "web.test", &[("canary", "true"), ("canary-by-header", "canary")], &[("/", "canary")]),
            service("slow", &[slow.address()]),
            ingress("slow", "slow.test", &[], &[("/", "slow")]),
            service("empty", &[]),
            ingress("empty", "empty.test", &[], &[("/", "empty")]),
            service("half", &[web.address(), refusing_address().await]),
            ingress("half", "half.test", &[], &[("/", "half")]),
            service("failing", &failing.each_ref().map(Upstream::address)),
            ingress("failing", "failing.test", &[("proxy-next-upstream", "http_503")], &[("/", "failing")]),
            service("checked", &[checked.address()]).replacen(
                "metadata:\n",
                "metadata:\n  annotations:\n    penstock.dev/health-check: tcp interval=100ms fall=1 rise=1\n",
                1,
            ),
            ingress("checked", "checked.test", &[], &[("/", "checked")]),
        ];
        let objects = objects.concat();
        let (of_first, of_second) = (Manifests::of(&objects), Manifests::of(&objects));
        let certificate = Certificate::self_signed(&["web.test"]).secret("web");
        for manifests in [&of_first, &of_second] {
            manifests.write("certificate.yaml", &certificate);
            manifests.write("edited.yaml", &edited("false"));
            manifests.write("settings.yaml", &settings(&[]));
        }
        let place = Place::new();
        let first = Gateway::spawn_with_environment(
            &pod("penstock", "first"),
            Addresses::reserve(),
            of_first.path(),
            &[SETTINGS, &place.flag()],
        );
        let few = format!("ulimit -n {FEW_DESCRIPTORS}; exec {} run \"$@\"", binary().display());
        let second = Gateway::spawn_program(
            &place.script("few", &few),
            &pod("elsewhere", "second"),
            Addresses::reserve(),
            of_second.path(),
            &[SETTINGS],
        );
        first.wait_until_ready().await;
        second.wait_until_ready().await;
        place.wait_until_taken().await;
        for host in ["web.test", "slow.test", "checked.test"] {
            assert_eq!(first.get(&format!("http://{host}/")).await.status, 200);
        }
        assert_eq!(first.get_with("http://web.test/", &[("canary", "always")]).await.upstream(), "canary");
        for gateway in [&first, &second] {
            let is_up =
                async || (gateway.metric("penstock_health_check_endpoints", &["up"]).await == 1.0).then_some(());
            wait::until("the checked endpoint is up", is_up).await;
        }
        let is_quiet = async || {
            let open = first.metric("nginx_ingress_controller_nginx_process_connections", &["active"]).await;
            (open == 0.0).then_some(())
        };
        wait::until("no connection is open", is_quiet).await;
        let upstreams = [vec![web, canary, slow], failing.into()].into_iter().flatten().collect();
        Self {
            first,
            second,
            third: None,
            of_first,
            of_second,
            of_third: Addresses::reserve(),
            place,
            checked: Some(checked),
            _upstreams: upstreams,
            held: Vec::new(),
            n_rounds: 0,
        }
    }

    /// What happens once: a limit is met, replicas differ, a certificate is about to end, an object is refused, an
    /// endpoint goes, and somebody waits.
    async fn disturb(&mut self, time: f64) {
        let (first, second) = (self.first.addresses(), self.second.addresses());
        self.second.limit_descriptors(8, FEW_DESCRIPTORS);
        let refused = TcpStream::connect(second.http).await.unwrap();
        self.second.wait_for_log(&["cannot accept connections"]).await;
        self.second.limit_descriptors(FEW_DESCRIPTORS, FEW_DESCRIPTORS);
        drop(refused);
        self.of_second.write("settings.yaml", &settings(&[("use-proxy-protocol", "true")]));
        // It listens elsewhere, which is a difference.
        let manifests = self.of_first.path();
        self.third = Some(Gateway::spawn_with_environment(&pod("penstock", "third"), self.of_third, manifests, &[]));
        let end = time as u64 + 3 * 24 * 3600;
        let certificate = Certificate::valid_until(&["web.test"], end).secret("web");
        for manifests in [&self.of_first, &self.of_second] {
            manifests.write("certificate.yaml", &certificate);
        }
        self.of_first.write("refused.yaml", &edited("maybe").replace("edited", "refused"));
        self.checked = None;
        for _ in 0..3 {
            self.held.push(TcpStream::connect(first.http).await.unwrap());
        }
        let mut client = Client::http1(first.http).await;
        tokio::spawn(async move { client.get("slow.test", "/slow", &[]).await });
    }

    /// Gives an object of the first gateway a value that may be sound.
    fn edit(&self, value: &str) {
        self.of_first.write("edited.yaml", &edited(value));
    }

    /// What happens again and again.
    async fn round(&mut self) {
        self.n_rounds += 1;
        let (first, second) = (self.first.addresses(), self.second.addresses());
        let host = format!("host-{}.test", self.n_rounds);
        let round = ingress("round", &host, &[], &[("/", "web"), ("/lost", "lost"), ("/empty", "empty")]);
        self.of_first.write("round.yaml", &round);
        let mut client = Client::http1(first.http).await;
        for _ in 0..8 {
            for target in ["/", "/api", "/?status=404", "/?status=503"] {
                client.get("web.test", target, &[]).await;
            }
            client.send(client.request("POST", "web.test", "/", &[], "some text")).await;
            client.get("web.test", "/", &[("canary", "always")]).await;
            for host in ["nowhere.test", "empty.test", "half.test", "failing.test"] {
                client.get(host, "/", &[]).await;
            }
        }
        Client::https1(first.https, Some("web.test")).await.get("web.test", "/", &[]).await;
        converse(&mut TcpStream::connect(first.https).await.unwrap(), b"no TLS at all").await;
        let mut crowd = Vec::new();
        for _ in 0..24 {
            crowd.push(TcpStream::connect(second.http).await.unwrap());
        }
        for stream in &mut crowd {
            converse(stream, b"GET / HTTP/1.1\r\nhost: web.test\r\nconnection: close\r\n\r\n").await;
        }
        assert_eq!(self.place.upgrade(Some(Path::new("/nonexistent"))).await.status.code(), Some(1));
    }
}

/// Who a gateway is.
fn pod(namespace: &'static str, name: &'static str) -> [(&'static str, &'static str); 2] {
    [("POD_NAMESPACE", namespace), ("POD_NAME", name)]
}

/// An Ingress with a switch.
fn edited(value: &str) -> String {
    ingress("edited", "edited.test", &[("ssl-redirect", value)], &[("/", "web")])
}

/// An upstream that takes its time for one path.
async fn slow() -> Upstream {
    Upstream::with(|request| {
        Box::pin(async move {
            if request.uri().path() == "/slow" {
                tokio::time::sleep(SLOW).await;
            }
            Response::new(full("slow"))
        })
    })
    .await
}

/// An upstream that fails.
async fn failing() -> Upstream {
    Upstream::with(|_| Box::pin(async { Response::builder().status(503).body(full("")).unwrap() })).await
}

/// Says something that leads to the end of the connection, and waits for it.
async fn converse(stream: &mut TcpStream, bytes: &[u8]) {
    // The other side may have ended it already.
    let _ = stream.write_all(bytes).await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}
