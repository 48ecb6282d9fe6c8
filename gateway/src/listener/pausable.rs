//! Accepting that can pause: the socket and what waits in its queue stay, for whoever accepts next.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long accepting rests when the process is out of descriptors.
pub(super) const EXHAUSTION_PAUSE: Duration = Duration::from_millis(50);

/// A listening socket that accepts unless it is told to pause.
pub(crate) struct Pausable {
    socket: Arc<TcpListener>,
    is_paused: watch::Receiver<bool>,
}

impl Pausable {
    /// Accepts while the value is false.
    #[must_use]
    pub(crate) fn new(socket: Arc<TcpListener>, is_paused: watch::Receiver<bool>) -> Self {
        Self { socket, is_paused }
    }

    /// The next connection. One that comes during a pause stays with the kernel.
    pub(crate) async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let Self { socket, is_paused } = self;
            if is_paused.wait_for(|is_paused| !is_paused).await.is_err() {
                // Whoever could say so is gone, and the process is ending.
                return std::future::pending().await;
            }
            tokio::select! {
                biased;
                _ = is_paused.wait_for(|is_paused| *is_paused) => {}
                accepted = socket.accept() => return accepted,
            }
        }
    }
}

impl axum::serve::Listener for Pausable {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match Self::accept(self).await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections of operators");
                    tokio::time::sleep(EXHAUSTION_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_during_a_pause_is_accepted_after_it() {
        let socket = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = socket.local_addr().unwrap();
        let (pause, is_paused) = watch::channel(false);
        let mut pausable = Pausable::new(Arc::clone(&socket), is_paused);
        let before = TcpStream::connect(address).await.unwrap();
        assert_eq!(pausable.accept().await.unwrap().1, before.local_addr().unwrap());
        pause.send_replace(true);
        let during = TcpStream::connect(address).await.unwrap();
        let accepted = tokio::spawn(async move { pausable.accept().await.unwrap().1 });
        // Somebody else may take it meanwhile, as a successor does.
        assert_eq!(socket.accept().await.unwrap().1, during.local_addr().unwrap());
        let late = TcpStream::connect(address).await.unwrap();
        assert!(!accepted.is_finished());
        pause.send_replace(false);
        assert_eq!(accepted.await.unwrap(), late.local_addr().unwrap());
    }
}
