//! WebSockets that send messages and await their echoes.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::http1::connect;
use super::{Counters, Samples, TIMEOUT, Target, wrong};

/// The message that is echoed.
const MESSAGE: &[u8] = &[b'x'; 64];

/// Sends messages on one WebSocket until it is over.
pub(super) async fn converse(target: &Target, counters: &Arc<Counters>) -> io::Result<()> {
    let mut socket = open(target).await?;
    let mut samples = Samples::new(counters);
    while !counters.is_over() {
        let since = Instant::now();
        tokio::time::timeout(TIMEOUT, echo(&mut socket)).await??;
        samples.answered(since);
    }
    Ok(())
}

/// Opens a WebSocket.
pub(super) async fn open(target: &Target) -> io::Result<WebSocketStream<TcpStream>> {
    let stream = connect(target.plain).await?;
    let url = format!("ws://{}{}", target.host, target.path);
    let opening = tokio_tungstenite::client_async(url, stream);
    let (socket, _) = tokio::time::timeout(TIMEOUT, opening).await?.map_err(io::Error::other)?;
    Ok(socket)
}

/// Sends a message and awaits its echo.
pub(super) async fn echo(socket: &mut WebSocketStream<TcpStream>) -> io::Result<()> {
    socket.send(Message::binary(MESSAGE)).await.map_err(io::Error::other)?;
    match socket.next().await {
        Some(Ok(Message::Binary(echo))) if *echo == *MESSAGE => Ok(()),
        other => Err(wrong(format!("echo {other:?}"))),
    }
}
