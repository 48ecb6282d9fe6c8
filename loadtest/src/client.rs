//! A connection that asks one question at a time and waits for the answer.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::http;

/// An answer that takes longer is an error.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A kept connection, opened when it is first needed.
pub(crate) struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    received: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Connection {
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self { address, stream: None, received: Vec::with_capacity(4096) }
    }

    /// Asks. After an error the next question opens a new connection.
    pub(crate) fn get(&mut self, host: &str, path: &str) -> io::Result<Answer> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream
            }
        };
        let (answer, is_last) = self.exchange(&stream, &http::request(host, path))?;
        self.stream = (!is_last).then_some(stream);
        Ok(answer)
    }

    /// Returns the answer, and whether the connection ends with it.
    fn exchange(&mut self, mut stream: &TcpStream, request: &[u8]) -> io::Result<(Answer, bool)> {
        stream.write_all(request)?;
        self.received.clear();
        let mut buffer = [0; 4096];
        loop {
            if let Some(head) = http::head(&self.received)?
                && let Some(body) = self.received.get(head.length..head.length + head.body)
            {
                let body = String::from_utf8_lossy(body).into_owned();
                return Ok((Answer { status: head.status, body }, head.is_last));
            }
            let n_read = stream.read(&mut buffer)?;
            if n_read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.received.extend(buffer.iter().take(n_read));
        }
    }
}
