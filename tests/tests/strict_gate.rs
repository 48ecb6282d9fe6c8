//! What is ambiguous is refused and never forwarded: raw bytes in, an upstream that keeps what it gets. Each row also
//! runs against a bare Pingora proxy, and a row that is marked as ours must come out otherwise there: else it would prove
//! nothing about Penstock.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "strict_gate/rows.rs"]
mod rows;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rows::{Row, Upstream, controls, refused};
use tests::gateway::Addresses;
use tests::manifests::{ingress, service};
use tests::raw::exchange;
use tests::recorder::{Recorded, Recorder};
use tests::{Gateway, Manifests, wait};
use tokio::time::timeout;

/// How long a connection that stays open is listened to after an answer.
const SILENCE: Duration = Duration::from_millis(80);
/// How long an answer may take that may never come.
const PATIENCE: Duration = Duration::from_secs(3);

/// A bare Pingora proxy in front of an upstream.
struct Bare {
    address: SocketAddr,
    process: Child,
}

impl Bare {
    async fn start(upstream: SocketAddr) -> Self {
        let address = Addresses::reserve().http;
        let binary = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("loadtest");
        assert!(binary.exists(), "{} is not there: cargo build --workspace --bins --tests", binary.display());
        let process = Command::new(binary)
            .args(["bare", "--threads", "1"])
            .args([format!("--listen={address}"), format!("--upstream={upstream}")])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let connects = async || tokio::net::TcpStream::connect(address).await.ok();
        wait::until("the bare proxy listens", connects).await;
        Self { address, process }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a proxy made of a row.
#[derive(Debug)]
struct Outcome {
    status: u16,
    is_closed: bool,
    requests: Vec<Recorded>,
}

async fn run(row: &Row, address: SocketAddr, recorder: &Recorder) -> Outcome {
    // What was under way for another row has its own end.
    let _ = recorder.take();
    let exchange = timeout(PATIENCE, exchange(address, &row.send, SILENCE)).await;
    let (status, is_closed) = exchange.map_or((0, false), |exchange| (exchange.status(), exchange.is_closed));
    Outcome { status, is_closed, requests: recorder.take() }
}

/// What is wrong with an outcome, if anything is.
fn complaint(row: &Row, outcome: &Outcome) -> Option<String> {
    let Outcome { status, is_closed, requests } = outcome;
    let texts: Vec<String> =
        requests.iter().map(|request| String::from_utf8_lossy(&request.bytes).into_owned()).collect();
    if !row.statuses.contains(status) {
        return Some(format!("status {status}, wanted {:?}", row.statuses));
    }
    if row.closes && !is_closed {
        return Some("the connection stays open".to_owned());
    }
    match row.upstream {
        Upstream::Nothing if !requests.is_empty() => Some(format!("forwarded: {texts:?}")),
        Upstream::NothingComplete if requests.iter().any(|request| request.is_complete) => {
            Some(format!("forwarded to its end: {texts:?}"))
        }
        Upstream::Has(wanted) if !texts.iter().any(|text| text.to_ascii_lowercase().contains(wanted)) => {
            Some(format!("{wanted:?} was not forwarded: {texts:?}"))
        }
        Upstream::HasNot(unwanted) if texts.iter().any(|text| text.to_ascii_lowercase().contains(unwanted)) => {
            Some(format!("{unwanted:?} was forwarded: {texts:?}"))
        }
        _ => None,
    }
}

async fn check(rows: Vec<Row>) {
    let recorder = Recorder::start().await;
    let manifests = Manifests::of(&service("t", &[recorder.address()]));
    manifests.write("ingress.yaml", &ingress("t", "t", &[], &[("/", "t")]));
    let gateway = Gateway::start(&manifests, &["--threads=1"]).await;
    let bare = Bare::start(recorder.address()).await;
    let mut wrong = Vec::new();
    for row in rows {
        let ours = run(&row, gateway.addresses().http, &recorder).await;
        if let Some(complaint) = complaint(&row, &ours) {
            wrong.push(format!("{}: {complaint}\n    {}", row.id, row.send.escape_ascii()));
        }
        let theirs = run(&row, bare.address, &recorder).await;
        let differs = complaint(&row, &theirs).is_some();
        if differs != row.is_ours {
            let Outcome { status, is_closed, requests } = theirs;
            let forwarded: Vec<_> = requests.iter().map(|request| request.bytes.escape_ascii().to_string()).collect();
            wrong.push(format!(
                "{}: wanted bare Pingora to do otherwise: {}; status {status}, closed {is_closed}, {forwarded:?}",
                row.id, row.is_ours
            ));
        }
        // Whatever was sent, the next client is served.
        assert_eq!(gateway.get("http://t/").await.status, 200, "after {}", row.id);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_malformed_or_ambiguous_is_refused_and_never_forwarded() {
    check(refused()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unusual_and_right_is_served() {
    check(controls()).await;
}
