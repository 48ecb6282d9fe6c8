//! The life of the process: how it starts, what its signals do, how it drains, and what it exits with.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Response;
use rustix::process::Signal;
use tests::gateway::{Addresses, command};
use tests::load::{Kind, Lane, Load, tally};
use tests::manifests::{ingress, service};
use tests::upstream::full;
use tests::{Answer, Client, Gateway, Manifests, Upstream, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// A gateway with an upstream that answers `/held` when it is released, and everything else at once.
struct Fixture {
    gateway: Gateway,
    upstream: Upstream,
    released: Arc<Semaphore>,
    _manifests: Manifests,
}

impl Fixture {
    async fn start(flags: &[&str]) -> Self {
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
        let manifests =
            Manifests::of(&[service("a", &[upstream.address()]), ingress("a", "a.test", &[], &[("/", "a")])].concat());
        let gateway = Gateway::start(&manifests, flags).await;
        Self { gateway, upstream, released, _manifests: manifests }
    }

    fn http(&self) -> SocketAddr {
        self.gateway.addresses().http
    }

    /// Sends a request that waits for its release, and waits until the upstream has it. One that is cut fails.
    async fn hold(&self, mut client: Client) -> JoinHandle<hyper::Result<Answer>> {
        let n_before = self.upstream.n_requests();
        let request = client.request("GET", "a.test", "/held", &[], "");
        let answer = tokio::spawn(async move { client.try_send(request).await });
        wait::until("the request is with the upstream", async || (self.upstream.n_requests() > n_before).then_some(()))
            .await;
        answer
    }

    async fn wait_until_not_ready(&self) {
        let probe = async || (self.gateway.try_status("/readyz").await?.status == 503).then_some(());
        wait::until("the readiness probe fails", probe).await;
    }

    async fn wait_until_nobody_listens(&self) {
        let probe = async || TcpStream::connect(self.http()).await.is_err().then_some(());
        wait::until("new connections are refused", probe).await;
    }

    async fn exit_code(&self) -> Option<i32> {
        self.gateway.wait_for_exit().await.code()
    }
}

/// The lame duck is as long as a loaded machine needs to be seen in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_and_sigint_are_a_lame_duck_and_then_a_drain() {
    const LAME_DUCK: Duration = Duration::from_secs(4);
    let leave = async |signal: Signal| {
        let fixture = Fixture::start(&["--lame-duck=4s", "--drain-timeout=60s"]).await;
        let held = fixture.hold(Client::http1(fixture.http()).await).await;
        let lane = |kind| Lane { kind, address: fixture.http(), host: "a.test".to_owned(), path: "/".to_owned() };
        let load = Load::start([Kind::Http1, Kind::Http2, Kind::New].map(lane).to_vec());
        let signalled = Instant::now();
        fixture.gateway.signal(signal);
        fixture.wait_until_not_ready().await;
        assert!(signalled.elapsed() < LAME_DUCK, "not at once");
        assert_eq!(fixture.gateway.status("/healthz").await.status, 200, "it is alive");
        assert_eq!(fixture.gateway.get("http://a.test/").await.status, 200, "it still accepts");
        load.wait_for(300).await;
        let answers = load.stop().await;
        for lane in 0..3 {
            let answers = tally(&answers, lane);
            assert_eq!(answers.keys().collect::<Vec<_>>(), ["200"], "{answers:?}");
        }
        fixture.wait_until_nobody_listens().await;
        assert!(signalled.elapsed() >= LAME_DUCK, "it accepts until the lame duck is over");
        fixture.released.add_permits(1);
        let answer = held.await.unwrap().unwrap();
        assert_eq!((answer.text().as_str(), answer.header("connection")), ("/held", Some("close")));
        assert_eq!(fixture.exit_code().await, Some(0));
    };
    tokio::join!(leave(Signal::TERM), leave(Signal::INT));
}

#[tokio::test]
async fn sigquit_drains_without_a_lame_duck() {
    let fixture = Fixture::start(&["--lame-duck=600s", "--drain-timeout=600s"]).await;
    let over_http1 = fixture.hold(Client::http1(fixture.http()).await).await;
    let over_http2 = fixture.hold(Client::h2c(fixture.http()).await).await;
    fixture.gateway.signal(Signal::QUIT);
    fixture.wait_until_nobody_listens().await;
    assert_eq!(fixture.gateway.try_status("/readyz").await.unwrap().status, 503);
    // Neither a SIGHUP nor anything else than a signal to leave disturbs the drain.
    fixture.gateway.signal(Signal::HUP);
    fixture.gateway.wait_for_log(&["reading all files again"]).await;
    fixture.released.add_permits(2);
    let answer = over_http1.await.unwrap().unwrap();
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("/held", Some("close")));
    assert_eq!(over_http2.await.unwrap().unwrap().text(), "/held");
    assert_eq!(fixture.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let in_lame_duck = async {
        let fixture = Fixture::start(&["--lame-duck=600s", "--drain-timeout=600s"]).await;
        let held = fixture.hold(Client::http1(fixture.http()).await).await;
        fixture.gateway.signal(Signal::TERM);
        fixture.wait_until_not_ready().await;
        fixture.gateway.signal(Signal::TERM);
        assert!(fixture.exit_code().await.is_some(), "it ended by itself");
        assert!(held.await.unwrap().is_err(), "what was under way is cut");
    };
    let in_drain = async {
        let fixture = Fixture::start(&["--lame-duck=600s", "--drain-timeout=600s"]).await;
        let held = fixture.hold(Client::h2c(fixture.http()).await).await;
        fixture.gateway.signal(Signal::QUIT);
        fixture.wait_until_nobody_listens().await;
        fixture.gateway.signal(Signal::INT);
        assert!(fixture.exit_code().await.is_some(), "it ended by itself");
        assert!(held.await.unwrap().is_err(), "what was under way is cut");
    };
    tokio::join!(in_lame_duck, in_drain);
}

#[tokio::test]
async fn the_drain_limit_cuts_what_is_left_and_says_how_much() {
    let fixture = Fixture::start(&["--drain-timeout=1s"]).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(fixture.hold(Client::http1(fixture.http()).await).await);
    }
    fixture.gateway.signal(Signal::TERM);
    assert_eq!(fixture.exit_code().await, Some(0));
    fixture.gateway.wait_for_log(&["WARN", "n_cut=3"]).await;
    for held in held {
        assert!(held.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn idle_connections_are_closed_in_the_drain() {
    let fixture = Fixture::start(&["--drain-timeout=600s"]).await;
    let mut used = Client::http1(fixture.http()).await;
    assert_eq!(used.get("a.test", "/", &[]).await.status, 200);
    let mut idle = TcpStream::connect(fixture.http()).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 4096];
    assert!(idle.read(&mut answer).await.unwrap() > 0);
    let held = fixture.hold(Client::http1(fixture.http()).await).await;
    fixture.gateway.signal(Signal::TERM);
    fixture.wait_until_nobody_listens().await;
    // A request that was on its way when the drain began is answered, and told that it was the last.
    let last = used.get("a.test", "/", &[]).await;
    assert_eq!((last.status.as_u16(), last.header("connection")), (200, Some("close")));
    // The kept connection ends without an error while a request on another one is still under way.
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(wait::LIMIT, idle.read_to_end(&mut rest)).await;
    assert!(matches!(ended, Ok(Ok(_))), "{ended:?}");
    fixture.released.add_permits(1);
    assert_eq!(held.await.unwrap().unwrap().status, 200);
    assert_eq!(fixture.exit_code().await, Some(0));
}

/// Frames of HTTP/2 (RFC 9113 section 4.1): type and payload.
fn frames(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut frames = Vec::new();
    while let [a, b, c, kind, _flags, _, _, _, _, rest @ ..] = bytes {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let (payload, rest) = rest.split_at(length.min(rest.len()));
        frames.push((*kind, payload));
        bytes = rest;
    }
    frames
}

#[tokio::test]
async fn http2_connections_are_told_to_go_away() {
    const GOAWAY: u8 = 7;
    let fixture = Fixture::start(&["--drain-timeout=600s"]).await;
    let mut raw = TcpStream::connect(fixture.http()).await.unwrap();
    raw.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut settings = [0; 9];
    raw.read_exact(&mut settings).await.unwrap();
    assert_eq!(settings[3], 4, "the server's preface is a SETTINGS frame");
    let mut busy = Client::h2c(fixture.http()).await;
    assert_eq!(busy.get("a.test", "/", &[]).await.status, 200);
    let held = fixture.hold(busy.another()).await;
    fixture.gateway.signal(Signal::TERM);

    let mut received = settings.to_vec();
    let mut buffer = vec![0; 4096];
    wait::until("a GOAWAY frame without an error", async || {
        let n = tokio::time::timeout(wait::LIMIT, raw.read(&mut buffer)).await.unwrap().unwrap();
        received.extend_from_slice(&buffer[..n]);
        let goaway = frames(&received).into_iter().find(|(kind, _)| *kind == GOAWAY);
        if goaway.is_none() {
            assert_ne!(n, 0, "closed without GOAWAY");
        }
        goaway.map(|(_, payload)| assert_eq!(payload[4..8], [0; 4], "NO_ERROR"))
    })
    .await;
    drop(raw);
    fixture.wait_until_nobody_listens().await;
    fixture.released.add_permits(1);
    assert_eq!(held.await.unwrap().unwrap().text(), "/held", "a stream that was open is answered");
    let request = busy.request("GET", "a.test", "/", &[], "");
    assert!(busy.try_send(request).await.is_err(), "no new streams");
    drop(busy);
    assert_eq!(fixture.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_websocket_works_until_the_drain_limit_and_ends_without_an_error() {
    let upstream = Upstream::with(|mut request| {
        Box::pin(async move {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
                let (mut reader, mut writer) = tokio::io::split(&mut stream);
                // It ends with its client.
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
            let switching = Response::builder().status(101).header("connection", "upgrade");
            switching.header("upgrade", "websocket").body(full("")).unwrap()
        })
    })
    .await;
    let manifests =
        Manifests::of(&[service("a", &[upstream.address()]), ingress("a", "a.test", &[], &[("/", "a")])].concat());
    let gateway = Gateway::start(&manifests, &["--drain-timeout=3s"]).await;
    let mut socket = TcpStream::connect(gateway.addresses().http).await.unwrap();
    let handshake = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(handshake.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    let signalled = Instant::now();
    gateway.signal(Signal::TERM);
    let refused = async || TcpStream::connect(gateway.addresses().http).await.is_err().then_some(());
    wait::until("new connections are refused", refused).await;
    socket.write_all(b"x").await.unwrap();
    assert_eq!(socket.read_u8().await.unwrap(), b'x', "the drain leaves it alone");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(wait::LIMIT, socket.read_to_end(&mut rest)).await;
    assert!(matches!(ended, Ok(Ok(_))), "{ended:?}");
    assert!(signalled.elapsed() >= Duration::from_secs(3), "it was cut before the limit");
    assert_eq!(gateway.wait_for_exit().await.code(), Some(0));
    gateway.wait_for_log(&["WARN", "n_cut=1"]).await;
}

/// A file that is written under another of its names tells the watched directory nothing.
#[tokio::test]
async fn sighup_reads_the_files_again() {
    let upstream = Upstream::echo("a").await;
    let version = |name: &str, number: u8| {
        let target = format!("/v{number}");
        ingress(name, &format!("{name}.test"), &[("rewrite-target", &target)], &[("/", "a")])
    };
    let (manifests, elsewhere) = (Manifests::of(&service("a", &[upstream.address()])), Manifests::new());
    elsewhere.write("linked.yaml", &version("linked", 1));
    fs::hard_link(elsewhere.file("linked.yaml"), manifests.file("linked.yaml")).unwrap();
    let gateway = Gateway::start(&manifests, &[]).await;
    let sees = |target: &'static str| move |answer: &Answer| answer.status == 200 && answer.seen().target == target;
    gateway.wait_for("http://linked.test/", sees("/v1")).await;
    fs::write(elsewhere.file("linked.yaml"), version("linked", 2)).unwrap();
    manifests.write("seen.yaml", &version("seen", 1));
    gateway.wait_for("http://seen.test/", sees("/v1")).await;
    assert_eq!(gateway.get("http://linked.test/").await.seen().target, "/v1", "nothing told of the change");
    gateway.signal(Signal::HUP);
    gateway.wait_for("http://linked.test/", sees("/v2")).await;
}

#[tokio::test]
async fn a_signal_during_the_start_does_what_it_does_later() {
    let upstream = Upstream::echo("a").await;
    let mut text = service("a", &[upstream.address()]);
    for number in 0..3000 {
        text.write_str(&ingress(&format!("i{number}"), &format!("i{number}.test"), &[], &[("/", "a")])).unwrap();
    }
    let manifests = Manifests::of(&text);
    let start = async || {
        let gateway = Gateway::spawn(Addresses::reserve(), manifests.path(), &["--lame-duck=600s"]);
        let listens = async || gateway.try_status("/healthz").await.map(drop);
        wait::until("the status endpoint is there", listens).await;
        gateway
    };
    let hangup = start().await;
    hangup.signal(Signal::HUP);
    let is_ready = async || (hangup.try_status("/readyz").await?.status == 200).then_some(());
    wait::until("it is ready all the same", is_ready).await;
    for signal in [Signal::TERM, Signal::QUIT] {
        let gateway = start().await;
        let was_ready = gateway.status("/readyz").await.status == 200;
        assert!(!was_ready, "3,000 Ingresses are read too fast for this test");
        gateway.signal(signal);
        // Nothing was accepted, so nothing is waited for.
        assert_eq!(gateway.wait_for_exit().await.code(), Some(0), "{signal:?}: {}", gateway.log());
    }
}

#[tokio::test]
async fn an_address_that_is_taken_at_the_start_is_a_fault() {
    let manifests = Manifests::new();
    let fail = async |taken: fn(&Addresses) -> SocketAddr| {
        let addresses = Addresses::reserve();
        let _taken = TcpListener::bind(taken(&addresses)).unwrap();
        let gateway = Gateway::spawn(addresses, manifests.path(), &[]);
        assert_eq!(gateway.wait_for_exit().await.code(), Some(1));
        gateway.wait_for_log(&[&taken(&addresses).to_string(), "in use"]).await;
    };
    tokio::join!(fail(|at| at.http), fail(|at| at.https), fail(|at| at.status), fail(|at| at.admin));
}

#[tokio::test]
async fn the_demo_serves_what_it_prints() {
    let addresses = Addresses::reserve();
    let Addresses { http, https, status, admin } = addresses;
    let demo = Gateway::demo(addresses);
    demo.wait_for_log(&["Ctrl-C"]).await;
    let log = demo.log();
    let printed: Vec<&str> = log.lines().filter_map(|line| line.trim().strip_prefix("curl ")).collect();
    assert_eq!(printed.len(), 6, "{log}");
    let answers = async |word: &str| {
        let line = printed.iter().find(|line| line.contains(word)).unwrap();
        let url: http::Uri = line.split_whitespace().find(|word| word.contains("://")).unwrap().parse().unwrap();
        let host = url.host().unwrap();
        let is_status = url.port_u16() == Some(status.port());
        let mut client = match url.scheme_str() {
            Some("https") => Client::https1(https, Some(host)).await,
            _ => Client::http1(if is_status { status } else { http }).await,
        };
        let port = if client.certificate().is_some() { https.port() } else { http.port() };
        assert!(is_status || url.port_u16() == Some(port), "{line}");
        client.get(url.authority().unwrap().as_str(), url.path(), &[]).await
    };
    let (first, second) = (answers("http://web.").await, answers("http://web.").await);
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200));
    assert_ne!(first.text().lines().nth(1), second.text().lines().nth(1), "two endpoints take turns");
    let rewritten = answers("http://shop.").await;
    assert!(rewritten.text().contains("\nURI: /users\n"), "{}", rewritten.text());
    assert_eq!(answers("https://secure.").await.status, 200);
    let redirected = answers("http://secure.").await;
    assert_eq!((redirected.status.as_u16(), redirected.header("location")), (308, Some("https://secure.localhost")));
    assert_eq!(answers("http://nowhere.").await.text(), "default backend - 404");
    assert_eq!(answers("/metrics").await.status, 200);
    let explained = command(&["explain", "--admin", &format!("http://{admin}"), "http://shop.localhost/api/users"]);
    assert_eq!(explained.status.code(), Some(0), "{explained:?}");
    demo.signal(Signal::INT);
    assert_eq!(demo.wait_for_exit().await.code(), Some(0));
}
