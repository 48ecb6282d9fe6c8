//! The API server is away, comes back, or has forgotten: traffic goes on with what was known (K-01, K-02, K-03).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tests::cluster::ACCOUNT;
use tests::manifests::{ingress, service};
use tests::{Client, Cluster, Gateway, Relay, wait};
use tokio::task::JoinHandle;

use crate::of_class;

const CLASS: &str = "penstock";

/// How soon it is in step with an API server that is back: 5 s, and on a machine that builds at the same time four times as
/// long. Between two tries there are 3 s at most.
const RESYNC: Duration = Duration::from_secs(20);

/// Asks for a host without a pause until it is stopped. Every answer must be 200.
pub(crate) struct Hammer {
    is_over: Arc<AtomicBool>,
    n_answers: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Hammer {
    pub(crate) fn start(gateway: &Gateway, hosts: Vec<String>) -> Self {
        let (is_over, n_answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (over, answers, address) = (Arc::clone(&is_over), Arc::clone(&n_answers), gateway.addresses().http);
        let task = tokio::spawn(async move {
            let mut client = Client::http1(address).await;
            for (number, host) in hosts.iter().cycle().enumerate() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                // The gateway ends a connection after a thousand requests.
                if number % 500 == 499 {
                    client = Client::http1(address).await;
                }
                let answer = client.get(host, "/", &[]).await;
                assert_eq!(answer.status, 200, "{host}: {answer:?}");
                answers.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
        Self { is_over, n_answers, task }
    }

    /// Waits until every host was asked for again.
    pub(crate) async fn more(&self, n_answers: usize) {
        let enough = self.n_answers.load(Ordering::SeqCst) + n_answers;
        let has_more =
            async || (self.n_answers.load(Ordering::SeqCst) >= enough || self.task.is_finished()).then_some(());
        wait::until("more answers", has_more).await;
    }

    pub(crate) async fn end(self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
    }
}

async fn prepared() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.class(CLASS, "penstock.dev/ingress").await;
    cluster
}

/// Each kind is listed as the beginning of a watch that asks for bookmarks.
fn assert_lists_are_streamed(cluster: &Cluster) {
    let requests = cluster.recorded();
    let of_verb = |verb: &'static str| requests.iter().filter(move |request| request["verb"] == verb);
    assert_eq!(of_verb("list").count(), 0);
    for kind in ["ingressclasses", "ingresses", "services", "endpointslices", "configmaps", "secrets"] {
        let mut watches = of_verb("watch").filter(|request| request["objectRef"]["resource"] == kind);
        let uri = watches.next().unwrap()["requestURI"].as_str().unwrap().to_owned();
        assert!(uri.contains("sendInitialEvents=true") && uri.contains("allowWatchBookmarks=true"), "{uri}");
        assert!(watches.next().is_none(), "{kind} is watched once");
    }
}

fn route(name: &str, host: &str, service: &str) -> String {
    of_class(&ingress(name, host, &[], &[("/", service)]), CLASS)
}

/// K-01.
#[tokio::test]
async fn without_the_api_server_at_the_start_nothing_is_accepted_until_it_is_there() {
    let cluster = prepared().await;
    let upstream = cluster.upstream("late").await;
    cluster.apply("default", &service("late", &[upstream.address()])).await;
    cluster.apply("default", &route("late", "late.test", "late")).await;
    cluster.kill();
    let gateway = Gateway::spawn_on(&cluster.kubeconfig(), &[]);
    gateway.wait_for_log(&["watch is interrupted"]).await;
    let readiness = wait::until("the status endpoint", async || gateway.try_status("/readyz").await).await;
    assert_eq!(readiness.status, 503);
    assert_eq!(gateway.status("/healthz").await.status, 200);
    assert!(Client::try_http1(gateway.addresses().http).await.is_err(), "nothing is bound yet");
    cluster.restart().await;
    let began = Instant::now();
    // From the first connection that is accepted, every answer is right.
    let connected = async || Client::try_http1(gateway.addresses().http).await.ok();
    let mut client = wait::until("the gateway accepts", connected).await;
    assert_eq!(client.get("late.test", "/", &[]).await.upstream(), "late");
    gateway.wait_until_ready().await;
    assert!(began.elapsed() <= RESYNC, "ready after {:?}", began.elapsed());
    assert!(gateway.exit_status().is_none());
}

/// K-02 and K-03: the API server dies under traffic, and when it is back its memory is compacted and a part of the objects
/// is gone.
#[tokio::test]
async fn traffic_goes_on_without_the_api_server_and_nothing_flickers_when_it_is_back() {
    let cluster = prepared().await;
    let upstream = cluster.upstream("steady").await;
    cluster.apply("default", &service("steady", &[upstream.address()])).await;
    let name = |number: usize| format!("r{number}");
    let host = |number: usize| format!("r{number}.test");
    for number in 0..60 {
        cluster.apply("default", &route(&name(number), &host(number), "steady")).await;
    }
    let relay = Relay::to(cluster.address()).await;
    cluster.trust_account().await;
    let gateway = Gateway::start_on(&cluster.kubeconfig_of(ACCOUNT, relay.address()), &[]).await;
    assert_lists_are_streamed(&cluster);
    let hammer = Hammer::start(&gateway, (10..60).map(host).collect());
    relay.cut();
    gateway.wait_for_log(&["watch is interrupted", "kind=Ingress"]).await;
    for number in 0..10 {
        cluster.delete("Ingress", "default", &name(number)).await;
    }
    cluster.apply("default", &route("new", "new.test", "steady")).await;
    // What happened is forgotten: the watches have to list again.
    cluster.compact().await;
    cluster.kill();
    hammer.more(100).await;
    assert_eq!(gateway.get("http://r0.test/").await.status, 200, "the last state serves on");
    assert_eq!(gateway.status("/healthz").await.status, 200, "nobody restarts it");
    assert_eq!(gateway.status("/readyz").await.status, 200, "and nobody takes it out of service");
    cluster.restart().await;
    let began = Instant::now();
    relay.restore();
    gateway.wait_for("http://r0.test/", |answer| answer.status == 404).await;
    gateway.wait_for("http://new.test/", |answer| answer.status == 200).await;
    let took = began.elapsed();
    assert!(took <= RESYNC, "in step again after {took:?}");
    gateway.wait_for_log(&["everything is listed again", "kind=Ingress"]).await;
    for number in 0..10 {
        assert_eq!(gateway.get(&format!("http://{}/", host(number))).await.status, 404);
    }
    hammer.more(100).await;
    hammer.end().await;
    assert_eq!(gateway.status("/readyz").await.status, 200);
}

/// A connection on which nothing comes any more, and which nobody has closed.
#[tokio::test]
async fn a_watch_that_has_fallen_silent_is_noticed_within_90_seconds() {
    let cluster = prepared().await;
    let upstream = cluster.upstream("heard").await;
    cluster.apply("default", &service("heard", &[upstream.address()])).await;
    let relay = Relay::to(cluster.address()).await;
    let gateway = Gateway::start_on(&cluster.kubeconfig_of("admin", relay.address()), &[]).await;
    let other = Gateway::start_on(&cluster.kubeconfig(), &[]).await;
    relay.silence();
    cluster.apply("default", &route("heard", "heard.test", "heard")).await;
    let is_heard = async || (gateway.get("http://heard.test/").await.status == 200).then_some(());
    wait::within(Duration::from_secs(90), "the watch is noticed", is_heard).await;
    // Watches of which nothing is to be told are nothing to report.
    assert!(!other.log().contains("watch is interrupted"), "{}", other.log());
}

/// K-20: etcd is restored from an older state, so that versions go back.
#[tokio::test]
async fn an_older_state_of_etcd_is_followed() {
    let cluster = prepared().await;
    let upstream = cluster.upstream("restored").await;
    cluster.apply("default", &service("restored", &[upstream.address()])).await;
    cluster.apply("default", &route("old", "old.test", "restored")).await;
    cluster.apply("default", &route("steady", "steady.test", "restored")).await;
    cluster.save().await;
    let gateway = Gateway::start_on(&cluster.kubeconfig(), &[]).await;
    cluster.delete("Ingress", "default", "old").await;
    for number in 0..20 {
        cluster.apply("default", &route("new", &format!("new{number}.test"), "restored")).await;
    }
    gateway.wait_for("http://new19.test/", |answer| answer.status == 200).await;
    gateway.wait_for("http://old.test/", |answer| answer.status == 404).await;
    let hammer = Hammer::start(&gateway, vec!["steady.test".to_owned()]);
    cluster.rewind().await;
    gateway.wait_for("http://old.test/", |answer| answer.status == 200).await;
    gateway.wait_for("http://new19.test/", |answer| answer.status == 404).await;
    cluster.apply("default", &route("later", "later.test", "restored")).await;
    gateway.wait_for("http://later.test/", |answer| answer.status == 200).await;
    hammer.more(100).await;
    hammer.end().await;
}
