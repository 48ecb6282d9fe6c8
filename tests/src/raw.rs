//! Bytes as they are: for requests that no client library would send, and answers that no server library would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::wait::LIMIT;

/// What came back on a connection.
#[derive(Debug)]
pub struct Exchange {
    /// All bytes until the end.
    pub received: Vec<u8>,
    /// Whether the other side closed the connection.
    pub is_closed: bool,
}

/// A server that does with each connection what the test says; it ends when it is dropped.
pub struct RawUpstream {
    address: SocketAddr,
    n_connections: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl RawUpstream {
    /// Hands each connection to `serve`, with its number from 0. The socket closes with the future.
    pub async fn start<F>(serve: impl Fn(usize, TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let n_connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&n_connections);
        let accept = async move {
            // The connections end with the listener.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(counter.fetch_add(1, Ordering::SeqCst), stream));
            }
        };
        Self { address, n_connections, task: tokio::spawn(accept).abort_handle() }
    }

    /// A server that answers the first request of each connection with the same bytes, and closes the connection.
    pub async fn answering(bytes: &'static str) -> Self {
        Self::start(move |_, mut stream| async move {
            read_head(&mut stream).await;
            // The gateway may have seen enough already.
            let _ = stream.write_all(bytes.as_bytes()).await;
        })
        .await
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    #[must_use]
    pub fn n_connections(&self) -> usize {
        self.n_connections.load(Ordering::SeqCst)
    }
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Exchange {
    /// The status of the first answer; 0 without one.
    #[must_use]
    pub fn status(&self) -> u16 {
        let text = String::from_utf8_lossy(&self.received);
        let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
        status.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// The received bytes as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }
}

/// Sends bytes on a new connection and reads until the other side closes, or until it was silent for `silence` after
/// an answer had begun.
pub async fn exchange(address: SocketAddr, bytes: &[u8], silence: Duration) -> Exchange {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The other side may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    read(&mut stream, silence).await
}

/// Reads until the other side closes, or until it was silent for `silence` after something had come.
pub async fn read(stream: &mut TcpStream, silence: Duration) -> Exchange {
    let mut received = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let patience = if received.is_empty() { LIMIT } else { silence };
        match timeout(patience, stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return Exchange { received, is_closed: true },
            Ok(Ok(n)) => received.extend_from_slice(&buffer[..n]),
            Err(_) => return Exchange { received, is_closed: false },
        }
    }
}

/// Reads the head of a message, and nothing behind it. What has come is returned also when the stream ends before.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match timeout(LIMIT, stream.read_u8()).await.unwrap() {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Reads a chunked body (RFC 9112 section 7.1) with its trailers, which are dropped.
///
/// # Panics
/// When it ends too early.
pub async fn read_chunks(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut body = Vec::new();
    loop {
        let line = read_line(stream).await;
        let size = usize::from_str_radix(line.split(';').next().unwrap().trim(), 16).unwrap();
        if size == 0 {
            while !read_line(stream).await.is_empty() {}
            return String::from_utf8_lossy(&body).into_owned();
        }
        let mut chunk = vec![0; size + 2];
        timeout(LIMIT, stream.read_exact(&mut chunk)).await.unwrap().unwrap();
        body.extend_from_slice(&chunk[..size]);
    }
}

async fn read_line(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(timeout(LIMIT, stream.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8_lossy(&line[..line.len() - 2]).into_owned()
}
