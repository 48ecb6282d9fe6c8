//! The upstream of all peers: it answers every request with the same text, as fast as it can.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::http;

/// Serves until the process is told to end.
pub(crate) fn serve(listen: SocketAddr, body: &str) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start threads")?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("bind {listen}"))?;
        accept(listener, body).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Starts an upstream on a thread of this process, for as long as it lives, and returns where it listens.
pub(crate) fn start(body: &str) -> anyhow::Result<SocketAddr> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start threads")?;
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).context("bind an upstream")?;
    let address = listener.local_addr().context("bind an upstream")?;
    let body = body.to_owned();
    std::thread::Builder::new()
        .name("upstream".to_owned())
        .spawn(move || runtime.block_on(accept(listener, &body)))
        .context("start threads")?;
    Ok(address)
}

/// Answers every connection.
pub(crate) async fn accept(listener: TcpListener, body: &str) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", body.len());
    let answer: Arc<[u8]> = (head + body).into_bytes().into();
    loop {
        // Without descriptors there is nobody to talk to until a connection ends.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        // Whoever hangs up has said all.
        tokio::spawn(converse(stream, Arc::clone(&answer)));
    }
}

async fn converse(mut stream: TcpStream, answer: Arc<[u8]>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = Vec::with_capacity(4096);
    while stream.read_buf(&mut received).await? > 0 {
        while let Some(length) = http::request_length(&received)? {
            received.drain(..length);
            stream.write_all(&answer).await?;
        }
    }
    Ok(())
}
