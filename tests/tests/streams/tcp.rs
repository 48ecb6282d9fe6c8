//! Connections of TCP services.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::handoff::Place;
use tests::manifests::{SETTINGS, service, settings};
use tests::{Gateway, Manifests, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{Echo, TCP, line, name, rest, tcp_map};

/// A gateway one port of which goes to these endpoints, with something behind the value of the entry.
async fn start(endpoints: &[SocketAddr], headers: &str, flags: &[&str]) -> (Gateway, Manifests, SocketAddr) {
    let addresses = tests::gateway::Addresses::reserve();
    let port = addresses.spare();
    let entry = format!("default/a:80{headers}");
    let manifests = Manifests::of(&[service("a", endpoints), tcp_map(&[(port.port(), &entry)])].concat());
    manifests.write("settings.yaml", &settings(&[]));
    let gateway = Gateway::spawn(addresses, manifests.path(), &[&[TCP, SETTINGS], flags].concat());
    gateway.wait_until_ready().await;
    (gateway, manifests, port)
}

/// An address at which connections are refused, for as long as the socket is there: it is bound and never listens.
fn gone() -> (SocketAddr, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (socket.local_addr().unwrap(), socket)
}

#[tokio::test]
async fn bytes_pass_both_ways_and_each_end_by_itself() {
    let echo = Echo::start("a").await;
    let (gateway, _manifests, port) = start(&[echo.address], "", &[]).await;
    let mut stream = TcpStream::connect(port).await.unwrap();
    assert_eq!(line(&mut stream).await.unwrap(), "a", "the server speaks first");
    let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let (mut reader, mut writer) = stream.into_split();
    let writing = {
        let sent = sent.clone();
        tokio::spawn(async move {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
            writer
        })
    };
    let mut received = Vec::new();
    reader.read_to_end(&mut received).await.unwrap();
    assert!(received == [&sent[..], b"end"].concat(), "{} bytes of {}", received.len(), sent.len());
    writing.await.unwrap();
    assert_eq!(gateway.metric("penstock_streams_total", &["transport=\"tcp\"", "outcome=\"connected\""]).await, 1.0);
}

#[tokio::test]
async fn what_a_server_breaks_off_is_no_end_for_its_client() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_gateway, _manifests, port) = start(&[listener.local_addr().unwrap()], "", &[]).await;
    let mut client = TcpStream::connect(port).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    server.write_all(b"half of it").await.unwrap();
    let mut half = [0; 10];
    client.read_exact(&mut half).await.unwrap();
    // Bytes that nobody reads make the end a reset.
    client.write_all(b"unread").await.unwrap();
    assert_eq!(server.peek(&mut [0]).await.unwrap(), 1);
    drop(server);
    let ended = client.read_u8().await;
    assert!(ended.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset), "{ended:?}");
}

#[tokio::test]
async fn connections_are_shared_by_the_endpoints_and_pass_over_those_that_cannot_be_reached() {
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let (gone, _socket) = gone();
    let (_gateway, _manifests, port) = start(&[a.address, b.address, gone], "", &[]).await;
    let mut names = Vec::new();
    for _ in 0..12 {
        names.push(name(port).await.unwrap());
    }
    for server in ["a", "b"] {
        assert!(names.iter().filter(|name| *name == server).count() >= 3, "{names:?}");
    }
}

#[tokio::test]
async fn another_endpoint_is_tried_only_where_that_is_wanted() {
    let (gone, _socket) = gone();
    let echo = Echo::start("a").await;
    let (gateway, manifests, port) = start(&[gone, echo.address], "", &[]).await;
    manifests.write("settings.yaml", &settings(&[("proxy-stream-next-upstream", "false")]));
    let is_refused = async || name(port).await.is_none().then_some(());
    wait::until("a connection that is not given to the other endpoint", is_refused).await;
    assert!(gateway.metric("penstock_streams_total", &["outcome=\"unreachable\""]).await >= 1.0);
}

#[tokio::test]
async fn a_service_without_endpoints_ends_connections_at_once() {
    let (gateway, manifests, port) = start(&[], "", &[]).await;
    assert_eq!(name(port).await, None);
    assert_eq!(gateway.metric("penstock_streams_total", &["outcome=\"unreachable\""]).await, 1.0);
    let echo = Echo::start("late").await;
    let entry = tcp_map(&[(port.port(), "default/a:http")]);
    manifests.write("manifests.yaml", &[service("a", &[echo.address]), entry].concat());
    wait::until("the endpoint is found", async || name(port).await).await;
}

#[tokio::test]
async fn a_silent_connection_ends() {
    let echo = Echo::start("a").await;
    let (_gateway, manifests, port) = start(&[echo.address], "", &[]).await;
    let mut patient = TcpStream::connect(port).await.unwrap();
    assert_eq!(line(&mut patient).await.unwrap(), "a");
    manifests.write("settings.yaml", &settings(&[("proxy-stream-timeout", "1s")]));
    let ends = async || {
        let began = Instant::now();
        let mut stream = TcpStream::connect(port).await.unwrap();
        assert_eq!(line(&mut stream).await.unwrap(), "a");
        let ended = tokio::time::timeout(Duration::from_secs(5), rest(&mut stream)).await.ok()?;
        assert_eq!(ended.unwrap(), "");
        assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
        Some(())
    };
    wait::until("a connection that ends by itself", ends).await;
    patient.write_all(b"still here\n").await.unwrap();
    assert_eq!(line(&mut patient).await.unwrap(), "still here", "what began before has its time");
}

#[tokio::test]
async fn a_proxy_header_is_taken_from_clients_and_written_to_servers() {
    const SENT: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.2 12345 8080\r\nhello\n";
    for (headers, sent, expected) in [
        (":PROXY", SENT, &["hello"][..]),
        (":PROXY:PROXY", SENT, &["PROXY TCP4 192.0.2.7 198.51.100.2 12345 8080\r", "hello"]),
        ("::PROXY", b"hello\n", &["PROXY TCP4 CLIENT SERVER\r", "hello"]),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_gateway, _manifests, port) = start(&[listener.local_addr().unwrap()], headers, &[]).await;
        let mut client = TcpStream::connect(port).await.unwrap();
        let own = client.local_addr().unwrap();
        client.write_all(sent).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        for expected in expected {
            let ends = format!("{} {} {} {}", own.ip(), port.ip(), own.port(), port.port());
            assert_eq!(line(&mut server).await.unwrap(), expected.replace("CLIENT SERVER", &ends), "{headers}");
        }
    }
}

#[tokio::test]
async fn a_client_without_the_proxy_header_that_it_must_have_is_not_passed_on() {
    let echo = Echo::start("a").await;
    let (gateway, _manifests, port) = start(&[echo.address], ":PROXY", &[]).await;
    let mut client = TcpStream::connect(port).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(rest(&mut client).await.unwrap_or_default().is_empty());
    assert_eq!(gateway.metric("penstock_proxy_header_failures_total", &[]).await, 1.0);
}

#[tokio::test]
async fn connections_are_finished_before_the_gateway_leaves_up_to_its_limit() {
    let echo = Echo::start("a").await;
    let (gateway, _manifests, port) = start(&[echo.address], "", &["--drain-timeout=600s"]).await;
    let mut stream = TcpStream::connect(port).await.unwrap();
    assert_eq!(line(&mut stream).await.unwrap(), "a");
    gateway.signal(Signal::TERM);
    wait::until("the port is closed", async || TcpStream::connect(port).await.is_err().then_some(())).await;
    stream.write_all(b"hello\n").await.unwrap();
    assert_eq!(line(&mut stream).await.unwrap(), "hello");
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), "end");
    assert_eq!(gateway.wait_for_exit().await.code(), Some(0));

    let (gateway, _manifests, port) = start(&[echo.address], "", &["--drain-timeout=1s"]).await;
    let mut stream = TcpStream::connect(port).await.unwrap();
    assert_eq!(line(&mut stream).await.unwrap(), "a");
    gateway.signal(Signal::TERM);
    assert_eq!(rest(&mut stream).await.unwrap_or_default(), "", "what is left at the limit is closed");
    gateway.wait_for_exit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_refuses_no_connection_and_ends_none() {
    let echo = Echo::start("a").await;
    let place = Place::new();
    let flags = [&place.flag(), "--handoff-probation=300ms", "--drain-timeout=600s"];
    let (gateway, _manifests, port) = start(&[echo.address], "", &flags).await;
    place.wait_until_taken().await;
    let mut old = TcpStream::connect(port).await.unwrap();
    assert_eq!(line(&mut old).await.unwrap(), "a");
    let first = place.pid().await;
    let knocking = tokio::spawn(async move {
        let mut n_served = 0;
        // Until the test has seen enough.
        loop {
            assert_eq!(name(port).await.as_deref(), Some("a"), "after {n_served} connections");
            n_served += 1;
        }
    });
    let upgraded = place.upgrade(None).await;
    assert_eq!(upgraded.status.code(), Some(0), "{}\n{}", String::from_utf8_lossy(&upgraded.stderr), gateway.log());
    wait::until("another process", async || (place.pid().await != first).then_some(())).await;
    for _ in 0..20 {
        assert_eq!(name(port).await.as_deref(), Some("a"));
    }
    assert!(!knocking.is_finished(), "a connection was refused");
    knocking.abort();
    old.write_all(b"still here\n").await.unwrap();
    assert_eq!(line(&mut old).await.unwrap(), "still here");
    old.shutdown().await.unwrap();
    assert_eq!(rest(&mut old).await.unwrap(), "end");
    assert_eq!(gateway.wait_for_exit().await.code(), Some(0));
}
