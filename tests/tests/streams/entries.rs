//! Which ports are there: changes are live, and a mistake is its author's alone.

use serde_json::Value;
use tests::gateway::{Addresses, command};
use tests::manifests::{config_map, service};
use tests::{Gateway, Manifests, wait};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::{Echo, TCP, UDP, line, name, tcp_map};

#[tokio::test]
async fn a_change_of_the_config_map_is_live_and_leaves_connections_alone() {
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let manifests = Manifests::of(&[service("a", &[a.address]), service("b", &[b.address])].concat());
    let gateway = Gateway::start(&manifests, &[TCP]).await;
    let port = gateway.addresses().spare();
    assert_eq!(name(port).await, None);
    let is = |server: &'static str| async move || (name(port).await.as_deref() == Some(server)).then_some(());
    manifests.write("tcp.yaml", &tcp_map(&[(port.port(), "default/a:80")]));
    wait::until("the port goes to a", is("a")).await;
    let mut kept = TcpStream::connect(port).await.unwrap();
    assert_eq!(line(&mut kept).await.unwrap(), "a");
    manifests.write("tcp.yaml", &tcp_map(&[(port.port(), "default/b:http")]));
    wait::until("the port goes to b", is("b")).await;
    let log = gateway.log();
    assert!(!log.contains("listener closed"), "the port stayed open: {log}");
    manifests.write("tcp.yaml", &tcp_map(&[]));
    wait::until("the port is closed", async || TcpStream::connect(port).await.is_err().then_some(())).await;
    kept.write_all(b"hello\n").await.unwrap();
    assert_eq!(line(&mut kept).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_bad_entry_is_reported_touches_no_other_and_keeps_what_was_there() {
    let echo = Echo::start("a").await;
    let addresses = Addresses::reserve();
    let port = addresses.spare();
    let manifests = Manifests::of(&service("a", &[echo.address]));
    let good = |key: u16| (key.to_string(), "default/a:80");
    let write = |entries: &[(String, &str)]| {
        let entries: Vec<(&str, &str)> = entries.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        manifests.write("tcp.yaml", &config_map("tcp", &entries));
    };
    write(&[good(port.port())]);
    let gateway = Gateway::spawn(addresses, manifests.path(), &[TCP]);
    gateway.wait_until_ready().await;
    assert_eq!(name(port).await.as_deref(), Some("a"));
    let other = addresses.spare();
    let bad = [
        (port.port().to_string(), "default/a"),
        ("http".to_owned(), "default/a:80"),
        (addresses.http.port().to_string(), "default/a:80"),
        (addresses.status.port().to_string(), "default/a:80"),
        good(other.port()),
    ];
    write(&bad);
    wait::until("the good entry is live", async || name(other).await).await;
    assert_eq!(name(port).await.as_deref(), Some("a"), "the last good version of the bad one holds");
    for (key, _) in &bad[..4] {
        gateway.wait_for_log(&["ConfigMap", "default/tcp", &format!("data.{key}")]).await;
    }
    write(&[good(other.port())]);
    wait::until("the port is closed", async || TcpStream::connect(port).await.is_err().then_some(())).await;
    assert_eq!(name(other).await.as_deref(), Some("a"));
}

#[tokio::test]
async fn a_port_that_somebody_else_has_keeps_no_other_waiting() {
    let echo = Echo::start("a").await;
    let addresses = Addresses::reserve();
    let taken = TcpListener::bind(addresses.spare()).await.unwrap();
    let (port, free) = (taken.local_addr().unwrap(), addresses.spare());
    let entries = [(port.port(), "default/a:80"), (free.port(), "default/a:80")];
    let manifests = Manifests::of(&[service("a", &[echo.address]), tcp_map(&entries)].concat());
    let gateway = Gateway::spawn(addresses, manifests.path(), &[TCP]);
    gateway.wait_until_ready().await;
    assert_eq!(name(free).await.as_deref(), Some("a"));
    gateway.wait_for_log(&["ConfigMap default/tcp", &format!("data.{}", port.port())]).await;
    drop(taken);
    wait::until("the port is taken when it is free", async || name(port).await).await;
}

#[test]
fn check_names_the_line_of_each_mistake() {
    let manifests = Manifests::new();
    let text =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: tcp}\ndata:\n  443: a/b:80\n  9000: a/b\n  9001: a/b:80\n";
    manifests.write("tcp.yaml", text);
    manifests.write("udp.yaml", &text.replace("tcp", "udp").replace("9001: a/b:80", "9001: a/b:80:PROXY"));
    let path = manifests.path().to_str().unwrap();
    let output = command(&["check", "-o", "json", TCP, UDP, path]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = report["findings"].as_array().unwrap();
    let found: Vec<(&str, u64, &str)> = problems
        .iter()
        .map(|problem| {
            let file = problem["file"].as_str().unwrap().rsplit('/').next().unwrap();
            (file, problem["line"].as_u64().unwrap(), problem["reason"].as_str().unwrap())
        })
        .collect();
    let expected = [
        ("tcp.yaml", 5, "InvalidValue"),
        ("tcp.yaml", 6, "InvalidValue"),
        ("tcp.yaml", 7, "ServiceNotFound"),
        ("udp.yaml", 5, "InvalidValue"),
        ("udp.yaml", 6, "InvalidValue"),
        ("udp.yaml", 7, "InvalidValue"),
    ];
    assert_eq!(found, expected);
}
