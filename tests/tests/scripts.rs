//! The scripts of `loadtest/k6` and `loadtest/wrk`, each run for a moment against the gateway. The times of answers are
//! not judged: whether the scripts run, and whether they see what they are for.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tests::certificate::Certificate;
use tests::manifests::{ingress, service, tls};
use tests::raw::RawUpstream;
use tests::{Gateway, Manifests, Upstream};
use tokio::net::TcpListener;
use tokio::process::Command;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;

/// What k6 exits with when a threshold is missed.
const THRESHOLDS_MISSED: i32 = 99;

fn loadtest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../loadtest")
}

/// A gateway whose hosts have all that the scripts ask for.
struct Setting {
    gateway: Gateway,
    manifests: Manifests,
    _upstreams: [Upstream; 2],
    _sockets: RawUpstream,
}

impl Setting {
    async fn new() -> Self {
        let upstreams = [Upstream::echo("stable").await, Upstream::echo("next").await];
        let sockets = RawUpstream::start(|_, stream| async {
            let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
            while let Some(Ok(message)) = socket.next().await {
                if message.is_text() && socket.send(message).await.is_err() {
                    return;
                }
            }
        })
        .await;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let calls = listener.local_addr().unwrap();
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_service_status("", ServingStatus::Serving).await;
        tokio::spawn(Server::builder().add_service(health).serve_with_incoming(TcpIncoming::from(listener)));
        let manifests = Manifests::of(
            &[
                service("stable", &[upstreams[0].address()]),
                service("next", &[upstreams[1].address()]),
                service("sockets", &[sockets.address()]),
                service("calls", &[calls]),
                ingress("split", "split.test", &[], &[("/", "stable")]),
                ingress("next", "split.test", &[("canary", "true"), ("canary-weight", "20")], &[("/", "next")]),
                ingress("limited", "limited.test", &[("limit-rps", "10")], &[("/", "stable")]),
                ingress("sockets", "sockets.test", &[], &[("/", "sockets")]),
                ingress("calls", "calls.test", &[("backend-protocol", "GRPC")], &[("/", "calls")]),
                tls(&["calls.test"], "encrypted"),
                ingress("encrypted", "encrypted.test", &[], &[("/", "stable")]),
                tls(&["encrypted.test"], "encrypted"),
                Certificate::self_signed(&["encrypted.test", "calls.test"]).secret("encrypted"),
            ]
            .concat(),
        );
        manifests.write("web.yaml", &ingress("web", "web.test", &[], &[("/", "stable")]));
        let gateway = Gateway::start(&manifests, &[]).await;
        Self { gateway, manifests, _upstreams: upstreams, _sockets: sockets }
    }

    /// The URL of a host, and where it is.
    fn place(&self, scheme: &str, host: &str) -> [String; 2] {
        let addresses = self.gateway.addresses();
        let at = if matches!(scheme, "https" | "wss") { addresses.https } else { addresses.http };
        [format!("URL={scheme}://{host}:{}/", at.port()), format!("ADDRESS={}", at.ip())]
    }

    /// Runs a script of k6 and returns its exit code and its summary.
    async fn k6(&self, script: &str, place: (&str, &str), environment: &[&str]) -> (i32, Value) {
        let summary = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("k6");
        command.args(["run", "--quiet", "--no-usage-report", "--address", ""]);
        for variable in ["RATE=50", "DURATION=2s", "P99=30000", "DROPPED=1000000", "VUS=100", "INSECURE=true"] {
            command.args(["-e", variable]);
        }
        for variable in self.place(place.0, place.1) {
            command.args(["-e", &variable]);
        }
        for variable in environment {
            command.args(["-e", variable]);
        }
        command.args(["-e", &format!("SUMMARY={}", summary.path().display())]);
        command.arg(loadtest().join("k6").join(script)).kill_on_drop(true);
        let output = command.output().await.unwrap_or_else(|error| panic!("k6 ({error}): run tests/run setup"));
        let text = String::from_utf8_lossy(&output.stderr);
        let summary = serde_json::from_slice(&std::fs::read(summary.path()).unwrap());
        let summary = summary.unwrap_or_else(|error| panic!("{script}: {error}: {text}"));
        (output.status.code().unwrap(), summary)
    }

    /// Runs a script whose thresholds are met, and returns its summary.
    async fn passes(&self, script: &str, place: (&str, &str), environment: &[&str]) -> Value {
        let (code, summary) = self.k6(script, place, environment).await;
        assert_eq!(code, 0, "{script}: {summary:#}");
        assert!(value(&summary, "checks", "passes") > 0.0, "{script}: {summary:#}");
        summary
    }

    /// Runs a script of wrk and returns its summary.
    async fn wrk(&self, script: &str, arguments: &[&str]) -> Value {
        let url = format!("http://{}/", self.gateway.addresses().http);
        let mut command = Command::new("wrk");
        command.args(["-t1", "-c4", "-d1s", "--timeout", "30s", "-s"]).arg(loadtest().join("wrk").join(script));
        command.args([&url, "--"]).args(arguments).kill_on_drop(true);
        let output = command.output().await.unwrap_or_else(|error| panic!("wrk ({error}): run tests/run setup"));
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{script}: {text}"));
        serde_json::from_str(line).unwrap()
    }
}

fn value(summary: &Value, metric: &str, name: &str) -> f64 {
    summary["metrics"][metric]["values"][name].as_f64().unwrap_or_default()
}

const WEB: (&str, &str) = ("http", "web.test");

#[tokio::test]
async fn every_script_is_run_here() {
    let own = include_str!("scripts.rs");
    let mut scripts = BTreeSet::new();
    for directory in ["k6", "wrk"] {
        for entry in std::fs::read_dir(loadtest().join(directory)).unwrap() {
            scripts.insert(entry.unwrap().file_name().into_string().unwrap());
        }
    }
    // What the others share.
    assert!(scripts.remove("lib") && scripts.remove("summary.lua"));
    let forgotten: Vec<_> = scripts.iter().filter(|script| !own.contains(&format!("\"{script}\""))).collect();
    assert!(!scripts.is_empty() && forgotten.is_empty(), "{forgotten:?}");
}

#[tokio::test]
async fn rates_are_kept_and_nothing_fails() {
    let setting = Setting::new().await;
    for script in ["smoke.js", "constant_arrival.js", "ramping.js", "spike.js", "soak.js"] {
        let summary = setting.passes(script, WEB, &[]).await;
        assert!(value(&summary, "http_reqs", "count") > 20.0, "{script}: {summary:#}");
    }
}

#[tokio::test]
async fn a_missed_threshold_is_an_exit_code() {
    let setting = Setting::new().await;
    let (code, summary) = setting.k6("constant_arrival.js", ("http", "nowhere.test"), &["DURATION=1s"]).await;
    assert_eq!(code, THRESHOLDS_MISSED, "{summary:#}");
}

#[tokio::test]
async fn every_protocol_has_a_script() {
    let setting = Setting::new().await;
    let summary = setting.passes("websocket.js", ("ws", "sockets.test"), &["VUS=10"]).await;
    assert!(value(&summary, "websocket_echo", "max") > 0.0, "{summary:#}");
    setting.passes("grpc.js", ("https", "calls.test"), &[]).await;
    setting.passes("tls_handshake.js", ("https", "encrypted.test"), &[]).await;
}

#[tokio::test]
async fn a_canary_has_its_share() {
    let setting = Setting::new().await;
    let split = ["CANARY=\"upstream\":\"next\"", "WEIGHT=20", "TOLERANCE=15", "RATE=100"];
    setting.passes("canary_split.js", ("http", "split.test"), &split).await;
    let (code, summary) = setting.k6("canary_split.js", ("http", "split.test"), &[split[0], "WEIGHT=80"]).await;
    assert_eq!(code, THRESHOLDS_MISSED, "{summary:#}");
}

#[tokio::test]
async fn a_rate_limit_holds() {
    let setting = Setting::new().await;
    let summary = setting.passes("ratelimit.js", ("http", "limited.test"), &["LIMIT=10", "BURST=10", "RATE=100"]).await;
    assert!(value(&summary, "refused", "count") > 0.0, "{summary:#}");
}

#[tokio::test]
async fn edits_fail_no_request() {
    let setting = Setting::new().await;
    let run = setting.passes("config_churn.js", WEB, &["EXPECT=\"upstream\":\"(stable|next)\""]);
    tokio::pin!(run);
    let mut n_edits = 0_u32;
    let summary = loop {
        tokio::select! {
            summary = &mut run => break summary,
            () = tokio::task::yield_now() => {
                let service = if n_edits.is_multiple_of(2) { "next" } else { "stable" };
                setting.manifests.write("web.yaml", &ingress("web", "web.test", &[], &[("/", service)]));
                n_edits += 1;
                setting.gateway.get("http://web.test/").await;
            }
        }
    };
    assert!(n_edits > 10 && value(&summary, "http_reqs", "count") > 20.0, "{n_edits} edits, {summary:#}");
}

#[tokio::test]
async fn wrk_reports_what_it_did() {
    let setting = Setting::new().await;
    let none = serde_json::json!({ "connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0 });
    for (script, arguments) in [
        ("keepalive.lua", vec!["web.test"]),
        ("new_connection.lua", vec!["web.test"]),
        ("upload.lua", vec!["web.test"]),
        ("hosts.lua", vec!["web.test", "3"]),
    ] {
        let summary = setting.wrk(script, &arguments).await;
        assert!(summary["requests"].as_u64().unwrap() > 0, "{script}: {summary}");
        assert_eq!(summary["errors"], none, "{script}: {summary}");
        assert!(summary["latency_ms"]["p99"].as_f64().unwrap() > 0.0, "{script}: {summary}");
    }
    let elsewhere = setting.wrk("keepalive.lua", &["nowhere.test"]).await;
    assert_eq!(elsewhere["errors"]["status"], elsewhere["requests"], "{elsewhere}");
}
