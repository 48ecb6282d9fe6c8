//! Proves that requests are answered, before and while the world depends on it: one request over a private connection,
//! through everything that a request of a client passes.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use routing::Scheme;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::Acceptor;
use crate::connection::{ConnectionInfo, Limits, Transport};

/// How long the answer may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Nobody's resources decide how this is answered: the gate refuses the path, and no upstream is asked.
const REQUEST: &[u8] = b"GET /%00 HTTP/1.1\r\nHost: proof.invalid\r\nUser-Agent: penstock-proof\r\n\r\n";
/// How the answer begins.
const ANSWER: &[u8] = b"HTTP/1.1 400 ";

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// No listener is bound.
    #[error("there is no listener")]
    NoListener,
    /// The answer is not there in time.
    #[error("a request of its own was not answered within {LIMIT:?}")]
    Slow,
    /// The answer is another one.
    #[error("a request of its own was answered with {0:?}")]
    Answer(String),
    /// The private connection cannot be made.
    #[error("a request of its own: {0}")]
    Io(#[from] io::Error),
}

/// Asks, as a client of a listener, for an answer of the gateway itself.
pub(super) async fn prove(acceptor: Arc<Acceptor>) -> Result<(), ProofError> {
    tokio::time::timeout(LIMIT, ask(acceptor)).await.map_err(|_| ProofError::Slow)?
}

async fn ask(acceptor: Arc<Acceptor>) -> Result<(), ProofError> {
    let (mut client, server) = pair().await?;
    let peer = client.local_addr()?;
    let handle = acceptor.shared.connections.open();
    let limits = Limits::of(acceptor.shared.live.pin().settings());
    let info = ConnectionInfo::new(acceptor.key, Scheme::Http, peer, None, None, handle);
    tokio::spawn(super::converse(acceptor, Transport::plain(server), info, limits));
    client.write_all(REQUEST).await?;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await?;
    if answer.starts_with(ANSWER) {
        return Ok(());
    }
    answer.truncate(80);
    Err(ProofError::Answer(String::from_utf8_lossy(&answer).into_owned()))
}

/// Two ends of a connection that nobody else is part of.
async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    loop {
        let (server, peer) = listener.accept().await?;
        // Anybody on the machine may have found the port.
        if peer == client.local_addr()? {
            return Ok((client, server));
        }
    }
}
