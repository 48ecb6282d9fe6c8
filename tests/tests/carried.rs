//! What a process has learnt and its successor goes on with: last good versions of objects whose newest cannot be used,
//! endpoints that active checks found down, and what clients have done of late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tests::certificate::{self, Certificate};
use tests::handoff::Place;
use tests::manifests::{ingress, service, tls};
use tests::upstream::full;
use tests::{Client, Gateway, Manifests, Upstream, wait};
use tokio::sync::Semaphore;

struct Fixture {
    place: Place,
    gateway: Gateway,
    manifests: Manifests,
}

impl Fixture {
    async fn start(manifests: Manifests) -> Self {
        let place = Place::new();
        let gateway = Gateway::start(&manifests, &[&place.flag(), "--handoff-probation=50ms", "--lame-duck=0s"]).await;
        place.wait_until_taken().await;
        Self { place, gateway, manifests }
    }

    /// Upgrades, and waits until the old process has ended: whatever is asked afterwards, its successor answers.
    async fn upgrade(&self) {
        let before = self.place.pid().await;
        let upgraded = self.place.upgrade(None).await;
        let said = String::from_utf8_lossy(&upgraded.stderr).into_owned();
        assert_eq!(upgraded.status.code(), Some(0), "{said}\n{}", self.gateway.log());
        let is_gone = async || (!std::path::Path::new(&format!("/proc/{before}/fd/0")).exists()).then_some(());
        wait::until("the old process has ended", is_gone).await;
    }

    /// How many comparisons of the models of two processes had this result.
    fn n_compared(&self, is_same: bool) -> usize {
        let result = format!("is_same={is_same}");
        self.gateway
            .log()
            .lines()
            .filter(|line| line.contains("compared with that of the old") && line.contains(&result))
            .count()
    }

    async fn wait_for_stale(&self, n_objects: f64) {
        let is_so = async || (self.gateway.metric("penstock_stale_objects", &[]).await == n_objects).then_some(());
        wait::until(&format!("{n_objects} stale objects; log:\n{}", self.gateway.log()), is_so).await;
    }

    async fn upstream_of(&self, host: &str) -> String {
        self.gateway.get(&format!("http://{host}/")).await.upstream()
    }

    async fn wait_for_status(&self, host: &str, status: u16) {
        self.gateway.wait_for(&format!("http://{host}/"), |answer| answer.status == status).await;
    }
}

/// The Ingress of a host, with another host where its annotation has a value that is none.
fn broken(name: &str) -> String {
    ingress(name, "other.test", &[("proxy-body-size", "a lot")], &[("/", "a")])
}

#[tokio::test]
async fn the_last_good_version_of_a_refused_object_outlives_upgrades_and_goes_with_the_object() {
    let upstream = Upstream::echo("a").await;
    let manifests = Manifests::of(&service("a", &[upstream.address()]));
    let good = ingress("a", "a.test", &[("ssl-redirect", "false"), ("proxy-body-size", "1k")], &[("/", "a")]);
    manifests.write("a.yaml", &[good, tls(&["a.test"], "cert")].concat());
    manifests.write("b.yaml", &ingress("b", "b.test", &[], &[("/", "a")]));
    manifests.write("cert.yaml", &Certificate::self_signed(&["good.test", "a.test"]).secret("cert"));
    let fixture = Fixture::start(manifests).await;
    let Fixture { gateway, manifests, .. } = &fixture;
    manifests.write("a.yaml", &broken("a"));
    manifests.write("b.yaml", &broken("b"));
    manifests.write("cert.yaml", &certificate::secret("cert", &[("tls.crt", b"garbage"), ("tls.key", b"garbage")]));
    fixture.wait_for_stale(3.0).await;
    // What the second process was told it has to tell the third.
    for n_upgrades in 1..=2 {
        fixture.upgrade().await;
        assert_eq!(fixture.n_compared(true), n_upgrades, "{}", gateway.log());
        assert_eq!(fixture.upstream_of("a.test").await, "a");
        let mut client = Client::http1(gateway.addresses().http).await;
        let request = client.request("POST", "a.test", "/", &[], &"x".repeat(1025));
        assert_eq!(client.send(request).await.status, 413, "its annotations came along");
        let secure = Client::https1(gateway.addresses().https, Some("a.test")).await;
        assert_eq!(secure.common_name(), "good.test");
        assert_eq!(gateway.get("http://other.test/").await.status, 404, "nothing of what is refused is served");
        fixture.wait_for_stale(3.0).await;
    }
    manifests.remove("a.yaml");
    fixture.wait_for_status("a.test", 404).await;
    assert_eq!(fixture.upstream_of("b.test").await, "a");
    manifests.write("b.yaml", &ingress("b", "c.test", &[], &[("/", "a")]));
    fixture.wait_for_status("b.test", 404).await;
    assert_eq!(fixture.upstream_of("c.test").await, "a");
    let log = gateway.log();
    assert!(!log.contains("PRIVATE KEY") && !log.contains("garbage"), "{log}");
}

#[tokio::test]
async fn what_is_in_a_file_that_cannot_be_read_outlives_upgrades_and_goes_with_the_file() {
    let upstream = Upstream::echo("a").await;
    let manifests = Manifests::of(&service("a", &[upstream.address()]));
    manifests.write("a.yaml", &ingress("a", "a.test", &[], &[("/", "a")]));
    let [kept, hidden] = ["kept", "hidden"].map(|name| ingress(name, &format!("{name}.test"), &[], &[("/", "a")]));
    manifests.write("two.yaml", &[kept.clone(), hidden].concat());
    let fixture = Fixture::start(manifests).await;
    let Fixture { gateway, manifests, .. } = &fixture;
    manifests.write("a.yaml", "{ this is: [no manifest\n");
    manifests.write("two.yaml", &[&kept, "---\nkind: Ingress\nmetadata: [\n"].concat());
    fixture.wait_for_stale(2.0).await;
    for n_upgrades in 1..=2 {
        fixture.upgrade().await;
        assert_eq!(fixture.n_compared(true), n_upgrades, "{}", gateway.log());
        for host in ["a.test", "kept.test", "hidden.test"] {
            assert_eq!(fixture.upstream_of(host).await, "a", "{host}");
        }
        fixture.wait_for_stale(2.0).await;
    }
    manifests.write("two.yaml", &kept);
    fixture.wait_for_status("hidden.test", 404).await;
    assert_eq!(fixture.upstream_of("kept.test").await, "a");
    manifests.remove("a.yaml");
    fixture.wait_for_status("a.test", 404).await;
    fixture.wait_for_stale(0.0).await;
    fixture.upgrade().await;
    assert_eq!(fixture.n_compared(true), 3);
    assert_eq!(gateway.get("http://a.test/").await.status, 404, "what is gone stays gone");
}

/// What a check is answered.
const WELL: u8 = 0;
const SICK: u8 = 1;
/// Nothing, until it is well again.
const SILENT: u8 = 2;

#[tokio::test]
async fn an_endpoint_that_was_found_down_gets_no_request_before_the_successor_has_found_it_well() {
    let (state, spoken) = (Arc::new(AtomicU8::new(SICK)), Arc::new(Semaphore::new(0)));
    let (told, silence) = (Arc::clone(&state), Arc::clone(&spoken));
    let sick = Upstream::with(move |request| {
        let is_check = request.uri().path() == "/healthz";
        let (told, silence) = (Arc::clone(&told), Arc::clone(&silence));
        Box::pin(async move {
            let state = told.load(Ordering::SeqCst);
            if is_check && state == SILENT {
                drop(silence.acquire().await);
            }
            let status = if is_check && state == SICK { 503 } else { 200 };
            http::Response::builder().status(status).body(full("sick")).unwrap()
        })
    })
    .await;
    let well = Upstream::echo("well").await;
    let check = "penstock.dev/health-check: http:/healthz interval=100ms timeout=60s fall=1 rise=2";
    let service = service("a", &[sick.address(), well.address()]);
    let service = service.replacen("metadata:\n", &format!("metadata:\n  annotations:\n    {check}\n"), 1);
    // Nothing but checks takes an endpoint out here.
    let ingress = ingress("a", "a.test", &[("proxy-next-upstream", "off"), ("passive-ejection", "off")], &[("/", "a")]);
    let ingress = ingress.replace("nginx.ingress.kubernetes.io/passive", "penstock.dev/passive");
    let fixture = Fixture::start(Manifests::of(&[service, ingress].concat())).await;
    let down = async || fixture.gateway.metric("penstock_health_check_endpoints", &["state=\"down\""]).await;
    wait::until("it is down", async || (down().await == 1.0).then_some(())).await;
    // The successor learns nothing by itself for now.
    state.store(SILENT, Ordering::SeqCst);
    fixture.upgrade().await;
    for _ in 0..20 {
        assert_eq!(fixture.upstream_of("a.test").await, "well", "{}", fixture.gateway.log());
    }
    state.store(WELL, Ordering::SeqCst);
    spoken.close();
    let is_back = async || (fixture.upstream_of("a.test").await != "well").then_some(());
    wait::until("its checks have found it well", is_back).await;
    assert_eq!(down().await, 0.0);
}

#[tokio::test]
async fn a_client_that_has_spent_its_burst_has_spent_it_with_the_successor_too() {
    let upstream = Upstream::echo("a").await;
    // One request a minute, which leaks nothing while the test runs, and a burst of five.
    let limited = ingress("a", "a.test", &[("limit-rpm", "1")], &[("/", "a")]);
    let fixture = Fixture::start(Manifests::of(&[service("a", &[upstream.address()]), limited].concat())).await;
    let ask = async || fixture.gateway.get("http://a.test/").await.status.as_u16();
    for expected in [200, 200, 200, 200, 200, 200, 503] {
        assert_eq!(ask().await, expected);
    }
    fixture.upgrade().await;
    assert_eq!(ask().await, 503);
}
