//! A way between two processes that a test can cut, or let fall silent.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A TCP relay on a loopback address. It ends when it is dropped.
pub struct Relay {
    address: SocketAddr,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// New connections are closed at once.
    is_cut: bool,
    n_cuts: usize,
    n_silences: usize,
}

impl Relay {
    /// A relay to an address.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, followed) = watch::channel(State::default());
        tokio::spawn(accept(listener, target, followed));
        Self { address, state }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections, and every new one.
    pub fn cut(&self) {
        self.state.send_modify(|state| {
            state.is_cut = true;
            state.n_cuts += 1;
        });
    }

    /// Keeps the connections that there are and lets nothing through on them, as a network does that has lost its way.
    /// New ones work.
    pub fn silence(&self) {
        self.state.send_modify(|state| state.n_silences += 1);
    }

    /// Lets new connections through again.
    pub fn restore(&self) {
        self.state.send_modify(|state| state.is_cut = false);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, mut state: watch::Receiver<State>) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            changed = state.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        if !state.borrow().is_cut {
            tokio::spawn(carry(stream, target, state.clone()));
        }
    }
}

async fn carry(mut stream: TcpStream, target: SocketAddr, mut state: watch::Receiver<State>) {
    let began = *state.borrow();
    let Ok(mut other) = TcpStream::connect(target).await else { return };
    let mut silenced = state.clone();
    tokio::select! {
        // How a connection ends is the business of its ends.
        _ = copy_bidirectional(&mut stream, &mut other) => return,
        // It is over when the relay is gone, too.
        _ = state.wait_for(|state| state.n_cuts > began.n_cuts) => return,
        _ = silenced.wait_for(|state| state.n_silences > began.n_silences) => {}
    }
    // The connection stays, and nobody reads from it.
    let _ = silenced.wait_for(|state| state.n_cuts > began.n_cuts).await;
}
