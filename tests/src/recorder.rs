//! An upstream that keeps the bytes of every request, and answers each with 200.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// One request as it came.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Its bytes, head and body.
    pub bytes: Vec<u8>,
    /// Whether it came to its end.
    pub is_complete: bool,
}

/// The upstream; it ends when it is dropped.
pub struct Recorder {
    address: SocketAddr,
    requests: Requests,
    task: AbortHandle,
}

/// A connection writes into its own request only, whoever has taken that meanwhile.
type Requests = Arc<Mutex<Vec<Arc<Mutex<Recorded>>>>>;

impl Recorder {
    /// Starts it.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Requests::default();
        let all = Arc::clone(&requests);
        let accept = async move {
            // The connections end with the listener.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(record(stream, Arc::clone(&all)));
            }
        };
        Self { address, requests, task: tokio::spawn(accept).abort_handle() }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests since the last call.
    #[must_use]
    pub fn take(&self) -> Vec<Recorded> {
        let requests = std::mem::take(&mut *self.requests.lock().unwrap());
        requests.iter().map(|request| request.lock().unwrap().clone()).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn record(mut stream: TcpStream, requests: Requests) {
    let mut buffer = Vec::new();
    loop {
        while buffer.is_empty() {
            if matches!(stream.read_buf(&mut buffer).await, Ok(0) | Err(_)) {
                return;
            }
        }
        let request = Arc::new(Mutex::new(Recorded::default()));
        requests.lock().unwrap().push(Arc::clone(&request));
        let end = loop {
            *request.lock().unwrap() = Recorded { bytes: buffer.clone(), is_complete: false };
            if let Some(end) = message_end(&buffer) {
                break end;
            }
            if matches!(stream.read_buf(&mut buffer).await, Ok(0) | Err(_)) {
                return;
            }
        };
        let bytes = buffer.drain(..end).collect();
        *request.lock().unwrap() = Recorded { bytes, is_complete: true };
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}

/// Where the first message ends; `None` while it is not complete.
fn message_end(bytes: &[u8]) -> Option<usize> {
    let body = find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..body]).to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    if field("transfer-encoding:").is_some() {
        let end = find(&bytes[body - 2..], b"\r\n0\r\n\r\n")?;
        return Some(body - 2 + end + 7);
    }
    let length = field("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0);
    (bytes.len() >= body + length).then_some(body + length)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
