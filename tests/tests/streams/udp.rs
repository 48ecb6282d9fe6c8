//! Datagrams of UDP services.

use std::net::SocketAddr;
use std::time::Duration;

use tests::gateway::Addresses;
use tests::handoff::Place;
use tests::manifests::{SETTINGS, settings};
use tests::{Gateway, Manifests, wait};
use tokio::net::UdpSocket;

use crate::{NameServer, UDP, name_service, udp_map};

/// A gateway one port of which goes to these name servers.
async fn start(servers: &[SocketAddr], keys: &[(&str, &str)], flags: &[&str]) -> (Gateway, Manifests, SocketAddr) {
    let addresses = Addresses::reserve();
    let port = addresses.spare();
    let objects = [name_service("a", servers), udp_map(&[(port.port(), "default/a:53")]), settings(keys)];
    let manifests = Manifests::of(&objects.concat());
    let gateway = Gateway::spawn(addresses, manifests.path(), &[&[UDP, SETTINGS], flags].concat());
    gateway.wait_until_ready().await;
    (gateway, manifests, port)
}

/// A client that hears nobody but the gateway.
async fn client(port: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(port).await.unwrap();
    socket
}

/// An answer, which may take its time.
async fn answer(client: &UdpSocket) -> String {
    let mut buffer = vec![0; 65_535];
    let length = tokio::time::timeout(wait::LIMIT, client.recv(&mut buffer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

async fn ask(client: &UdpSocket, text: &str) -> String {
    client.send(text.as_bytes()).await.unwrap();
    answer(client).await
}

async fn n_sessions(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metric("penstock_streams_total", &["transport=\"udp\"", &format!("outcome=\"{outcome}\"")]).await
}

#[tokio::test]
async fn each_client_gets_the_answers_to_its_own_datagrams() {
    let server = NameServer::start("a").await;
    let (gateway, _manifests, port) = start(&[server.address], &[], &[]).await;
    let (first, second) = (client(port).await, client(port).await);
    for number in 0..200 {
        assert_eq!(ask(&first, &format!("first {number}")).await, format!("a first {number}"));
        assert_eq!(ask(&second, &format!("second {number}")).await, format!("a second {number}"));
    }
    let long = "x".repeat(50_000);
    assert_eq!(ask(&first, &long).await, format!("a {long}"));
    assert_eq!(ask(&first, "").await, "a ");
    let is_over = async || {
        (gateway.metric("nginx_ingress_controller_nginx_process_connections", &["active"]).await == 0.0).then_some(())
    };
    wait::until("every session has ended with its answer", is_over).await;
}

#[tokio::test]
async fn a_session_lasts_for_as_many_answers_as_are_expected() {
    let (a, b) = (NameServer::start("a").await, NameServer::start("b").await);
    let (gateway, _manifests, port) = start(&[a.address, b.address], &[("proxy-stream-responses", "2")], &[]).await;
    let client = client(port).await;
    for number in 1..=4 {
        let answers = [ask(&client, "twice").await, answer(&client).await];
        assert_eq!(answers[0], answers[1], "both are of one server");
        let has_begun = async || (n_sessions(&gateway, "connected").await >= f64::from(number)).then_some(());
        wait::until("a session for each", has_begun).await;
    }
}

#[tokio::test]
async fn a_session_that_waits_for_an_answer_takes_more() {
    let server = NameServer::start("a").await;
    let (gateway, _manifests, port) = start(&[server.address], &[], &[]).await;
    let client = client(port).await;
    client.send(b"never").await.unwrap();
    assert_eq!(ask(&client, "again").await, "a again");
    assert_eq!(n_sessions(&gateway, "connected").await, 1.0);
}

#[tokio::test]
async fn a_session_without_answers_ends_when_nothing_passes() {
    let server = NameServer::start("a").await;
    let (gateway, _manifests, port) = start(&[server.address], &[("proxy-stream-timeout", "1s")], &[]).await;
    let client = client(port).await;
    client.send(b"never").await.unwrap();
    let active = async || gateway.metric("nginx_ingress_controller_nginx_process_connections", &["active"]).await;
    wait::until("the session is there", async || (n_sessions(&gateway, "connected").await == 1.0).then_some(())).await;
    wait::until("the session has ended", async || (active().await == 0.0).then_some(())).await;
    assert_eq!(ask(&client, "later").await, "a later");
    assert_eq!(n_sessions(&gateway, "connected").await, 2.0);
}

#[tokio::test]
async fn a_session_leaves_an_endpoint_that_is_gone() {
    let (a, b) = (NameServer::start("a").await, NameServer::start("b").await);
    let (_gateway, manifests, port) = start(&[a.address], &[], &[]).await;
    let client = client(port).await;
    // The session waits for an answer all the time.
    client.send(b"never").await.unwrap();
    assert_eq!(ask(&client, "here").await, "a here");
    let objects = [name_service("a", &[b.address]), udp_map(&[(port.port(), "default/a:53")]), settings(&[])];
    manifests.write("manifests.yaml", &objects.concat());
    let is_left = async || {
        client.send(b"there").await.unwrap();
        let mut buffer = [0; 64];
        let got = tokio::time::timeout(Duration::from_millis(200), client.recv(&mut buffer)).await.ok()?.ok()?;
        (&buffer[..got] == b"b there").then_some(())
    };
    wait::until("datagrams go to the new endpoint", is_left).await;
}

#[tokio::test]
async fn a_server_that_is_gone_is_left_for_another() {
    let (a, gone) = (NameServer::start("a").await, UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let dead = gone.local_addr().unwrap();
    // To everybody else it is as if nobody were there, and nobody gets its port.
    gone.connect(dead).await.unwrap();
    let (_gateway, _manifests, port) = start(&[a.address, dead], &[], &[]).await;
    let client = client(port).await;
    let mut n_answers = 0;
    // Every other datagram is lost at first; then nobody asks the one that is gone any more.
    let serves = async || {
        client.send(b"ask").await.unwrap();
        let mut buffer = [0; 64];
        let got = tokio::time::timeout(Duration::from_millis(200), client.recv(&mut buffer)).await;
        n_answers = if got.is_ok() { n_answers + 1 } else { 0 };
        (n_answers >= 10).then_some(())
    };
    wait::until("ten answers in a row", serves).await;
}

#[tokio::test]
async fn a_change_of_the_config_map_is_live() {
    let (a, b) = (NameServer::start("a").await, NameServer::start("b").await);
    let servers = [name_service("a", &[a.address]), name_service("b", &[b.address])].concat();
    let manifests = Manifests::of(&servers);
    let gateway = Gateway::start(&manifests, &[UDP]).await;
    let port = gateway.addresses().spare();
    let client = client(port).await;
    let is = async |server: &str| {
        let answered = async || {
            // Where nobody listens, the kernel says so.
            client.send(b"ask").await.ok()?;
            let mut buffer = [0; 64];
            let got = tokio::time::timeout(Duration::from_millis(200), client.recv(&mut buffer)).await.ok()?.ok()?;
            buffer[..got].starts_with(server.as_bytes()).then_some(())
        };
        wait::until(&format!("the port goes to {server}"), answered).await;
    };
    manifests.write("udp.yaml", &udp_map(&[(port.port(), "default/a:53")]));
    is("a").await;
    manifests.write("udp.yaml", &udp_map(&[(port.port(), "default/b:dns")]));
    is("b").await;
    // A session that waits for an answer does not keep the port.
    client.send(b"never").await.unwrap();
    manifests.write("udp.yaml", &udp_map(&[]));
    gateway.wait_for_log(&["listener closed", &format!("udp/{port}")]).await;
    drop(UdpSocket::bind(port).await.unwrap());
    manifests.write("udp.yaml", &udp_map(&[(port.port(), "default/a:53")]));
    is("a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_loses_no_datagram() {
    let server = NameServer::start("a").await;
    let place = Place::new();
    let flags = [&place.flag(), "--handoff-probation=300ms", "--drain-timeout=1s"];
    let (gateway, _manifests, port) = start(&[server.address], &[], &flags).await;
    place.wait_until_taken().await;
    let first = place.pid().await;
    let asking = tokio::spawn(async move {
        let client = client(port).await;
        for number in 0_u64.. {
            assert_eq!(ask(&client, &number.to_string()).await, format!("a {number}"));
        }
    });
    let upgraded = place.upgrade(None).await;
    assert_eq!(upgraded.status.code(), Some(0), "{}\n{}", String::from_utf8_lossy(&upgraded.stderr), gateway.log());
    wait::until("another process", async || (place.pid().await != first).then_some(())).await;
    assert_eq!(gateway.wait_for_exit().await.code(), Some(0));
    assert_eq!(ask(&client(port).await, "hello").await, "a hello");
    assert!(!asking.is_finished(), "a datagram was lost");
    asking.abort();
}
