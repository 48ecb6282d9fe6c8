//! Who comes to the hand-over socket: processes of the same user, with one message that says what they want. All others
//! are sent away without harm to anybody.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::HandoverMetrics;
use super::channel::{Channel, ChannelError};
use super::message::{Hello, Message, Outcome, Upgrade};
use super::plan::Failure;

/// Visitors that are listened to at a time.
const MAX_VISITORS: usize = 8;
/// How long a visitor may take to say what it wants.
const FIRST_MESSAGE: Duration = Duration::from_secs(5);
/// How long accepting rests when the process is out of descriptors.
const EXHAUSTION_PAUSE: Duration = Duration::from_millis(100);

/// Somebody with a wish.
pub(super) struct Visitor {
    pub(super) channel: Channel,
    pub(super) wish: Wish,
}

/// What somebody wants.
pub(super) enum Wish {
    /// To take over.
    Succeed(Hello),
    /// That a new process is started.
    Upgrade(Upgrade),
}

/// Why somebody is sent away.
#[derive(Debug, thiserror::Error)]
enum Rejection {
    #[error("user {0} is not the one of this process")]
    Stranger(u32),
    #[error("no message in time")]
    Slow,
    #[error("an unexpected first message")]
    Unexpected,
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Listens to visitors until nobody wants to hear of them.
pub(super) async fn receive(listener: UnixListener, visitors: mpsc::Sender<Visitor>) {
    let places = Arc::new(Semaphore::new(MAX_VISITORS));
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = visitors.closed() => return,
        };
        match accepted {
            Ok((stream, _)) => drop(tokio::spawn(admit(stream, visitors.clone(), place))),
            Err(error) => {
                tracing::warn!(%error, "cannot accept hand-over connections");
                tokio::time::sleep(EXHAUSTION_PAUSE).await;
            }
        }
    }
}

/// Sends somebody away who cannot be served now.
pub(super) async fn refuse(mut channel: Channel, wish: &Wish, failure: &Failure, metrics: &HandoverMetrics) {
    metrics.count(Err(failure));
    match wish {
        Wish::Upgrade(_) => {
            tracing::warn!(outcome = failure.label(), "no upgrade: {failure}");
            tell(channel, Outcome { is_handed_over: false, text: failure.to_string() }).await;
        }
        Wish::Succeed(hello) => {
            tracing::warn!(outcome = failure.label(), version = hello.version, "a successor is sent away: {failure}");
            let _ = channel.send(&Message::Abort(failure.to_string())).await;
        }
    }
}

/// Tells an operator. One who no longer listens has missed nothing that is not in the log.
pub(super) async fn tell(mut operator: Channel, outcome: Outcome) {
    let _ = operator.send(&Message::Outcome(outcome)).await;
}

async fn admit(stream: UnixStream, visitors: mpsc::Sender<Visitor>, _place: OwnedSemaphorePermit) {
    match listen(stream).await {
        Ok(visitor) => drop(visitors.send(visitor).await),
        // A process that only looks whether somebody is there.
        Err(Rejection::Channel(ChannelError::Closed)) => {}
        Err(reason) => tracing::warn!(%reason, "hand-over connection refused"),
    }
}

async fn listen(stream: UnixStream) -> Result<Visitor, Rejection> {
    // Processes of other pods have no common numbers, but users are the same on the whole node.
    let theirs = stream.peer_cred()?.uid();
    if theirs != rustix::process::geteuid().as_raw() {
        return Err(Rejection::Stranger(theirs));
    }
    let mut channel = Channel::new(stream);
    let message = tokio::time::timeout(FIRST_MESSAGE, channel.receive()).await.map_err(|_| Rejection::Slow)??;
    let wish = match message {
        Message::Hello(hello) => Wish::Succeed(hello),
        Message::Upgrade(upgrade) => Wish::Upgrade(upgrade),
        _ => return Err(Rejection::Unexpected),
    };
    if channel.has_descriptors() {
        return Err(Rejection::Unexpected);
    }
    Ok(Visitor { channel, wish })
}
