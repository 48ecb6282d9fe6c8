//! Who else may come to the hand-over socket, and what else may be said there: the process that serves survives it all,
//! and a process that is to serve takes nothing but listening sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::TcpListener;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tests::gateway::{Addresses, binary, command};
use tests::handoff::{Peer, Place, frame, kind};
use tests::manifests::{ingress, service};
use tests::{Gateway, Manifests, Upstream, wait};
use tokio::net::TcpStream;

struct Fixture {
    place: Place,
    gateway: Gateway,
    _upstream: Upstream,
    _manifests: Manifests,
}

impl Fixture {
    async fn start(flags: &[&str]) -> Self {
        let place = Place::new();
        let upstream = Upstream::echo("a").await;
        let objects = [service("a", &[upstream.address()]), ingress("a", "a.test", &[], &[("/", "a")])];
        let manifests = Manifests::of(&objects.concat());
        let flag = place.flag();
        let mut all = vec![flag.as_str()];
        all.extend(flags);
        let gateway = Gateway::start(&manifests, &all).await;
        place.wait_until_taken().await;
        Self { place, gateway, _upstream: upstream, _manifests: manifests }
    }

    /// It serves, and would hand over.
    async fn assert_serves(&self) {
        assert!(self.gateway.exit_status().is_none(), "{}", self.gateway.log());
        assert_eq!(self.gateway.get("http://a.test/").await.status, 200);
        assert_eq!(self.gateway.status("/readyz").await.status, 200);
        // It may still have to notice that the last successor is gone.
        let is_handed = async || {
            let mut peer = self.place.connect().await;
            peer.hello().await;
            loop {
                match peer.receive().await?.0 {
                    kind::HANDED => return Some(()),
                    kind::ABORT => return None,
                    _ => {}
                }
            }
        };
        wait::until("it would hand over", is_handed).await;
    }

    async fn assert_counted(&self, outcome: &str) {
        let label = format!("outcome=\"{outcome}\"");
        let counted = async || {
            let n = self.gateway.metric("penstock_handovers_total", &[&label]).await;
            (n > 0.0).then_some(())
        };
        wait::until(&format!("a hand-over that is {outcome}"), counted).await;
    }

    /// A successor that is as far as the probation.
    async fn in_probation(&self) -> Peer {
        let mut peer = self.place.connect().await;
        peer.hello().await;
        peer.receive_until(kind::HANDED).await;
        peer.send(kind::PREPARED, Some(json!({ "digest": 1 }))).await;
        peer.receive_until(kind::PROCEED).await;
        peer.send(kind::READY, None).await;
        self.gateway.wait_for_log(&["in the probation"]).await;
        peer
    }
}

#[tokio::test]
async fn what_is_no_message_of_the_protocol_harms_nobody() {
    let fixture = Fixture::start(&[]).await;
    let oversized = [&[kind::HELLO][..], &u32::MAX.to_be_bytes()].concat();
    let rows: [(&str, Vec<u8>); 6] = [
        ("a stranger's protocol", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("an oversized message", oversized),
        ("an unknown kind", frame(99, None)),
        ("a payload of another form", frame(kind::HELLO, Some(json!([])))),
        ("a message that is not the first", frame(kind::READY, None)),
        ("zeros", vec![0; 4096]),
    ];
    for (what, bytes) in rows {
        let mut peer = fixture.place.connect().await;
        peer.send_raw(&bytes).await;
        assert!(peer.receive().await.is_none(), "{what}: the connection is closed");
        fixture.gateway.wait_for_log(&["hand-over connection refused"]).await;
    }
    let mut truncated = fixture.place.connect().await;
    truncated.send_raw(&frame(kind::HELLO, Some(json!({ "protocol": 1 })))[..7]).await;
    drop(truncated);
    let silent = fixture.place.connect().await;
    fixture.assert_serves().await;
    drop(silent);
}

#[tokio::test]
async fn a_successor_of_another_version_is_told_so() {
    let fixture = Fixture::start(&[]).await;
    let mut peer = fixture.place.connect().await;
    peer.send(kind::HELLO, Some(json!({ "protocol": 2, "model": 1, "version": "later" }))).await;
    let reason = peer.receive_abort().await;
    assert!(reason.contains("version 2") && reason.contains('1'), "{reason}");
    fixture.assert_counted("version").await;
    fixture.assert_serves().await;
}

#[tokio::test]
async fn all_listening_sockets_are_handed_over_and_a_crash_with_them_changes_nothing() {
    let fixture = Fixture::start(&[]).await;
    let mut peer = fixture.place.connect().await;
    peer.hello().await;
    let announced: usize = serde_json::from_slice(&peer.receive_until(kind::SOCKETS).await).unwrap();
    peer.receive_until(kind::HANDED).await;
    let mut handed: Vec<_> = std::mem::take(&mut peer.descriptors)
        .into_iter()
        .map(|descriptor| TcpListener::from(descriptor).local_addr().unwrap())
        .collect();
    let Addresses { http, https, status, admin } = fixture.gateway.addresses();
    let mut wanted = vec![http, https, status, admin];
    handed.sort_unstable();
    wanted.sort_unstable();
    assert_eq!((announced, handed), (4, wanted));
    drop(peer);
    fixture.assert_counted("lost").await;
    fixture.assert_serves().await;
}

/// More than Pingora's own hand-over can carry (32), and than one message does.
#[tokio::test]
async fn any_number_of_listeners_is_handed_over() {
    let more: Vec<Addresses> = (0..100).map(|_| Addresses::reserve()).collect();
    let flags: Vec<String> = more.iter().map(|addresses| format!("--http={}", addresses.http)).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(["--handoff-probation=10ms"]).collect();
    let fixture = Fixture::start(&flags).await;
    let upgraded = fixture.place.upgrade(None).await;
    assert_eq!(upgraded.status.code(), Some(0), "{}", fixture.gateway.log());
    assert_eq!(fixture.gateway.wait_for_exit().await.code(), Some(0));
    for addresses in more {
        let mut client = tests::Client::http1(addresses.http).await;
        assert_eq!(client.get("a.test", "/", &[]).await.status, 200, "{}", addresses.http);
    }
}

/// Whether this user may do something.
fn may(program: &str, arguments: &[&str]) -> bool {
    let ran = std::process::Command::new(program).args(arguments).output();
    ran.is_ok_and(|output| output.status.success())
}

/// Needs root: the gateway runs as somebody else, and may be reached by root all the same.
#[tokio::test]
async fn a_process_of_another_user_is_sent_away_on_either_side() {
    const NOBODY: u32 = 65534;
    if !may("setpriv", &["--reuid=65534", "--regid=65534", "--clear-groups", "true"]) {
        eprintln!("only root can be two users: not checked");
        return;
    }
    let (place, upstream, addresses) = (Place::new(), Upstream::echo("a").await, Addresses::reserve());
    let objects = [service("a", &[upstream.address()]), ingress("a", "a.test", &[], &[("/", "a")])];
    let manifests = Manifests::of(&objects.concat());
    let own = place.copy("gateway");
    let program = place.script(
        "as-nobody",
        &format!("exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups {} run \"$@\"", own.display()),
    );
    for path in [place.socket().parent().unwrap(), manifests.path(), &manifests.file("manifests.yaml")] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let gateway = Gateway::spawn_program(&program, &[], addresses, manifests.path(), &[&place.flag()]);
    gateway.wait_until_ready().await;
    place.wait_until_taken().await;
    let mut peer = place.connect().await;
    peer.hello().await;
    assert!(peer.receive().await.is_none(), "the connection is closed");
    gateway.wait_for_log(&["hand-over connection refused", "user 0 is not the one of this process"]).await;
    let refused = place.upgrade(None).await;
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("belongs to user 65534, this process runs as 0"), "{text}");
    assert_eq!(gateway.get("http://a.test/").await.status, 200);
}

#[tokio::test]
async fn a_successor_that_says_what_is_not_due_is_sent_away() {
    let fixture = Fixture::start(&[]).await;
    let rows: [(u8, Option<serde_json::Value>); 4] = [
        (kind::READY, None),
        (kind::CONFIRMED, None),
        (kind::COMMIT, None),
        (kind::HELLO, Some(json!({ "protocol": 1, "model": 1, "version": "again" }))),
    ];
    for (kind, payload) in rows {
        let mut peer = fixture.place.connect().await;
        peer.hello().await;
        peer.receive_until(kind::HANDED).await;
        peer.send(kind, payload).await;
        let reason = peer.receive_abort().await;
        assert!(reason.contains("bad message"), "{kind}: {reason}");
    }
    let mut peer = fixture.place.connect().await;
    peer.hello().await;
    peer.receive_until(kind::HANDED).await;
    peer.send_raw(b"\xff\xff\xff\xff\xff").await;
    assert!(peer.receive_abort().await.contains("unknown kind 255"));
    let with_descriptor = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = fixture.place.connect().await;
    peer.hello().await;
    peer.receive_until(kind::HANDED).await;
    peer.send_with(kind::PREPARED, Some(json!({ "digest": 1 })), &[with_descriptor.as_fd()]).await;
    assert!(peer.receive_abort().await.contains("descriptors"), "the incumbent wants none");
    fixture.assert_counted("malformed").await;
    fixture.assert_serves().await;
}

#[tokio::test]
async fn a_successor_that_hangs_is_given_up() {
    let fixture = Fixture::start(&["--handoff-timeout=200ms"]).await;
    let mut peer = fixture.place.connect().await;
    peer.hello().await;
    peer.receive_until(kind::HANDED).await;
    assert!(peer.receive_abort().await.contains("no word"));
    fixture.assert_counted("hung").await;
    fixture.assert_serves().await;
}

#[tokio::test]
async fn the_second_of_two_successors_is_sent_away() {
    let fixture = Fixture::start(&[]).await;
    let mut first = fixture.place.connect().await;
    first.hello().await;
    first.receive_until(kind::HANDED).await;
    let mut second = fixture.place.connect().await;
    second.hello().await;
    assert!(second.receive_abort().await.contains("another hand-over is under way"));
    let refused = fixture.place.upgrade(None).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another hand-over is under way"));
    first.send(kind::PREPARED, Some(json!({ "digest": 1 }))).await;
    first.receive_until(kind::PROCEED).await;
    drop(first);
    fixture.assert_serves().await;
}

/// The successor accepts nothing here, so that every connection of its time is still in the queue when it crashes.
#[tokio::test]
async fn what_waits_in_the_queue_of_a_crashed_successor_is_answered_by_the_old_process() {
    let fixture = Fixture::start(&["--handoff-probation=600s"]).await;
    let peer = fixture.in_probation().await;
    let http = fixture.gateway.addresses().http;
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(TcpStream::connect(http).await.unwrap());
    }
    drop(peer);
    for stream in waiting {
        let mut client = tests::Client::over(stream, None, http::Version::HTTP_11).await;
        assert_eq!(client.get("a.test", "/", &[]).await.status, 200);
    }
    fixture.assert_counted("lost").await;
}

#[tokio::test]
async fn a_process_that_is_told_to_leave_in_the_probation_tells_its_successor_and_drains() {
    let fixture = Fixture::start(&["--handoff-probation=600s"]).await;
    let mut peer = fixture.in_probation().await;
    fixture.gateway.signal(Signal::TERM);
    assert!(peer.receive_abort().await.contains("leaving"));
    assert_eq!(fixture.gateway.wait_for_exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_process_that_a_stranger_replaced_stays_idle_until_it_is_told_to_go() {
    let fixture = Fixture::start(&["--handoff-probation=10ms"]).await;
    let mut peer = fixture.in_probation().await;
    peer.receive_until(kind::CONFIRM).await;
    peer.send(kind::CONFIRMED, None).await;
    peer.receive_until(kind::COMMIT).await;
    drop(peer);
    fixture.gateway.wait_for_log(&["retired: idle"]).await;
    assert!(fixture.gateway.exit_status().is_none());
    fixture.gateway.signal(Signal::TERM);
    assert_eq!(fixture.gateway.wait_for_exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_gateway_takes_over_by_itself() {
    let fixture = Fixture::start(&["--handoff-probation=10ms"]).await;
    let Fixture { place, gateway, _manifests: manifests, .. } = &fixture;
    let second = Gateway::spawn(gateway.addresses(), manifests.path(), &[&place.flag()]);
    gateway.wait_for_log(&["retired: idle"]).await;
    wait::until("it takes hand-overs", async || (place.pid().await == second.pid()).then_some(())).await;
    assert_eq!(second.get("http://a.test/").await.status, 200);
}

#[tokio::test]
async fn a_stale_socket_file_is_replaced() {
    let fixture = Fixture::start(&[]).await;
    let Fixture { place, gateway, _manifests: manifests, .. } = &fixture;
    gateway.signal(Signal::KILL);
    gateway.wait_for_exit().await;
    assert!(place.socket().exists());
    let next = Gateway::spawn(gateway.addresses(), manifests.path(), &[&place.flag()]);
    next.wait_until_ready().await;
    place.wait_until_taken().await;
    assert_eq!(place.pid().await, next.pid());
}

#[tokio::test]
async fn without_room_for_its_own_socket_a_successor_gives_up_and_a_first_process_ends() {
    let fixture = Fixture::start(&[]).await;
    // As little can be bound there as on a file system that is read-only, which would hold for its owner too.
    std::fs::create_dir(fixture.place.socket().with_file_name("handoff.next")).unwrap();
    let failed = fixture.place.upgrade(None).await;
    assert_eq!(failed.status.code(), Some(1));
    let text = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(text.contains("gave up") && text.contains("handoff"), "{text}");
    fixture.assert_serves().await;
    let manifests = Manifests::new();
    let first = Gateway::spawn(Addresses::reserve(), manifests.path(), &["--handoff-socket=/proc/handoff"]);
    assert_eq!(first.wait_for_exit().await.code(), Some(1));
    first.wait_for_log(&["/proc/handoff"]).await;
}

/// Needs root: the directory is mounted read-only for the gateway alone, after it has bound its socket.
#[tokio::test]
async fn on_a_file_system_that_has_become_read_only_the_old_process_serves_on() {
    let (place, manifests) = (Place::new(), Manifests::new());
    let directory = place.socket().parent().unwrap().display().to_string();
    if !may("unshare", &["--mount", "mount", "--bind", &directory, &directory]) {
        eprintln!("only root can mount: not checked");
        return;
    }
    let inner = format!("mount --bind {directory} {directory} && exec \"$@\"");
    let gateway = binary().display().to_string();
    let program = place.script("apart", &format!("exec unshare --mount sh -c '{inner}' sh {gateway} run \"$@\""));
    let gateway = Gateway::spawn_program(&program, &[], Addresses::reserve(), manifests.path(), &[&place.flag()]);
    gateway.wait_until_ready().await;
    place.wait_until_taken().await;
    let pid = gateway.pid().to_string();
    assert!(may("nsenter", &["--target", &pid, "--mount", "mount", "-o", "remount,bind,ro", &directory]));
    let failed = place.upgrade(None).await;
    assert_eq!(failed.status.code(), Some(1));
    let text = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(text.contains("gave up") && text.contains("Read-only file system"), "{text}");
    gateway.wait_for_log(&["no hand-over", "Read-only file system"]).await;
    assert_eq!(gateway.metric("penstock_handovers_total", &["outcome=\"gave_up\""]).await, 1.0);
    assert_eq!(gateway.get("http://nobody.test/").await.status, 404);
    assert_eq!(place.pid().await, gateway.pid());
}

// === a gateway that is to take over, and an incumbent in the hands of the test ===

/// Starts a gateway that finds an incumbent, and returns the connection on which it has said HELLO.
async fn successor(place: &Place, addresses: Addresses, manifests: &Manifests) -> (Gateway, Peer) {
    let listener = place.listen();
    let gateway = Gateway::spawn(addresses, manifests.path(), &[&place.flag()]);
    // The first connection only looks whether somebody is there.
    loop {
        let accepted = tokio::time::timeout(wait::LIMIT, listener.accept()).await.unwrap();
        let mut peer = Peer::over(accepted.unwrap().0);
        if let Some((kind, _)) = peer.receive().await {
            assert_eq!(kind, kind::HELLO);
            return (gateway, peer);
        }
    }
}

async fn hand(peer: &mut Peer, announced: usize, sockets: &[BorrowedFd<'_>]) {
    hand_with(peer, announced, sockets, &[("later", b"???")]).await;
}

/// Hands over with these parts of the state.
async fn hand_with(peer: &mut Peer, announced: usize, sockets: &[BorrowedFd<'_>], parts: &[(&str, &[u8])]) {
    peer.send(kind::SOCKETS, Some(json!(announced))).await;
    if !sockets.is_empty() {
        peer.send_with(kind::DESCRIPTORS, Some(json!(sockets.len())), sockets).await;
    }
    for (name, bytes) in parts {
        peer.send_section(name, bytes).await;
    }
    peer.send(kind::HANDED, None).await;
}

#[tokio::test]
async fn a_successor_takes_nothing_but_what_was_announced_and_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let rows: [(&str, usize, &[BorrowedFd<'_>], &str); 5] = [
        ("too few", 3, &[listener.as_fd(), listener.as_fd()], "2 sockets of 3"),
        ("too many", 1, &[listener.as_fd(), listener.as_fd()], "more than the 1 sockets"),
        ("a connection", 1, &[connected.as_fd()], "not a listening socket of TCP or UDP"),
        ("a file", 1, &[file.as_fd()], "not a listening socket of TCP or UDP"),
        ("the same address twice", 2, &[listener.as_fd(), listener.as_fd()], "two sockets of one address"),
    ];
    let manifests = Manifests::new();
    for (what, announced, sockets, reason) in rows {
        let place = Place::new();
        let (gateway, mut peer) = successor(&place, Addresses::reserve(), &manifests).await;
        hand(&mut peer, announced, sockets).await;
        let told = peer.receive_abort().await;
        assert!(told.contains(reason), "{what}: {told}");
        assert_eq!(gateway.wait_for_exit().await.code(), Some(1), "{what}");
        gateway.wait_for_log(&[reason]).await;
    }
}

#[tokio::test]
async fn a_successor_skips_state_that_it_does_not_know_and_accepts_only_when_it_may() {
    let (place, manifests, addresses) = (Place::new(), Manifests::new(), Addresses::reserve());
    let sockets = [addresses.http, addresses.status].map(|address| {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    });
    let (gateway, mut peer) = successor(&place, addresses, &manifests).await;
    let names = ["tls-ticket-keys-1", "limits-1", "endpoints-1", "last-good-objects-1", "last-good-objects-2"];
    let mut parts: Vec<(&str, &[u8])> = names.map(|name| (name, &b"\0???"[..])).to_vec();
    let large = vec![0; 33_000_000];
    parts.extend([("model-digest", &b"another"[..]), ("large", &large), ("larger", &large), ("too-large", &large)]);
    hand_with(&mut peer, 2, &sockets.each_ref().map(|socket| socket.as_fd()), &parts).await;
    let (kind, _) = peer.receive().await.unwrap();
    assert_eq!(kind, kind::PREPARED);
    gateway.wait_for_log(&["is_same=false"]).await;
    for name in names {
        gateway.wait_for_log(&["unknown form", name]).await;
    }
    gateway.wait_for_log(&["more state than there is room for", "too-large"]).await;
    let early = TcpStream::connect(addresses.http).await.unwrap();
    // It has not been let in, and nobody is answered by a process that may not accept: the queue is still ours.
    let socket = tokio::net::TcpListener::from_std(sockets[0].try_clone().unwrap()).unwrap();
    let (_, from) = tokio::time::timeout(wait::LIMIT, socket.accept()).await.unwrap().unwrap();
    assert_eq!(from, early.local_addr().unwrap());
    drop(socket);
    peer.send(kind::PROCEED, None).await;
    peer.receive_until(kind::READY).await;
    gateway.wait_until_ready().await;
    peer.send(kind::CONFIRM, None).await;
    peer.receive_until(kind::CONFIRMED).await;
    // An incumbent that dies now is one that the successor need not wait for.
    drop(peer);
    gateway.wait_for_log(&["serving"]).await;
    assert_eq!(gateway.get("http://nobody.test/").await.status, 404);
}

/// What is gone has no last good version, whatever another process remembers.
#[tokio::test]
async fn a_successor_serves_no_last_good_version_of_what_is_not_there() {
    let upstream = Upstream::echo("a").await;
    let (place, addresses) = (Place::new(), Addresses::reserve());
    let manifests = Manifests::of(&service("a", &[upstream.address()]));
    manifests.write("broken.yaml", "a: [\n");
    let ghost = |host: &str, file: Option<PathBuf>| {
        let rule = json!({"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {
            "service": {"name": "a", "port": {"number": 80}},
        }}]}});
        json!({"file": file, "object": {
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": host.replace('.', "-")},
            "spec": {"rules": [rule]},
        }})
    };
    let objects = [
        ghost("nowhere.test", None),
        ghost("deleted.test", Some(manifests.file("deleted.yaml"))),
        ghost("elsewhere.test", Some(manifests.file("manifests.yaml"))),
        ghost("no host.test", Some(manifests.file("broken.yaml"))),
        ghost("hidden.test", Some(manifests.file("broken.yaml"))),
    ];
    let socket = TcpListener::bind(addresses.http).unwrap();
    socket.set_nonblocking(true).unwrap();
    let (gateway, mut peer) = successor(&place, addresses, &manifests).await;
    let objects = serde_json::to_vec(&objects).unwrap();
    hand_with(&mut peer, 1, &[socket.as_fd()], &[("last-good-objects-1", &objects)]).await;
    let (kind, _) = peer.receive().await.unwrap();
    assert_eq!(kind, kind::PREPARED);
    drop((peer, socket));
    gateway.wait_until_ready().await;
    for (host, status) in [("nowhere", 404), ("deleted", 404), ("elsewhere", 404), ("hidden", 200)] {
        assert_eq!(gateway.get(&format!("http://{host}.test/")).await.status, status, "{host}");
    }
    gateway.wait_for_log(&["is not good here", "no host-test"]).await;
    manifests.remove("broken.yaml");
    gateway.wait_for("http://hidden.test/", |answer| answer.status == 404).await;
}

#[tokio::test]
async fn a_successor_with_the_sockets_serves_when_the_old_process_dies() {
    let (place, manifests, addresses) = (Place::new(), Manifests::new(), Addresses::reserve());
    let socket = TcpListener::bind(addresses.http).unwrap();
    socket.set_nonblocking(true).unwrap();
    let (gateway, mut peer) = successor(&place, addresses, &manifests).await;
    hand(&mut peer, 1, &[socket.as_fd()]).await;
    let (kind, _) = peer.receive().await.unwrap();
    assert_eq!(kind, kind::PREPARED);
    drop((peer, socket));
    gateway.wait_until_ready().await;
    assert_eq!(gateway.get("http://nobody.test/").await.status, 404);
    // And takes hand-overs itself.
    wait::until("its own socket is in place", async || (place.pid().await == gateway.pid()).then_some(())).await;
}

#[tokio::test]
async fn a_successor_that_is_refused_ends_and_says_why() {
    let (place, manifests) = (Place::new(), Manifests::new());
    let (gateway, mut peer) = successor(&place, Addresses::reserve(), &manifests).await;
    peer.send(kind::ABORT, Some(json!("not today"))).await;
    assert_eq!(gateway.wait_for_exit().await.code(), Some(1));
    gateway.wait_for_log(&["not today"]).await;
}

#[tokio::test]
async fn a_probe_fails_until_a_gateway_serves() {
    assert_eq!(command(&["probe", &Place::new().flag()]).status.code(), Some(1));
    let fixture = Fixture::start(&[]).await;
    assert_eq!(command(&["probe", &fixture.place.flag()]).status.code(), Some(0));
}

#[test]
fn the_directory_of_the_socket_is_prepared_for_one_user() {
    let directory = TempDir::new().unwrap();
    let user = rustix::process::geteuid().as_raw();
    for _ in 0..2 {
        let socket = format!("--handoff-socket={}/new/socket", directory.path().display());
        let prepared = command(&["prepare", &socket, &format!("--user={user}")]);
        assert!(prepared.status.success(), "{prepared:?}");
    }
    let metadata = directory.path().join("new").metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (user, 0o700));
}
