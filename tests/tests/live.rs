//! What changes on disk is live at once, and nobody else notices: under load no answer is other than the old or the new.
//! What is wrong keeps its last good version and is reported to its author.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Response, StatusCode};
use tests::certificate::Certificate;
use tests::gateway::{Addresses, command};
use tests::load::{Kind, Lane, Load, Outcome, tally};
use tests::manifests::{ingress, service, tls};
use tests::upstream::{Body, full};
use tests::{Client, Gateway, Manifests, Upstream, wait};
use tokio::sync::Semaphore;

/// How many requests find each state at least.
const ROUND: usize = 100;

/// A lane of each kind to a host.
fn lanes(gateway: &Gateway, host: &str) -> Vec<Lane> {
    let lane = |kind| Lane { kind, address: gateway.addresses().http, host: host.to_owned(), path: "/".to_owned() };
    [Kind::Http1, Kind::Http2, Kind::New].map(lane).to_vec()
}

/// An Ingress whose upstream sees `/v<version>`: the answer tells which version of the object routed it.
fn version_of(name: &str, host: &str, version: usize) -> String {
    ingress(name, host, &[("rewrite-target", &format!("/v{version}"))], &[("/", "a")])
}

/// The version in an answer; `None` when it is not an answer of a version.
fn version_in(outcome: &Outcome) -> Option<usize> {
    outcome.summary().strip_prefix("200 a /v")?.parse().ok()
}

/// When a version was complete on disk at the earliest, and when it was first seen from outside.
struct Edit {
    version: usize,
    finished: Instant,
    seen: Instant,
}

/// Every answer is of a version that was on disk when it was given, and none is older than what had been seen before its
/// request began.
fn assert_only_old_or_new(outcomes: &[Outcome], edits: &[Edit]) {
    for outcome in outcomes {
        let version = version_in(outcome);
        let edit = edits.iter().find(|edit| Some(edit.version) == version);
        let Some(edit) = edit else { panic!("neither the old nor the new: {}", outcome.summary()) };
        assert!(edit.finished <= outcome.ended, "version {} was shown before it was finished", edit.version);
        let newer = edits.iter().find(|newer| newer.version > edit.version && newer.seen < outcome.started);
        assert!(newer.is_none(), "version {} was shown after a newer one", edit.version);
    }
}

/// How a file gets its new content.
#[derive(Clone, Copy)]
enum Editor {
    /// Writes beside it and renames.
    Rename,
    /// Truncates and writes in place.
    InPlace,
    /// Truncates, writes in three parts 20 ms apart, closes. The pauses are what is tested, not a wait.
    InThreeParts,
}

impl Editor {
    /// Returns when the new content was complete at the earliest.
    async fn write(self, manifests: &Manifests, name: &str, text: &str) -> Instant {
        match self {
            Self::Rename => {
                let finished = Instant::now();
                manifests.write(name, text);
                finished
            }
            Self::InPlace => {
                let finished = Instant::now();
                fs::write(manifests.file(name), text).unwrap();
                finished
            }
            Self::InThreeParts => {
                let mut file = fs::File::create(manifests.file(name)).unwrap();
                let third = text.len() / 3;
                // The pace of a slow editor is what is tested.
                for part in [&text[..third], &text[third..2 * third], &text[2 * third..]] {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    file.write_all(part.as_bytes()).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                Instant::now()
                // The file is closed here, and not before.
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_under_load_is_the_old_or_the_new_one() {
    let upstream = Upstream::echo("a").await;
    let manifests = Manifests::of(&service("a", &[upstream.address()]));
    // Two objects in one file: a file that is read half shows the second one missing.
    let file =
        |version| [version_of("first", "first.test", version), version_of("second", "second.test", version)].concat();
    let began = Instant::now();
    manifests.write("edited.yaml", &file(0));
    let gateway = Gateway::start(&manifests, &[]).await;
    let mut edits = vec![Edit { version: 0, finished: began, seen: Instant::now() }];
    let load = Load::start([lanes(&gateway, "first.test"), lanes(&gateway, "second.test")].concat());
    let editors = [Editor::InThreeParts, Editor::Rename, Editor::InPlace];
    for version in 1..=12 {
        let finished = editors[version % 3].write(&manifests, "edited.yaml", &file(version)).await;
        for host in ["first.test", "second.test"] {
            let target = format!("/v{version}");
            gateway.wait_for(&format!("http://{host}/"), |answer| answer.seen().target == target).await;
        }
        edits.push(Edit { version, finished, seen: Instant::now() });
        load.wait_for(ROUND).await;
    }
    assert_only_old_or_new(&load.stop().await, &edits);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_directories_that_come_and_go_touch_nobody_else() {
    let upstream = Upstream::echo("a").await;
    let manifests = Manifests::of(
        &[service("a", &[upstream.address()]), ingress("steady", "steady.test", &[], &[("/", "a")])].concat(),
    );
    let gateway = Gateway::start(&manifests, &[]).await;
    let mut watched = lanes(&gateway, "steady.test");
    watched.extend(lanes(&gateway, "guest.test"));
    let load = Load::start(watched);
    let guest = ingress("guest", "guest.test", &[], &[("/", "a")]);
    let is_there = async |wanted: u16| {
        gateway.wait_for("http://guest.test/", |answer| answer.status == wanted).await;
        load.wait_for(ROUND).await;
    };
    // A new file, the same under another name, in a new directory, moved with its directory; each time it goes again.
    manifests.write("guest.yaml", &guest);
    is_there(200).await;
    fs::rename(manifests.file("guest.yaml"), manifests.file("renamed.yaml")).unwrap();
    manifests.write("marker.yaml", &ingress("marker", "marker.test", &[], &[("/", "a")]));
    gateway.wait_for("http://marker.test/", |answer| answer.status == 200).await;
    is_there(200).await;
    manifests.remove("renamed.yaml");
    is_there(404).await;
    manifests.write("team/nested/guest.yaml", &guest);
    is_there(200).await;
    manifests.remove("marker.yaml");
    gateway.wait_for("http://marker.test/", |answer| answer.status == 404).await;
    is_there(200).await;
    fs::remove_dir_all(manifests.file("team")).unwrap();
    is_there(404).await;
    let outside = Manifests::of(&guest);
    fs::rename(outside.path(), manifests.file("moved-in")).unwrap();
    is_there(200).await;
    fs::remove_dir_all(manifests.file("moved-in")).unwrap();
    is_there(404).await;
    let outcomes = load.stop().await;
    for lane in 0..3 {
        let steady = tally(&outcomes, lane);
        assert_eq!(steady.keys().collect::<Vec<_>>(), ["200 a /"], "{steady:?}");
        let guest = tally(&outcomes, lane + 3);
        assert!(guest.keys().all(|answer| ["200 a /", "404"].contains(&answer.as_str())), "{guest:?}");
    }
}

/// A renamed file takes its objects along: between the two names they are not gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_file_never_loses_its_objects() {
    let upstream = Upstream::echo("a").await;
    let manifests = Manifests::of(&service("a", &[upstream.address()]));
    manifests.write("name-0.yaml", &ingress("moving", "moving.test", &[], &[("/", "a")]));
    let gateway = Gateway::start(&manifests, &[]).await;
    let load = Load::start(lanes(&gateway, "moving.test"));
    for number in 0..10 {
        let name = |number: usize| format!("name-{number}.yaml");
        fs::rename(manifests.file(&name(number)), manifests.file(&name(number + 1))).unwrap();
        // A later change is live: the rename has been seen.
        manifests.write("marker.yaml", &version_of("marker", "marker.test", number));
        let target = format!("/v{number}");
        let is_live = |answer: &tests::Answer| answer.status == 200 && answer.seen().target == target;
        gateway.wait_for("http://marker.test/", is_live).await;
        load.wait_for(ROUND).await;
    }
    let outcomes = load.stop().await;
    for lane in 0..3 {
        let answers = tally(&outcomes, lane);
        assert_eq!(answers.keys().collect::<Vec<_>>(), ["200 a /"], "{answers:?}");
    }
}

/// What kubelet does with a ConfigMap or Secret volume: files are links through `..data`, which is swapped as a whole.
struct Mount(Manifests);

impl Mount {
    fn new(name: &str, text: &str) -> Self {
        let mount = Self(Manifests::new());
        mount.swap(0, name, text);
        symlink(format!("..data/{name}"), mount.0.file(name)).unwrap();
        mount
    }

    fn swap(&self, version: usize, name: &str, text: &str) {
        let directory = format!("..2026_{version}");
        fs::create_dir(self.0.file(&directory)).unwrap();
        fs::write(self.0.file(&directory).join(name), text).unwrap();
        symlink(&directory, self.0.file("..data_tmp")).unwrap();
        fs::rename(self.0.file("..data_tmp"), self.0.file("..data")).unwrap();
        if let Some(last) = version.checked_sub(1) {
            fs::remove_dir_all(self.0.file(&format!("..2026_{last}"))).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mounted_volume_is_swapped_as_one_change() {
    let upstream = Upstream::echo("a").await;
    let file = |version| [version_of("first", "first.test", version), service("a", &[upstream.address()])].concat();
    let began = Instant::now();
    let mount = Mount::new("all.yaml", &file(0));
    let gateway = Gateway::start(&mount.0, &[]).await;
    let mut edits = vec![Edit { version: 0, finished: began, seen: Instant::now() }];
    let load = Load::start(lanes(&gateway, "first.test"));
    for version in 1..=10 {
        let finished = Instant::now();
        mount.swap(version, "all.yaml", &file(version));
        let target = format!("/v{version}");
        gateway.wait_for("http://first.test/", |answer| answer.seen().target == target).await;
        edits.push(Edit { version, finished, seen: Instant::now() });
        load.wait_for(ROUND).await;
    }
    assert_only_old_or_new(&load.stop().await, &edits);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_rotate_under_handshakes_without_a_failure() {
    let upstream = Upstream::echo("a").await;
    let annotations = [("ssl-redirect", "false")];
    let manifests = Manifests::of(
        &[
            service("a", &[upstream.address()]),
            ingress("a", "a.test", &annotations, &[("/", "a")]),
            tls(&["a.test"], "a"),
        ]
        .concat(),
    );
    let rotate = || {
        let certificate = Certificate::self_signed(&["a.test"]);
        manifests.write("secret.yaml", &certificate.secret("a"));
        use rustls::pki_types::pem::PemObject as _;
        rustls::pki_types::CertificateDer::from_pem_slice(certificate.certificate.as_bytes()).unwrap().to_vec()
    };
    rotate();
    let gateway = Gateway::start(&manifests, &[]).await;
    let https = gateway.addresses().https;
    let mut kept = Client::https1(https, Some("a.test")).await;
    let new_tls = Lane { kind: Kind::NewTls, address: https, host: "a.test".to_owned(), path: "/".to_owned() };
    // A handshake costs as much as ten requests: one in ten requests makes one.
    let plain = lanes(&gateway, "a.test").into_iter().cycle().take(9);
    let load = Load::start(plain.chain([new_tls]).collect());
    for _ in 0..10 {
        let leaf = rotate();
        let shows_it = async || (Client::https1(https, Some("a.test")).await.certificate()? == leaf).then_some(());
        wait::until("the new certificate is shown", shows_it).await;
        assert_eq!(kept.get("a.test", "/", &[]).await.status, 200, "a kept connection noticed the rotation");
        load.wait_for(ROUND).await;
    }
    let outcomes = load.stop().await;
    for lane in 0..10 {
        let answers = tally(&outcomes, lane);
        assert_eq!(answers.keys().collect::<Vec<_>>(), ["200 a /"], "{answers:?}");
    }
}

/// An upstream that answers `/slow` when it is told to, and turns `/upgrade` into an echo of bytes.
async fn patient(gate: &Arc<Semaphore>) -> Upstream {
    let gate = Arc::clone(gate);
    Upstream::with(move |mut request| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            if request.uri().path() == "/slow" {
                gate.acquire().await.unwrap().forget();
                return Response::new(full("slow"));
            }
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
                let (mut reader, mut writer) = tokio::io::split(&mut stream);
                // It ends with its client.
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
            switching_protocols()
        })
    })
    .await
}

fn switching_protocols() -> Response<Body> {
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    response.header("connection", "upgrade").header("upgrade", "websocket").body(full("")).unwrap()
}

#[tokio::test]
async fn what_is_under_way_never_notices_a_change() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let gate = Arc::new(Semaphore::new(0));
    let (old, new) = (patient(&gate).await, Upstream::echo("new").await);
    let manifests = Manifests::of(&[service("old", &[old.address()]), service("new", &[new.address()])].concat());
    manifests.write("ingress.yaml", &ingress("a", "a.test", &[], &[("/", "old")]));
    let gateway = Gateway::start(&manifests, &[]).await;
    let http = gateway.addresses().http;

    let slow = |mut client: Client| {
        tokio::spawn(async move {
            let request = client.request("GET", "a.test", "/slow", &[], "");
            (client.send(request).await.text(), client)
        })
    };
    let in_flight = [slow(Client::http1(http).await), slow(Client::h2c(http).await)];
    let mut idle = Client::http1(http).await;
    let mut tunnel = Client::http1(http).await;
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let request = tunnel.request("GET", "a.test", "/upgrade", &headers, "");
    let response = tunnel.open(request).await.unwrap();
    assert_eq!(response.status(), 101);
    let mut tunnel = hyper_util::rt::TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut echo = async |byte: u8| {
        tunnel.write_all(&[byte]).await.unwrap();
        assert_eq!(tunnel.read_u8().await.unwrap(), byte);
    };
    echo(1).await;
    wait::until("both requests are with the upstream", async || (old.n_requests() == 3).then_some(())).await;

    // The route leads elsewhere, the Service and its endpoints are gone, unrelated endpoints come and go.
    manifests.write("ingress.yaml", &ingress("a", "a.test", &[], &[("/", "new")]));
    let leads_to_new = |answer: &tests::Answer| answer.upstream() == "new";
    gateway.wait_for("http://a.test/", leads_to_new).await;
    manifests.write("manifests.yaml", &service("new", &[new.address()]));
    for number in 0..5 {
        let other = Upstream::echo(&format!("other-{number}")).await;
        manifests.write(
            "other.yaml",
            &[service("other", &[other.address()]), ingress("o", "o.test", &[], &[("/", "other")])].concat(),
        );
        let is_other = |answer: &tests::Answer| answer.upstream() == format!("other-{number}");
        gateway.wait_for("http://o.test/", is_other).await;
        echo(2).await;
    }
    assert_eq!(idle.get("a.test", "/", &[]).await.upstream(), "new", "an open connection sees the new state");
    gate.add_permits(2);
    for in_flight in in_flight {
        let (text, mut client) = in_flight.await.unwrap();
        assert_eq!(text, "slow");
        assert_eq!(client.get("a.test", "/", &[]).await.upstream(), "new", "the same connection goes on");
    }
    echo(3).await;
}

#[tokio::test]
async fn what_is_wrong_keeps_its_last_good_version_and_is_reported() {
    let upstream = Upstream::echo("a").await;
    let manifests = Manifests::of(&service("a", &[upstream.address()]));
    let other = |version| version_of("other", "other.test", version);
    manifests.write("mine.yaml", &version_of("mine", "mine.test", 1));
    manifests.write("other.yaml", &other(1));
    let gateway = Gateway::start(&manifests, &[]).await;
    let stale = async || gateway.metric("penstock_stale_objects", &[]).await;
    assert_eq!(stale().await, 0.0);
    let file = manifests.file("mine.yaml").display().to_string();

    // A file that stops parsing, and an object that is refused: the line is that of the fault, counted from 1.
    let broken = version_of("mine", "mine.test", 2) + "  rules: [\n";
    let refused =
        ingress("mine", "mine.test", &[("ssl-redirect", "perhaps"), ("rewrite-target", "/v2")], &[("/", "a")]);
    let line_of = |text: &str, word: &str| text.lines().position(|line| line.contains(word)).unwrap() + 1;
    let cases = [(broken.clone(), None), (refused.clone(), Some(line_of(&refused, "perhaps")))];
    for (number, (text, line)) in cases.iter().enumerate() {
        let errors = gateway.metric("nginx_ingress_controller_errors", &[]).await;
        assert_eq!(errors == 0.0, number == 0, "{errors}");
        manifests.write("mine.yaml", text);
        wait::until("the object is stale", async || (stale().await == 1.0).then_some(())).await;
        assert_eq!(gateway.metric("nginx_ingress_controller_config_last_reload_successful", &[]).await, 0.0);
        assert!(gateway.metric("nginx_ingress_controller_errors", &[]).await > errors);
        let place = line.map_or(format!("{file}:"), |line| format!("{file}:{line}"));
        let logged = gateway.wait_for_log(&["ERROR", &place, "reason"]).await;
        assert!(logged.contains(&place), "{logged}");
        assert_eq!(gateway.get("http://mine.test/").await.seen().target, "/v1");
        // Nobody else is touched, and others go on changing.
        manifests.write("other.yaml", &other(number + 10));
        let target = format!("/v{}", number + 10);
        gateway.wait_for("http://other.test/", |answer| answer.seen().target == target).await;
        assert_eq!(gateway.get("http://mine.test/").await.seen().target, "/v1");
        let check = command(&["check", manifests.path().to_str().unwrap()]);
        let said = String::from_utf8(check.stdout).unwrap();
        assert_eq!(check.status.code(), Some(1), "{said}");
        assert!(said.lines().any(|line| line.starts_with(&place) && line.contains("error")), "{place}: {said}");

        manifests.write("mine.yaml", &version_of("mine", "mine.test", 3));
        gateway.wait_for("http://mine.test/", |answer| answer.seen().target == "/v3").await;
        wait::until("nothing is stale", async || (stale().await == 0.0).then_some(())).await;
        assert_eq!(gateway.metric("nginx_ingress_controller_config_last_reload_successful", &[]).await, 1.0);
        manifests.write("mine.yaml", &version_of("mine", "mine.test", 1));
        gateway.wait_for("http://mine.test/", |answer| answer.seen().target == "/v1").await;
    }
    let check = command(&["check", manifests.path().to_str().unwrap()]);
    assert_eq!(check.status.code(), Some(0), "{check:?}");
}

#[tokio::test]
async fn one_bad_object_does_not_hold_up_the_others_in_its_file() {
    let upstream = Upstream::echo("a").await;
    let manifests = Manifests::of(&service("a", &[upstream.address()]));
    let good =
        |version| [version_of("first", "first.test", version), version_of("second", "second.test", version)].concat();
    manifests.write("both.yaml", &good(1));
    let gateway = Gateway::start(&manifests, &[]).await;
    let bad = ingress("first", "first.test", &[("rewrite-target", "/v2"), ("ssl-redirect", "perhaps")], &[("/", "a")]);
    manifests.write("both.yaml", &[bad, version_of("second", "second.test", 2)].concat());
    gateway.wait_for("http://second.test/", |answer| answer.seen().target == "/v2").await;
    assert_eq!(gateway.get("http://first.test/").await.seen().target, "/v1");
    let is_stale = async || (gateway.metric("penstock_stale_objects", &[]).await == 1.0).then_some(());
    wait::until("the bad object is stale", is_stale).await;
}

#[tokio::test]
async fn a_bad_file_at_start_keeps_nothing_else_from_being_served() {
    let upstream = Upstream::echo("a").await;
    let manifests = Manifests::of(&[service("a", &[upstream.address()]), version_of("good", "good.test", 1)].concat());
    manifests.write("unparsable.yaml", "kind: Ingress\n  metadata: [\n");
    manifests.write("binary.yaml", "\0\u{1}\u{2}");
    manifests.write("refused.yaml", &ingress("bad", "bad.test", &[("ssl-redirect", "perhaps")], &[("/", "a")]));
    let gateway = Gateway::start(&manifests, &[]).await;
    assert_eq!(gateway.get("http://good.test/").await.seen().target, "/v1");
    assert_eq!(gateway.get("http://bad.test/").await.status, 404, "it never had a good version");
    for name in ["unparsable.yaml:", "binary.yaml:", "refused.yaml:"] {
        gateway.wait_for_log(&["ERROR", name]).await;
    }
    assert!(gateway.metric("penstock_rejected_objects", &[]).await >= 1.0);
    assert_eq!(gateway.metric("penstock_stale_objects", &[]).await, 0.0);
    manifests.write("refused.yaml", &version_of("bad", "bad.test", 1));
    gateway.wait_for("http://bad.test/", |answer| answer.status == 200).await;
}

#[tokio::test]
async fn the_configmap_is_followed() {
    let upstream = Upstream::echo("a").await;
    let settings = |value: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  http-redirect-code: \"{value}\"\n"
        )
    };
    let manifests = Manifests::of(
        &[
            service("a", &[upstream.address()]),
            ingress("a", "a.test", &[("force-ssl-redirect", "true")], &[("/", "a")]),
        ]
        .concat(),
    );
    let gateway = Gateway::start(&manifests, &["--configmap=default/settings"]).await;
    let redirects_with = async |code: u16| {
        gateway.wait_for("http://a.test/", |answer| answer.status == code).await;
    };
    redirects_with(308).await;
    manifests.write("settings.yaml", &settings("301"));
    redirects_with(301).await;
    manifests.write("settings.yaml", &settings("307"));
    redirects_with(307).await;
    // A value that the key cannot have is as if it were not there, as with ingress-nginx, and is reported.
    manifests.write("settings.yaml", &settings("teapot"));
    redirects_with(308).await;
    gateway.wait_for_log(&["ERROR", "settings.yaml:7", "teapot"]).await;
    manifests.write("settings.yaml", &settings("302"));
    redirects_with(302).await;
    manifests.remove("settings.yaml");
    redirects_with(308).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_thousand_ingresses_a_changed_one_is_compiled_alone() {
    let upstream = Upstream::echo("a").await;
    let manifests = Manifests::of(&service("a", &[upstream.address()]));
    for group in 0..20 {
        let mut text = String::new();
        for number in 0..100 {
            let name = format!("i{group}-{number}");
            text.write_str(&version_of(&name, &format!("{name}.test"), 1)).unwrap();
        }
        manifests.write(&format!("group-{group}.yaml"), &text);
    }
    manifests.write("last.yaml", &version_of("last", "last.test", 1));
    let addresses = Addresses::reserve();
    let gateway = Gateway::spawn(addresses, manifests.path(), &[]);
    // Ready means complete: whoever connects earlier is refused, and the first answer is the right one.
    let first_answer = wait::until("somebody accepts", async || {
        let mut client = Client::try_http1(addresses.http).await.ok()?;
        let is_ready = gateway.try_status("/readyz").await.is_some_and(|answer| answer.status == 200);
        Some((client.get("last.test", "/", &[]).await, is_ready))
    })
    .await;
    assert_eq!(first_answer.0.status, 200, "ready: {}", first_answer.1);
    wait::until("ready", async || (gateway.status("/readyz").await.status == 200).then_some(())).await;
    assert_eq!(gateway.get("https://last.test/").await.status, 200, "the listener for TLS is there too");

    let recompiled = async || gateway.metric("penstock_recompiled_hosts_total", &[]).await;
    let generation = async || gateway.metric("penstock_snapshot_generation", &[]).await;
    assert_eq!(recompiled().await, 2001.0, "each host once");
    let before = generation().await;
    manifests.write("last.yaml", &version_of("last", "last.test", 2));
    gateway.wait_for("http://last.test/", |answer| answer.seen().target == "/v2").await;
    assert_eq!((recompiled().await, generation().await), (2002.0, before + 1.0));
    // Endpoints have a lane of their own.
    let other = Upstream::echo("b").await;
    manifests.write("manifests.yaml", &service("a", &[other.address()]));
    gateway.wait_for("http://last.test/", |answer| answer.upstream() == "b").await;
    assert_eq!(recompiled().await, 2002.0, "no host changed");
}
