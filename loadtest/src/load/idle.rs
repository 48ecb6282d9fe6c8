//! Connections that have been used once and are silent.

use std::io;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;

use super::http1::{connect, exchange, request};
use super::{Exchange, TIMEOUT, Target, websocket};

/// Connections that are opened at the same time.
const BATCH: usize = 64;

/// A connection, which is open as long as this lives.
#[expect(dead_code, reason = "they are only held")]
enum Held {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    WebSocket(Box<WebSocketStream<TcpStream>>),
}

/// Opens `n` connections and holds them, each after one exchange, while `held` runs.
pub(crate) fn hold<T>(target: &Target, n: u32, is_tls: bool, held: impl FnOnce() -> T) -> anyhow::Result<T> {
    let n = usize::try_from(n)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let connections = runtime.block_on(async {
        let mut connections = Vec::with_capacity(n);
        while connections.len() < n {
            let batch = (n - connections.len()).min(BATCH);
            let opened = futures_util::future::try_join_all((0..batch).map(|_| open(target, is_tls)));
            connections.extend(opened.await?);
        }
        io::Result::Ok(connections)
    })?;
    let result = held();
    drop(connections);
    Ok(result)
}

async fn open(target: &Target, is_tls: bool) -> io::Result<Held> {
    if target.exchange == Exchange::WebSocket {
        let mut socket = websocket::open(target).await?;
        tokio::time::timeout(TIMEOUT, websocket::echo(&mut socket)).await??;
        return Ok(Held::WebSocket(Box::new(socket)));
    }
    let mut received = Vec::new();
    if is_tls {
        let stream = connect(target.tls).await?;
        let mut stream = tokio::time::timeout(TIMEOUT, target.client_tls.connect(&target.host, stream)).await??;
        exchange(&mut stream, &request(target), &mut received, target).await?;
        return Ok(Held::Tls(Box::new(stream)));
    }
    let mut stream = connect(target.plain).await?;
    exchange(&mut stream, &request(target), &mut received, target).await?;
    Ok(Held::Plain(stream))
}
