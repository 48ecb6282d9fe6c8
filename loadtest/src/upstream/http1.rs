//! The upstream's HTTP/1.1: a small body, a large one, a sink for uploads, and WebSockets that echo.

use std::io;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::each;
use crate::http::{self, RequestHead};

/// Bytes of a large body.
const BULK: usize = 1 << 20;
/// The path that is answered with a large body.
pub(crate) const BULK_PATH: &str = "/bulk";
/// The path that takes a body, and answers as any other path.
pub(crate) const SINK_PATH: &str = "/sink";
/// The path of WebSockets.
pub(crate) const WEBSOCKET_PATH: &str = "/websocket";

struct Answers {
    small: Vec<u8>,
    bulk: Vec<u8>,
}

/// Serves connections for ever.
pub(crate) async fn accept(listener: TcpListener, body: &str) {
    let head = |length: usize| {
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n").into_bytes()
    };
    let answers = Arc::new(Answers {
        small: [head(body.len()).as_slice(), body.as_bytes()].concat(),
        bulk: [head(BULK).as_slice(), &bulk()].concat(),
    });
    // Whoever hangs up has said all.
    each(listener, |stream| drop(tokio::spawn(converse(stream, Arc::clone(&answers))))).await;
}

/// A large body.
pub(crate) fn bulk() -> Vec<u8> {
    vec![b'x'; BULK]
}

async fn converse(mut stream: TcpStream, answers: Arc<Answers>) -> io::Result<()> {
    let mut received = Vec::with_capacity(16 << 10);
    while stream.read_buf(&mut received).await? > 0 {
        while let Some(RequestHead { length, body, is_bulk, websocket_key }) = http::request_head(&received)? {
            if let Some(key) = websocket_key {
                received.drain(..length);
                return echo(stream, received, &key).await;
            }
            let rest = (length + body).saturating_sub(received.len()) as u64;
            received.drain(..(length + body).min(received.len()));
            if tokio::io::copy(&mut (&mut stream).take(rest), &mut tokio::io::sink()).await? < rest {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            stream.write_all(if is_bulk { &answers.bulk } else { &answers.small }).await?;
        }
    }
    Ok(())
}

async fn echo(mut stream: TcpStream, received: Vec<u8>, key: &str) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(answer.as_bytes()).await?;
    let mut socket = WebSocketStream::from_partially_read(stream, received, Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        if message.is_binary() {
            socket.send(message).await.map_err(io::Error::other)?;
        }
    }
    Ok(())
}
