//! Upgrades of the real binary under load: those that succeed, those that fail, and what lives longer than either.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use http::Response;
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use tests::certificate::Certificate;
use tests::client::insecure_config_of;
use tests::gateway::{Addresses, binary};
use tests::handoff::{OTHER_VERSION, Place, VERSION};
use tests::load::{Kind, Lane, Load, Outcome};
use tests::manifests::{ingress, service};
use tests::upstream::full;
use tests::{Answer, Client, Gateway, Manifests, Upstream, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// A gateway that can be upgraded, with an upstream that answers `/held` when it is released.
struct Fixture {
    place: Place,
    gateway: Gateway,
    upstream: Upstream,
    released: Arc<Semaphore>,
    manifests: Manifests,
}

impl Fixture {
    /// With a probation that is long enough to be seen and short enough for a test.
    async fn start(flags: &[&str]) -> Self {
        let place = Place::new();
        let released = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&released);
        let upstream = Upstream::with(move |request| {
            let held = Arc::clone(&held);
            Box::pin(async move {
                if request.uri().path() == "/held" {
                    held.acquire().await.unwrap().forget();
                }
                Response::new(full(request.uri().path().to_owned()))
            })
        })
        .await;
        let certificate = Certificate::self_signed(&["a.test"]);
        let tls = ingress("a", "a.test", &[("ssl-redirect", "false")], &[("/", "a")]);
        let manifests = Manifests::of(&[service("a", &[upstream.address()]), tls].concat());
        manifests.write("certificate.yaml", &certificate.secret("a"));
        let flag = place.flag();
        let mut all = vec![flag.as_str(), "--drain-timeout=60s"];
        if !flags.iter().any(|flag| flag.starts_with("--handoff-probation")) {
            all.push("--handoff-probation=300ms");
        }
        all.extend(flags);
        let gateway = Gateway::start(&manifests, &all).await;
        place.wait_until_taken().await;
        Self { place, gateway, upstream, released, manifests }
    }

    fn http(&self) -> SocketAddr {
        self.gateway.addresses().http
    }

    /// Sends a request that waits for its release, and waits until the upstream has it.
    async fn hold(&self, mut client: Client) -> JoinHandle<hyper::Result<Answer>> {
        let n_before = self.upstream.n_requests();
        let request = client.request("GET", "a.test", "/held", &[], "");
        let answer = tokio::spawn(async move { client.try_send(request).await });
        let is_there = async || (self.upstream.n_requests() > n_before).then_some(());
        wait::until("the request is with the upstream", is_there).await;
        answer
    }

    /// The version of the process that answers.
    async fn version(&self) -> String {
        let text = self.gateway.status("/metrics").await.text();
        let line = text.lines().find(|line| line.starts_with("nginx_ingress_controller_build_info{")).unwrap();
        let (_, rest) = line.split_once("release=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }

    fn load(&self) -> Load {
        let Addresses { http, https, .. } = self.gateway.addresses();
        let lane = |kind, address| Lane { kind, address, host: "a.test".to_owned(), path: "/".to_owned() };
        let lanes = [(Kind::Http1, http), (Kind::Http2Reopened, http), (Kind::New, http), (Kind::NewTls, https)];
        Load::start(lanes.map(|(kind, address)| lane(kind, address)).to_vec())
    }
}

/// What `gateway upgrade` said.
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn assert_none_lost(outcomes: &[Outcome]) {
    assert!(outcomes.len() >= 500, "{} requests", outcomes.len());
    let lost: Vec<_> = outcomes.iter().filter(|outcome| outcome.summary() != "200").collect();
    assert!(lost.is_empty(), "{} of {} lost: {:?}", lost.len(), outcomes.len(), lost.first());
}

/// What the tests below rely on: a restart without a hand-over is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_load_sees_a_gap() {
    let fixture = Fixture::start(&[]).await;
    let load = fixture.load();
    load.wait_for(200).await;
    fixture.gateway.signal(Signal::KILL);
    fixture.gateway.wait_for_exit().await;
    let next = Gateway::spawn(fixture.gateway.addresses(), fixture.manifests.path(), &[&fixture.place.flag()]);
    next.wait_until_ready().await;
    load.wait_for(200).await;
    let outcomes = load.stop().await;
    let n_lost = outcomes.iter().filter(|outcome| outcome.summary() != "200").count();
    assert!(n_lost > 0, "{} requests, none of them lost", outcomes.len());
}

fn descriptors_and_threads(pid: u32) -> (usize, usize) {
    let count = |name: &str| std::fs::read_dir(format!("/proc/{pid}/{name}")).unwrap().count();
    (count("fd"), count("task"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades_under_load_lose_no_request() {
    let fixture = Fixture::start(&[]).await;
    assert_eq!(fixture.version().await, VERSION);
    let load = fixture.load();
    load.wait_for(200).await;
    let first = fixture.place.pid().await;
    let upgraded = fixture.place.upgrade(Some(&fixture.place.other_version())).await;
    assert_eq!(upgraded.status.code(), Some(0), "{}\n{}", said(&upgraded), fixture.gateway.log());
    assert!(said(&upgraded).contains(&format!("handed over to version {OTHER_VERSION}")), "{}", said(&upgraded));
    load.wait_for(200).await;
    assert_eq!(fixture.version().await, OTHER_VERSION, "another program answers");
    let second = fixture.place.pid().await;
    assert_ne!(first, second);
    // The second process starts the third by its own program.
    kill_process(Pid::from_raw(i32::try_from(second).unwrap()).unwrap(), Signal::USR2).unwrap();
    let is_third = async || (fixture.place.pid().await != second).then_some(());
    wait::until("a third process takes hand-overs", is_third).await;
    load.wait_for(200).await;
    assert_none_lost(&load.stop().await);
    assert_eq!(fixture.version().await, OTHER_VERSION);
    let committed = fixture.gateway.metric("penstock_handovers_total", &["outcome=\"committed\""]).await;
    assert!(committed >= 1.0, "{committed}");
    assert_eq!(fixture.gateway.wait_for_exit().await.code(), Some(0), "the first one drains and leaves");
    // A change reaches whoever serves now.
    let host = ingress("b", "b.test", &[], &[("/", "a")]);
    fixture.manifests.write("b.yaml", &host);
    fixture.gateway.wait_for("http://b.test/", |answer| answer.status == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_cannot_take_over_changes_nothing() {
    let fixture = Fixture::start(&["--handoff-timeout=2s"]).await;
    let gateway = binary();
    let broken = format!("exec {} run --manifests /nonexistent", gateway.display());
    let bad = gateway.with_file_name("loadtest");
    let faulty =
        |fault| format!("exec {} successor --socket {} {fault}", bad.display(), fixture.place.socket().display());
    let elsewhere = format!("shift; exec {} run --http=192.0.2.1:1 \"$@\"", gateway.display());
    let programs = [
        (Path::new("/nonexistent/gateway").to_owned(), "spawn", "cannot be started"),
        (fixture.place.script("exits", "exit 3"), "exited", "exit status: 3"),
        (fixture.place.script("hangs", "exec sleep 600"), "hung", "no word"),
        (fixture.place.script("broken", &broken), "exited", "exit status: 2"),
        (fixture.place.script("elsewhere", &elsewhere), "gave_up", "bind 192.0.2.1:1"),
        (fixture.place.script("crashes", &faulty("crash")), "exited", "signal: 6"),
        (fixture.place.script("later", &faulty("version")), "version", "speaks version 65535"),
    ];
    let pid = fixture.place.pid().await;
    let load = fixture.load();
    for (program, label, reason) in &programs {
        let before = fixture.gateway.metric("penstock_handovers_total", &[&format!("outcome=\"{label}\"")]).await;
        load.wait_for(100).await;
        let failed = fixture.place.upgrade(Some(program)).await;
        let text = format!("{program:?}: {}\n{}", said(&failed), fixture.gateway.log());
        assert_eq!(failed.status.code(), Some(1), "{text}");
        assert!(said(&failed).contains("the old process serves on") && said(&failed).contains(reason), "{text}");
        fixture.gateway.wait_for_log(&["no hand-over", reason, label]).await;
        let after = fixture.gateway.metric("penstock_handovers_total", &[&format!("outcome=\"{label}\"")]).await;
        assert!(after > before, "{text}");
    }
    load.wait_for(100).await;
    assert_none_lost(&load.stop().await);
    assert_eq!(fixture.place.pid().await, pid, "it is the same process");
    let upgraded = fixture.place.upgrade(None).await;
    assert_eq!(upgraded.status.code(), Some(0), "the next one works: {}", said(&upgraded));
}

#[tokio::test]
async fn a_successor_that_is_killed_in_the_probation_gives_way_to_the_old_process() {
    let fixture = Fixture::start(&["--handoff-probation=600s"]).await;
    let pid = fixture.place.pid().await;
    let log = async |words: &[&str]| fixture.gateway.wait_for_log(words).await;
    let upgrade = fixture.place.upgrade(None);
    let kill = async {
        let started = log(&["started a new process"]).await;
        let (_, successor) = started.split_once("pid=").unwrap();
        log(&["incumbent", "in the probation"]).await;
        assert_eq!(fixture.gateway.get("http://a.test/").await.status, 200, "the successor serves");
        let successor = Pid::from_raw(successor.trim().parse().unwrap()).unwrap();
        kill_process(successor, Signal::KILL).unwrap();
    };
    let (failed, ()) = tokio::join!(upgrade, kill);
    assert_eq!(failed.status.code(), Some(1));
    assert!(said(&failed).contains("signal: 9"), "{}", said(&failed));
    assert_eq!(fixture.gateway.get("http://a.test/").await.status, 200);
    log(&["no hand-over", "exited", "signal: 9"]).await;
    assert_eq!(fixture.gateway.metric("penstock_handovers_total", &["outcome=\"exited\""]).await, 1.0);
    assert_eq!(fixture.place.pid().await, pid);
}

#[tokio::test]
async fn signals_during_an_upgrade_start_no_other_one_and_change_nothing() {
    let fixture = Fixture::start(&[]).await;
    let before = fixture.place.pid().await;
    for signal in [Signal::HUP, Signal::USR2, Signal::USR2, Signal::HUP, Signal::USR2] {
        fixture.gateway.signal(signal);
    }
    fixture.gateway.wait_for_log(&["incumbent", "in the probation"]).await;
    for signal in [Signal::USR2, Signal::HUP] {
        fixture.gateway.signal(signal);
    }
    assert_eq!(fixture.gateway.wait_for_exit().await.code(), Some(0));
    assert_ne!(fixture.place.pid().await, before);
    let n_started = fixture.gateway.log().lines().filter(|line| line.contains("started a new process")).count();
    assert_eq!(n_started, 1, "{}", fixture.gateway.log());
    assert_eq!(fixture.gateway.get("http://a.test/").await.status, 200);
}

#[tokio::test]
async fn a_signal_to_leave_ends_an_upgrade_wherever_it_is() {
    for (signal, moment) in [(Signal::TERM, "waiting for PREPARED"), (Signal::QUIT, "in the probation")] {
        let fixture = Fixture::start(&["--handoff-probation=600s", "--lame-duck=0s"]).await;
        let held = fixture.hold(Client::http1(fixture.http()).await).await;
        fixture.gateway.signal(Signal::USR2);
        fixture.gateway.wait_for_log(&["incumbent", moment]).await;
        fixture.gateway.signal(signal);
        fixture.gateway.wait_for_log(&["no hand-over", "leaving"]).await;
        // Its own signals end nothing but itself: what is under way goes on, and the new process has gone, too.
        fixture.gateway.wait_for_log(&["gave up: the process is leaving"]).await;
        fixture.released.add_permits(1);
        assert_eq!(held.await.unwrap().unwrap().text(), "/held", "{moment}");
        assert_eq!(fixture.gateway.wait_for_exit().await.code(), Some(0), "{moment}");
        let is_closed = async || TcpStream::connect(fixture.http()).await.is_err().then_some(());
        wait::until("nobody listens any more", is_closed).await;
    }
}

#[tokio::test]
async fn a_successor_that_is_told_to_leave_in_the_probation_gives_way_to_the_old_process() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let fixture = Fixture::start(&["--handoff-probation=600s"]).await;
        let upgrade = fixture.place.upgrade(None);
        let leave = async {
            let started = fixture.gateway.wait_for_log(&["started a new process"]).await;
            let (_, successor) = started.split_once("pid=").unwrap();
            fixture.gateway.wait_for_log(&["incumbent", "in the probation"]).await;
            kill_process(Pid::from_raw(successor.trim().parse().unwrap()).unwrap(), signal).unwrap();
        };
        let (failed, ()) = tokio::join!(upgrade, leave);
        assert_eq!(failed.status.code(), Some(1), "{signal:?}");
        assert!(said(&failed).contains("the process is leaving"), "{signal:?}: {}", said(&failed));
        assert_eq!(fixture.gateway.get("http://a.test/").await.status, 200, "{signal:?}");
        assert_eq!(fixture.place.pid().await, fixture.gateway.pid(), "{signal:?}");
    }
}

#[tokio::test]
async fn what_is_under_way_ends_on_the_old_process() {
    let fixture = Fixture::start(&[]).await;
    let over_http1 = fixture.hold(Client::http1(fixture.http()).await).await;
    let over_http2 = fixture.hold(Client::h2c(fixture.http()).await).await;
    let mut half = TcpStream::connect(fixture.http()).await.unwrap();
    half.write_all(b"POST /upload HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhello").await.unwrap();
    let mut idle = Client::http1(fixture.http()).await;
    assert_eq!(idle.get("a.test", "/", &[]).await.status, 200);
    let upgraded = fixture.place.upgrade(None).await;
    assert_eq!(upgraded.status.code(), Some(0), "{}", said(&upgraded));
    let is_told_to_go = async || {
        let answer = idle.get("a.test", "/", &[]).await;
        assert_eq!(answer.status, 200);
        (answer.header("connection") == Some("close")).then_some(())
    };
    wait::until("an idle connection is told to go with its next answer", is_told_to_go).await;
    half.write_all(b"world").await.unwrap();
    let mut answer = String::new();
    half.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("/upload"), "{answer}");
    fixture.gateway.wait_for_log(&["endpoints that the old process has learnt about", "n_known=1"]).await;
    assert!(fixture.gateway.exit_status().is_none(), "it waits for what is held");
    fixture.released.add_permits(2);
    assert_eq!(over_http1.await.unwrap().unwrap().text(), "/held");
    assert_eq!(over_http2.await.unwrap().unwrap().text(), "/held");
    assert_eq!(fixture.gateway.wait_for_exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_tls_session_is_resumed_with_the_next_process() {
    let fixture = Fixture::start(&["--configmap=default/settings"]).await;
    let connect = async |config: &Arc<ClientConfig>| {
        let name = ServerName::try_from("a.test").unwrap();
        let stream = TcpStream::connect(fixture.gateway.addresses().https).await.unwrap();
        TlsConnector::from(Arc::clone(config)).connect(name, stream).await
    };
    let [tls12, tls13] = [&rustls::version::TLS12, &rustls::version::TLS13];
    for (name, version, other) in [("TLSv1.2", tls12, tls13), ("TLSv1.3", tls13, tls12)] {
        let settings = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  ssl-protocols: {name}\n  \
             ssl-session-tickets: \"true\"\n  ssl-session-cache: \"false\"\n"
        );
        fixture.manifests.write("settings.yaml", &settings);
        let [config, refused] = [version, other].map(|version| Arc::new(insecure_config_of(&[version]).0));
        // Before the settings are live, sessions are resumed by their number.
        let is_live = async || connect(&refused).await.is_err().then_some(());
        wait::until("the settings are live", is_live).await;
        let shake = async || {
            let mut stream = connect(&config).await.unwrap();
            // Tickets of TLS 1.3 come after the handshake.
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200 "));
            stream.get_ref().1.handshake_kind().unwrap()
        };
        assert_eq!(shake().await, HandshakeKind::Full);
        assert_eq!(shake().await, HandshakeKind::Resumed);
        let upgraded = fixture.place.upgrade(None).await;
        assert_eq!(upgraded.status.code(), Some(0), "{}", said(&upgraded));
        assert_eq!(shake().await, HandshakeKind::Resumed);
    }
}

#[tokio::test]
async fn a_survivor_of_many_upgrades_has_what_that_of_the_first_had() {
    let fixture = Fixture::start(&["--handoff-probation=50ms"]).await;
    let upgrade = async || {
        let before = fixture.place.pid().await;
        let upgraded = fixture.place.upgrade(None).await;
        assert_eq!(upgraded.status.code(), Some(0), "{}", said(&upgraded));
        let is_gone = async || (!Path::new(&format!("/proc/{before}/fd/0")).exists()).then_some(());
        wait::until("the old process has ended", is_gone).await;
        fixture.place.pid().await
    };
    // The first one has nothing that was inherited, and no connection of its own to its successor.
    let first = upgrade().await;
    assert_eq!(fixture.gateway.get("http://a.test/").await.status, 200);
    let wanted = descriptors_and_threads(first);
    let mut last = first;
    for _ in 0..5 {
        last = upgrade().await;
    }
    assert_eq!(fixture.gateway.get("http://a.test/").await.status, 200);
    let is_same = async || {
        let (descriptors, threads) = descriptors_and_threads(last);
        (descriptors <= wanted.0 && threads <= wanted.1).then_some(())
    };
    wait::until(&format!("{wanted:?} descriptors and threads, of {:?}", descriptors_and_threads(last)), is_same).await;
}

#[tokio::test]
async fn an_upgrade_is_refused_while_the_process_leaves() {
    let fixture = Fixture::start(&[]).await;
    let held = fixture.hold(Client::http1(fixture.http()).await).await;
    fixture.gateway.signal(Signal::TERM);
    fixture.gateway.wait_for_log(&["draining"]).await;
    let refused = fixture.place.upgrade(None).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("the process is leaving"), "{}", said(&refused));
    fixture.gateway.signal(Signal::USR2);
    fixture.gateway.wait_for_log(&["no upgrade", "leaving"]).await;
    fixture.released.add_permits(1);
    assert_eq!(held.await.unwrap().unwrap().text(), "/held", "the drain goes on");
    assert_eq!(fixture.gateway.wait_for_exit().await.code(), Some(0));
}

#[tokio::test]
async fn without_a_gateway_there_is_nothing_to_upgrade() {
    let place = Place::new();
    let nobody = place.upgrade(None).await;
    assert_eq!(nobody.status.code(), Some(1));
    assert!(said(&nobody).contains("no gateway listens there"), "{}", said(&nobody));
}

#[tokio::test]
async fn a_supervised_gateway_is_upgraded_by_a_signal_and_ends_with_its_last_process() {
    let upstream = Upstream::echo("a").await;
    let place = Place::new();
    let manifests =
        Manifests::of(&[service("a", &[upstream.address()]), ingress("a", "a.test", &[], &[("/", "a")])].concat());
    let flag = place.flag();
    let flags = [flag.as_str(), "--handoff-probation=50ms", "--lame-duck=0s"];
    let supervisor = Gateway::supervised(Addresses::reserve(), manifests.path(), &flags);
    supervisor.wait_until_ready().await;
    place.wait_until_taken().await;
    for _ in 0..2 {
        let before = place.pid().await;
        assert_ne!(before, supervisor.pid());
        supervisor.signal(Signal::USR2);
        let is_another = async || (place.pid().await != before).then_some(());
        wait::until("another process takes hand-overs", is_another).await;
        let is_reaped = async || (!Path::new(&format!("/proc/{before}")).exists()).then_some(());
        wait::until("the old process is reaped", is_reaped).await;
        assert_eq!(supervisor.get("http://a.test/").await.status, 200);
        assert!(supervisor.exit_status().is_none());
    }
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_for_exit().await.code(), Some(0), "{}", supervisor.log());
}

#[tokio::test]
async fn a_supervisor_ends_as_its_gateway_did() {
    let addresses = Addresses::reserve();
    let refused = Gateway::supervised(addresses, Path::new("/nonexistent"), &[]);
    assert_eq!(refused.wait_for_exit().await.code(), Some(2), "{}", refused.log());
    let (place, manifests) = (Place::new(), Manifests::new());
    let killed = Gateway::supervised(Addresses::reserve(), manifests.path(), &[&place.flag()]);
    place.wait_until_taken().await;
    let pid = i32::try_from(place.pid().await).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    assert_eq!(killed.wait_for_exit().await.code(), Some(128 + 9));
}

#[tokio::test]
async fn a_gateway_in_the_place_of_ingress_nginx_is_upgraded_in_that_place() {
    let (upstream, place) = (Upstream::echo("a").await, Place::new());
    let class = "---\napiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: nginx}\n\
                 spec: {controller: k8s.io/ingress-nginx}\n";
    let of_class = format!("{}  ingressClassName: nginx\n", ingress("a", "a.test", &[], &[("/", "a")]));
    let manifests = Manifests::of(&[&service("a", &[upstream.address()]), class, &of_class].concat());
    let program = place.link("nginx-ingress-controller");
    let flag = place.flag();
    let flags = [flag.as_str(), "--handoff-probation=50ms", "--lame-duck=0s", "--election-id=leader"];
    let gateway = Gateway::spawn_program(&program, &[], Addresses::reserve(), manifests.path(), &flags);
    gateway.wait_until_ready().await;
    place.wait_until_taken().await;
    assert_eq!(gateway.get("http://a.test/").await.upstream(), "a");
    let upgraded = place.upgrade(None).await;
    assert_eq!(upgraded.status.code(), Some(0), "{}\n{}", said(&upgraded), gateway.log());
    gateway.wait_for_exit().await;
    assert_eq!(gateway.get("http://a.test/").await.upstream(), "a");
}
