//! Bytes as they are: for requests that no client library would send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
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
