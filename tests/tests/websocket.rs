//! WebSocket (RFC 6455) through the gateway, which needs no configuration for it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tests::certificate::Certificate;
use tests::client::tls_stream;
use tests::manifests::{ingress, service, tls};
use tests::raw::{RawUpstream, read_head};
use tests::upstream::{acceptor, refusing_address};
use tests::{Gateway, Manifests, Upstream, wait};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

type Socket = WebSocketStream<Box<dyn Stream>>;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A WebSocket server that sends back what it gets, and tells the test. At the text `close` it closes with code 4001,
/// and goes on to listen until the other side closes too.
struct Echo {
    server: RawUpstream,
    received: UnboundedReceiver<Message>,
}

impl Echo {
    async fn start() -> Self {
        let (sender, received) = unbounded_channel();
        let server = RawUpstream::start(move |_, stream| {
            let sender = sender.clone();
            async move {
                // Whoever only asks for the page is not served.
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                let mut is_closing = false;
                // An error is an end without a close frame.
                while let Some(Ok(message)) = socket.next().await {
                    // The test may have seen enough.
                    let _ = sender.send(message.clone());
                    match message {
                        Message::Text(text) if text == "close" => {
                            is_closing = true;
                            socket.close(Some(frame(4001, "enough"))).await.unwrap();
                        }
                        Message::Text(_) | Message::Binary(_) if !is_closing => socket.send(message).await.unwrap(),
                        // Tungstenite answers pings and close frames by itself.
                        _ => {}
                    }
                }
            }
        })
        .await;
        Self { server, received }
    }
}

fn frame(code: u16, reason: &'static str) -> CloseFrame {
    CloseFrame { code: CloseCode::from(code), reason: reason.into() }
}

/// Manifests whose host a.test leads to an upstream, with and without TLS.
fn manifests(upstream: SocketAddr) -> Manifests {
    let secret = Certificate::self_signed(&["a.test"]).secret("a");
    let manifests = Manifests::of(&[service("a", &[upstream]), secret].concat());
    write_route(&manifests, &[]);
    manifests
}

fn write_route(manifests: &Manifests, annotations: &[(&str, &str)]) {
    let annotations = [annotations, &[("ssl-redirect", "false")]].concat();
    let ingress = ingress("a", "a.test", &annotations, &[("/", "a")]);
    manifests.write("ingress.yaml", &[ingress, tls(&["a.test"], "a")].concat());
}

async fn connect(gateway: &Gateway, is_tls: bool) -> Socket {
    let at = gateway.addresses();
    let stream: Box<dyn Stream> = match is_tls {
        false => Box::new(TcpStream::connect(at.http).await.unwrap()),
        true => Box::new(tls_stream(at.https, Some("a.test"), http::Version::HTTP_11).await.unwrap().0),
    };
    tokio_tungstenite::client_async("ws://a.test/chat", stream).await.unwrap().0
}

async fn echo(socket: &mut Socket, message: Message) {
    socket.send(message.clone()).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), message);
}

#[tokio::test]
async fn messages_and_pings_pass_both_ways() {
    let mut upstream = Echo::start().await;
    let manifests = manifests(upstream.server.address());
    let gateway = Gateway::start(&manifests, &[]).await;
    for is_tls in [false, true] {
        let mut socket = connect(&gateway, is_tls).await;
        for message in [Message::text("hello"), Message::binary(vec![7; 1 << 20]), Message::text("")] {
            echo(&mut socket, message.clone()).await;
            assert_eq!(upstream.received.recv().await.unwrap(), message);
        }
        socket.send(Message::Ping("are you there".into())).await.unwrap();
        assert_eq!(upstream.received.recv().await.unwrap(), Message::Ping("are you there".into()));
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong("are you there".into()));
    }
}

#[tokio::test]
async fn close_codes_pass_both_ways() {
    let mut upstream = Echo::start().await;
    let manifests = manifests(upstream.server.address());
    let gateway = Gateway::start(&manifests, &[]).await;
    for is_tls in [false, true] {
        let mut socket = connect(&gateway, is_tls).await;
        socket.close(Some(frame(4002, "bye"))).await.unwrap();
        assert_eq!(upstream.received.recv().await.unwrap(), Message::Close(Some(frame(4002, "bye"))));
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Close(Some(frame(4002, "bye"))));
        assert!(socket.next().await.is_none(), "the connection has ended");

        let mut socket = connect(&gateway, is_tls).await;
        socket.send(Message::text("close")).await.unwrap();
        // One side has closed; the other may still have something to say (RFC 6455 section 5.5.1).
        socket.send(Message::text("last words")).await.unwrap();
        for expected in [Message::text("close"), Message::text("last words")] {
            assert_eq!(upstream.received.recv().await.unwrap(), expected);
        }
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Close(Some(frame(4001, "enough"))));
        assert!(socket.next().await.is_none(), "the connection has ended");
        assert!(matches!(upstream.received.recv().await.unwrap(), Message::Close(_)));
    }
}

#[tokio::test]
async fn the_end_of_one_side_is_seen_by_the_other() {
    let (sender, mut ended) = unbounded_channel();
    let upstream = RawUpstream::start(move |_, mut stream| {
        let sender = sender.clone();
        async move {
            read_head(&mut stream).await;
            let accepted = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello";
            stream.write_all(accepted.as_bytes()).await.unwrap();
            // How the connection ends does not matter, but that it does.
            let length = stream.read(&mut [0; 16]).await.unwrap_or(0);
            if length == 0 {
                sender.send(()).unwrap();
            }
        }
    })
    .await;
    let manifests = manifests(upstream.address());
    let gateway = Gateway::start(&manifests, &[]).await;
    let open = async || {
        let mut stream = TcpStream::connect(gateway.addresses().http).await.unwrap();
        let request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 101"));
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).await.unwrap();
        stream
    };
    let mut client = open().await;
    client.shutdown().await.unwrap();
    tokio::time::timeout(wait::LIMIT, ended.recv()).await.unwrap().unwrap();
    let mut client = open().await;
    client.write_all(b"go").await.unwrap();
    let end = tokio::time::timeout(wait::LIMIT, client.read(&mut [0; 16])).await.unwrap();
    assert_eq!(end.unwrap_or(0), 0);
}

/// The answer of a quick server can be there before anything else has happened. This one has it ready before it was asked.
#[tokio::test]
async fn a_tunnel_stays_open_however_early_its_server_agrees() {
    for is_tls in [false, true] {
        let acceptor = is_tls.then(|| acceptor(&Certificate::self_signed(&["upstream"]), None));
        let upstream = RawUpstream::start(move |_, stream| {
            let acceptor = acceptor.clone();
            async move {
                let mut stream: Box<dyn Stream> = match acceptor {
                    Some(acceptor) => Box::new(acceptor.accept(stream).await.unwrap()),
                    None => Box::new(stream),
                };
                let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
                stream.write_all(head.as_bytes()).await.unwrap();
                read_head(&mut stream).await;
                let mut word = [0; 4];
                if stream.read_exact(&mut word).await.is_ok() {
                    stream.write_all(&word).await.unwrap();
                }
            }
        })
        .await;
        let manifests = manifests(upstream.address());
        write_route(&manifests, &[("backend-protocol", if is_tls { "HTTPS" } else { "HTTP" })]);
        let gateway = Gateway::start(&manifests, &[]).await;
        for _ in 0..50 {
            let mut stream = TcpStream::connect(gateway.addresses().http).await.unwrap();
            let request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            stream.write_all(request.as_bytes()).await.unwrap();
            assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 101"));
            stream.write_all(b"word").await.unwrap();
            let mut word = [0; 4];
            stream.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"word");
        }
    }
}

#[tokio::test]
async fn a_tunnel_opens_where_another_endpoint_refuses() {
    let upstream = Echo::start().await;
    let manifests = manifests(upstream.server.address());
    manifests.write("a.yaml", &service("b", &[refusing_address().await, upstream.server.address()]));
    manifests.write("ingress.yaml", &ingress("a", "a.test", &[], &[("/", "b")]));
    let gateway = Gateway::start(&manifests, &[]).await;
    for _ in 0..4 {
        let mut socket = connect(&gateway, false).await;
        echo(&mut socket, Message::text("hello")).await;
    }
}

/// RFC 6455 section 4.1: both fields are needed, and HTTP/1.1.
#[tokio::test]
async fn nothing_is_tunnelled_that_did_not_ask_in_full() {
    let upstream = Upstream::echo("a").await;
    let manifests = manifests(upstream.address());
    let gateway = Gateway::start(&manifests, &[]).await;
    for (version, fields) in [
        ("1.1", "Upgrade: websocket\r\n"),
        ("1.0", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        ("1.1", "Connection: Upgrade\r\nUpgrade: foo\r\n"),
    ] {
        let mut stream = TcpStream::connect(gateway.addresses().http).await.unwrap();
        let request = format!("GET / HTTP/{version}\r\nHost: a.test\r\n{fields}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{version} {fields}: {head}");
        let mut body = vec![0; 4096];
        let length = stream.read(&mut body).await.unwrap();
        let text = String::from_utf8_lossy(&body[..length]).into_owned();
        assert!(!text.contains("[\"upgrade\""), "{version} {fields}: {text}");
    }
}

#[tokio::test]
async fn a_websocket_lives_through_changes_of_its_own_route() {
    let upstream = Echo::start().await;
    let other = Upstream::echo("other").await;
    let manifests = manifests(upstream.server.address());
    manifests.write("other.yaml", &service("other", &[other.address()]));
    let gateway = Gateway::start(&manifests, &[]).await;
    let mut sockets = [connect(&gateway, false).await, connect(&gateway, true).await];
    let mut still_echo = async || {
        for socket in &mut sockets {
            echo(socket, Message::text("still there")).await;
        }
    };
    still_echo().await;
    manifests.write("new.yaml", &ingress("new", "new.test", &[], &[("/", "other")]));
    gateway.wait_for("http://new.test/", |answer| answer.upstream() == "other").await;
    still_echo().await;
    write_route(&manifests, &[("permanent-redirect", "https://elsewhere.test/")]);
    gateway.wait_for("http://a.test/", |answer| answer.status == 301).await;
    still_echo().await;
    let secret = Certificate::self_signed(&["a.test"]).secret("a");
    manifests.write("manifests.yaml", &[service("a", &[other.address()]), secret].concat());
    write_route(&manifests, &[]);
    gateway.wait_for("http://a.test/", |answer| answer.upstream() == "other").await;
    still_echo().await;
    manifests.remove("ingress.yaml");
    gateway.wait_for("http://a.test/", |answer| answer.status == 404).await;
    still_echo().await;
}
