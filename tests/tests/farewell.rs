//! Connections that outlive an upgrade: they go on with the old process, and those that are still open at its drain limit
//! end in their protocol's own way.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Request, Response, Version};
use http_body_util::BodyExt as _;
use tests::certificate::Certificate;
use tests::client::tls_stream;
use tests::handoff::Place;
use tests::manifests::{ingress, service, tls};
use tests::raw::{RawUpstream, read_head};
use tests::upstream::{fed, full};
use tests::{Client, Gateway, Manifests, Upstream, wait};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// A gateway that can be upgraded. The host `a.test` leads to the upstream, `grpc.test` by HTTP/2.
struct Fixture {
    place: Place,
    gateway: Gateway,
    _manifests: Manifests,
}

impl Fixture {
    async fn start(upstream: std::net::SocketAddr, flags: &[&str]) -> Self {
        let place = Place::new();
        let secret = Certificate::self_signed(&["a.test"]).secret("a");
        let plain = ingress("a", "a.test", &[("ssl-redirect", "false")], &[("/", "a")]);
        let grpc = ingress("grpc", "grpc.test", &[("backend-protocol", "GRPC")], &[("/", "a")]);
        let manifests = Manifests::of(&[service("a", &[upstream]), secret, grpc].concat());
        manifests.write("a.yaml", &[plain, tls(&["a.test"], "a")].concat());
        let flag = place.flag();
        let flags = [&[flag.as_str(), "--handoff-probation=50ms"], flags].concat();
        let gateway = Gateway::start(&manifests, &flags).await;
        place.wait_until_taken().await;
        Self { place, gateway, _manifests: manifests }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.gateway.addresses().http).await.unwrap()
    }

    async fn upgrade(&self) {
        let upgraded = self.place.upgrade(None).await;
        assert_eq!(upgraded.status.code(), Some(0), "{}", String::from_utf8_lossy(&upgraded.stderr));
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What comes until the end of the stream, which must be one and no reset.
async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    tokio::time::timeout(wait::LIMIT, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    rest
}

/// RFC 6455 section 7.4.1: 1001 is for a server that goes down.
#[tokio::test]
async fn a_websocket_is_told_that_the_gateway_goes_away() {
    let upstream = RawUpstream::start(|_, stream| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
        while let Some(Ok(message)) = socket.next().await {
            // Close frames are answered by tungstenite itself.
            if message.is_text() && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await;
    let fixture = Fixture::start(upstream.address(), &["--drain-timeout=1s"]).await;
    let https = fixture.gateway.addresses().https;
    let mut sockets = Vec::new();
    for is_tls in [false, true] {
        let open = async || {
            let stream: Box<dyn Stream> = match is_tls {
                false => Box::new(fixture.connect().await),
                true => Box::new(tls_stream(https, Some("a.test"), Version::HTTP_11).await.unwrap().0),
            };
            let (mut socket, _) = tokio_tungstenite::client_async("ws://a.test/", stream).await.unwrap();
            for text in [String::new(), "x".repeat(200), "y".repeat(70_000)] {
                socket.send(Message::text(text.clone())).await.ok()?;
                assert_eq!(socket.next().await?.ok()?, Message::text(text));
            }
            Some(socket)
        };
        // Pingora ends a tunnel at once when the answer of the upstream overtakes the end of the request's empty body.
        sockets.push(wait::until("a tunnel that stays", open).await);
    }
    fixture.upgrade().await;
    for mut socket in sockets {
        let last = tokio::time::timeout(wait::LIMIT, socket.next()).await.unwrap().unwrap().unwrap();
        let Message::Close(Some(frame)) = last else { panic!("{last:?}") };
        assert_eq!(frame.code, CloseCode::Away);
        let end = tokio::time::timeout(wait::LIMIT, socket.next()).await.unwrap();
        assert!(end.is_none(), "no reset: {end:?}");
    }
    fixture.gateway.wait_for_log(&["still open at the drain limit", "n_cut=2"]).await;
    assert_eq!(fixture.gateway.wait_for_exit().await.code(), Some(0));
}

/// A frame of the gateway's own would be taken for a part of the one that was begun.
#[tokio::test]
async fn in_the_middle_of_a_frame_a_websocket_just_ends() {
    let upstream = RawUpstream::start(|_, mut stream| async move {
        read_head(&mut stream).await;
        let accepted =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x82\x05he";
        stream.write_all(accepted).await.unwrap();
        // It ends with its client.
        let _ = stream.read(&mut [0]).await;
    })
    .await;
    let fixture = Fixture::start(upstream.address(), &["--drain-timeout=1s"]).await;
    let mut client = fixture.connect().await;
    let request = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    client.write_all(request).await.unwrap();
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 101 "));
    fixture.upgrade().await;
    assert_eq!(read_to_end(&mut client).await, b"\x82\x05he");
}

/// Bytes that the gateway has not read would make the kernel reset the connection.
#[tokio::test]
async fn an_upload_that_nobody_reads_ends_at_the_drain_limit_without_a_reset() {
    let (sender, mut is_there) = tokio::sync::mpsc::unbounded_channel();
    let upstream = RawUpstream::start(move |_, mut stream| {
        let sender = sender.clone();
        async move {
            read_head(&mut stream).await;
            sender.send(()).unwrap();
            std::future::pending().await
        }
    })
    .await;
    let fixture = Fixture::start(upstream.address(), &["--drain-timeout=1s"]).await;
    let (mut reader, mut writer) = fixture.connect().await.into_split();
    let upload = tokio::spawn(async move {
        let head = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n";
        writer.write_all(head.as_bytes()).await.unwrap();
        // More than the buffers on the way hold, less than the largest body (`proxy-body-size`).
        let _ = writer.write_all(&vec![0; 1_000_000]).await;
        writer
    });
    tokio::time::timeout(wait::LIMIT, is_there.recv()).await.unwrap().unwrap();
    fixture.upgrade().await;
    assert_eq!(read_to_end(&mut reader).await, b"");
    drop(upload.await.unwrap());
    assert_eq!(fixture.gateway.wait_for_exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_large_upload_and_a_large_download_go_on_through_an_upgrade() {
    let (sender, body) = fed();
    let body = Arc::new(std::sync::Mutex::new(Some(body)));
    let upstream = Upstream::with(move |request| {
        let body = Arc::clone(&body);
        Box::pin(async move {
            if request.uri().path() == "/download" {
                return Response::new(body.lock().unwrap().take().unwrap());
            }
            let length = request.into_body().collect().await.unwrap().to_bytes().len();
            Response::new(full(length.to_string()))
        })
    })
    .await;
    let fixture = Fixture::start(upstream.address(), &["--drain-timeout=60s"]).await;
    const PIECE: usize = 100_000;
    let piece = || Bytes::from(vec![b'x'; PIECE]);
    // More than the buffers on the way hold, less than the largest body (`proxy-body-size`).
    let ((mut upload, uploading), mut download) = (fed(), sender);
    let http = fixture.gateway.addresses().http;
    let (mut up, mut down) = (Client::http1(http).await, Client::http1(http).await);
    let request = Request::post("/upload").header("host", "a.test").header("content-length", 10 * PIECE);
    let request = request.body(uploading).unwrap();
    let uploaded = tokio::spawn(async move { up.try_send(request).await.unwrap().text() });
    let answer = down.open(down.request("GET", "a.test", "/download", &[], "")).await.unwrap();
    let downloaded = tokio::spawn(async move { answer.into_body().collect().await.unwrap().to_bytes().len() });
    for number in 0..100 {
        if number == 5 {
            fixture.upgrade().await;
            assert!(fixture.gateway.exit_status().is_none(), "it waits for what is under way");
        }
        if number < 10 {
            upload.send_data(piece()).await.unwrap();
        }
        download.send_data(piece()).await.unwrap();
    }
    drop((upload, download));
    assert_eq!(uploaded.await.unwrap(), (10 * PIECE).to_string());
    assert_eq!(downloaded.await.unwrap(), 100 * PIECE);
    assert_eq!(fixture.gateway.wait_for_exit().await.code(), Some(0));
}

/// Sends the first bytes of what is written at once, and the others when it is told to.
fn dam(mut stream: TcpStream, n_first: u64, opened: Arc<Semaphore>) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move {
        let mut first = far.take(n_first);
        tokio::io::copy(&mut first, &mut stream).await.unwrap();
        opened.acquire().await.unwrap().forget();
        let mut rest = first.into_inner();
        // How it ends is seen by whoever uses the other end.
        let _ = tokio::io::copy_bidirectional(&mut rest, &mut stream).await;
    });
    near
}

#[tokio::test]
async fn a_tls_handshake_that_was_begun_ends_on_the_old_process() {
    let upstream = Upstream::echo("a").await;
    let fixture = Fixture::start(upstream.address(), &["--drain-timeout=60s"]).await;
    let opened = Arc::new(Semaphore::new(0));
    let stream = TcpStream::connect(fixture.gateway.addresses().https).await.unwrap();
    let dammed = dam(stream, 20, Arc::clone(&opened));
    let (config, _) = tests::client::insecure_config();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let handshake = tokio::spawn(async move { connector.connect("a.test".try_into().unwrap(), dammed).await });
    let accepted = async || {
        (fixture.gateway.metric("nginx_ingress_controller_nginx_process_connections", &["state=\"active\""]).await
            >= 1.0)
            .then_some(())
    };
    wait::until("the connection is accepted", accepted).await;
    fixture.upgrade().await;
    assert!(fixture.gateway.exit_status().is_none(), "it waits for the handshake");
    opened.add_permits(1);
    let stream = handshake.await.unwrap().unwrap();
    let mut client = Client::over(stream, None, Version::HTTP_11).await;
    let is_told_to_go = async || {
        let answer = client.get("a.test", "/", &[]).await;
        assert_eq!(answer.status, 200);
        (answer.header("connection") == Some("close")).then_some(())
    };
    wait::until("the process that leaves ends the connection with an answer", is_told_to_go).await;
    assert_eq!(fixture.gateway.wait_for_exit().await.code(), Some(0));
}

/// Up and down at the same time, as a gRPC stream is.
#[tokio::test]
async fn streams_in_both_directions_go_on_through_an_upgrade() {
    let upstream = Upstream::with(|request| {
        Box::pin(async move { Response::new(request.into_body().map_err(std::io::Error::other).boxed()) })
    })
    .await;
    let fixture = Fixture::start(upstream.address(), &["--drain-timeout=60s"]).await;
    let http = fixture.gateway.addresses().http;
    let mut streams = Vec::new();
    for (mut client, host) in [(Client::h2c(http).await, "a.test"), (Client::h2c(http).await, "grpc.test")] {
        let (sender, body) = fed();
        let request = Request::post(format!("http://{host}/")).header("content-type", "application/grpc");
        let answer = client.open(request.body(body).unwrap()).await.unwrap();
        streams.push((client, host, sender, answer.into_body()));
    }
    let piece = Bytes::from(vec![b'x'; 10_000]);
    for is_upgraded in [false, true] {
        if is_upgraded {
            fixture.upgrade().await;
        }
        for (_, host, sender, body) in &mut streams {
            sender.send_data(piece.clone()).await.unwrap();
            let mut n_back = 0;
            while n_back < piece.len() {
                let frame = tokio::time::timeout(wait::LIMIT, body.frame()).await.unwrap();
                n_back += frame.unwrap().unwrap().into_data().unwrap().len();
            }
            assert_eq!(n_back, piece.len(), "{host}");
        }
    }
    assert!(fixture.gateway.exit_status().is_none(), "it waits for the streams");
    for (client, host, sender, body) in streams {
        drop(sender);
        let rest = tokio::time::timeout(wait::LIMIT, body.collect()).await.unwrap();
        assert_eq!(rest.unwrap().to_bytes(), "", "{host}");
        drop(client);
    }
    assert_eq!(fixture.gateway.wait_for_exit().await.code(), Some(0));
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// A frame of HTTP/2 (RFC 9113 section 4.1).
#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let head = [length[1], length[2], length[3], self.kind, self.flags];
        [&head[..], &self.stream.to_be_bytes(), &self.payload].concat()
    }

    /// `None` at the end of the stream.
    async fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut head = [0; 9];
        tokio::time::timeout(wait::LIMIT, stream.read_exact(&mut head)).await.unwrap().ok()?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        Some(Self { kind, flags, stream: u32::from_be_bytes(id), payload })
    }

    /// A request for a path of `a.test`, as HPACK without a table (RFC 7541 section 6.2.2 and appendix A).
    fn get(stream: u32, path: &str) -> Self {
        let text = |index: u8, text: &str| [&[index, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        // :method GET, :scheme http, :path, :authority
        let payload = [vec![0x82, 0x86], text(0x04, path), text(0x01, "a.test")].concat();
        Self { kind: HEADERS, flags: END_STREAM | END_HEADERS, stream, payload }
    }

    /// The last stream that is worked on, when it says that without an error.
    fn last_stream(&self) -> Option<u32> {
        let [a, b, c, d, 0, 0, 0, 0, ..] = self.payload[..] else { return None };
        (self.kind == GOAWAY).then_some(u32::from_be_bytes([a, b, c, d]))
    }
}

/// RFC 9113 section 6.8: a first GOAWAY that names no stream, and one that names the last, when the client has seen it.
#[tokio::test]
async fn http2_is_told_which_stream_is_the_last() {
    let released = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&released);
    let upstream = Upstream::with(move |request| {
        let held = Arc::clone(&held);
        Box::pin(async move {
            held.acquire().await.unwrap().forget();
            Response::new(full(request.uri().path().to_owned()))
        })
    })
    .await;
    let fixture = Fixture::start(upstream.address(), &["--drain-timeout=60s"]).await;
    let mut client = fixture.connect().await;
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    client.write_all(&Frame::get(1, "/before").encode()).await.unwrap();
    wait::until("the request is with the upstream", async || (upstream.n_requests() == 1).then_some(())).await;
    fixture.upgrade().await;
    let mut pings = Vec::new();
    loop {
        let frame = Frame::read(&mut client).await.unwrap();
        if frame.kind == PING && frame.flags & ACK == 0 {
            pings.push(frame);
        } else if let Some(last) = frame.last_stream() {
            assert_eq!(last, i32::MAX as u32, "the client may still open streams that it has begun");
            break;
        }
    }
    // This one was on its way when the GOAWAY came.
    client.write_all(&Frame::get(3, "/after").encode()).await.unwrap();
    wait::until("it is with the upstream, too", async || (upstream.n_requests() == 2).then_some(())).await;
    let (mut is_named, mut bodies) = (false, Vec::new());
    while bodies.len() < 2 {
        for Frame { payload, .. } in pings.drain(..) {
            client.write_all(&Frame { kind: PING, flags: ACK, stream: 0, payload }.encode()).await.unwrap();
        }
        let frame = Frame::read(&mut client).await.unwrap();
        if let Some(last) = frame.last_stream() {
            assert_eq!(last, 3);
            is_named = true;
            released.add_permits(2);
        }
        match frame {
            Frame { kind: PING, flags: 0, .. } => pings.push(frame),
            Frame { kind: DATA, stream, payload, .. } if !payload.is_empty() => bodies.push((stream, payload)),
            _ => {}
        }
    }
    bodies.sort_unstable();
    assert!(is_named);
    assert_eq!(bodies, [(1, b"/before".to_vec()), (3, b"/after".to_vec())]);
    while let Some(frame) = Frame::read(&mut client).await {
        assert!(matches!(frame.kind, DATA | HEADERS | GOAWAY), "{frame:?}");
    }
    assert_eq!(fixture.gateway.wait_for_exit().await.code(), Some(0));
}
