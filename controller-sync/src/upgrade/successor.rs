//! The process that is to serve: asks the one that does for its sockets, and does what [`plan::Successor`] says.

use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::channel::{Channel, ChannelError};
use super::message::{Hello, MODEL, Message, PROTOCOL, Prepared, Section};
use super::path::{HandoffPath, Hidden};
use super::plan::{Failure, Successor as State, SuccessorAction as Action, SuccessorEvent as Event};
use super::socket::ListeningSocket;
use super::{DataPlane, EXCHANGE, HandoverMetrics, UpgradeConfig};

/// Most sections that are kept.
const MAX_SECTIONS: usize = 64;
/// Most bytes of state that are kept.
const MAX_STATE: usize = 64 << 20;
/// Most sockets that are taken.
const MAX_SOCKETS: usize = 4096;

/// The process that is to serve, as far as hand-overs are concerned.
pub struct Successor<P> {
    plane: Arc<P>,
    config: UpgradeConfig,
    metrics: HandoverMetrics,
    path: HandoffPath,
    leaving: watch::Receiver<bool>,
    state: State,
    channel: Option<Channel>,
    received: Received,
    /// Preparing and proving go on while the incumbent is listened to.
    work: Option<JoinHandle<Result<Option<Hidden>, String>>>,
    /// The socket for the next hand-over.
    hidden: Option<Hidden>,
}

/// What came from the incumbent.
#[derive(Default)]
struct Received {
    n_announced: usize,
    sockets: Vec<ListeningSocket>,
    sections: Vec<Section>,
    n_bytes: usize,
}

/// What can happen by itself.
enum Happened {
    Message(Result<Message, ChannelError>),
    Done(Result<Option<Hidden>, String>),
}

impl<P: DataPlane> Successor<P> {
    /// Speaks to the incumbent over `channel`. `leaving` comes from the signals of the process.
    #[must_use]
    pub fn new(
        plane: Arc<P>,
        config: UpgradeConfig,
        metrics: HandoverMetrics,
        path: HandoffPath,
        channel: Channel,
        leaving: watch::Receiver<bool>,
    ) -> Self {
        let (state, channel) = (State::Greeting, Some(channel));
        let (received, work, hidden) = (Received::default(), None, None);
        Self { plane, config, metrics, path, leaving, state, channel, received, work, hidden }
    }

    /// Takes over. Afterwards this process is the gateway, and the socket for the next hand-over is in place, unless the
    /// directory does not allow it any more.
    ///
    /// # Errors
    ///
    /// When there is no hand-over. Connections may have been accepted all the same, and none is from now on.
    pub async fn take_over(mut self) -> Result<Option<UnixListener>, Failure> {
        let hello = Hello { protocol: PROTOCOL, model: MODEL, version: self.config.version.clone() };
        self.say(&Message::Hello(hello)).await;
        let mut deadline = Instant::now() + EXCHANGE;
        loop {
            let event = self.event(deadline).await;
            let (state, action) = self.state.step(event);
            if state != self.state {
                tracing::info!("hand-over: {}", state.name());
                self.state = state;
                deadline = Instant::now() + self.limit();
            }
            match action {
                Action::Nothing | Action::Keep => {}
                Action::Prepare => self.prepare(),
                Action::SayPrepared => {
                    let digest = self.plane.digest().await;
                    self.say(&Message::Prepared(Prepared { digest })).await
                }
                Action::Accept => {
                    self.plane.resume().await;
                    self.say(&Message::Ready).await
                }
                Action::Prove => {
                    let plane = Arc::clone(&self.plane);
                    self.work = Some(tokio::spawn(async move { plane.prove().await.map(|()| None) }));
                }
                Action::SayConfirmed => self.say(&Message::Confirmed).await,
                Action::TakeOver => return Ok(self.show()),
                Action::ServeAlone => {
                    self.plane.resume().await;
                    return Ok(self.show());
                }
                Action::GiveUp(failure) => {
                    self.plane.pause().await;
                    if !matches!(failure, Failure::GaveUp(_)) {
                        self.say(&Message::Abort(failure.to_string())).await;
                    }
                    self.metrics.count(Err(&failure));
                    return Err(failure);
                }
            }
        }
    }

    async fn event(&mut self, deadline: Instant) -> Event {
        let must_hurry = self.state != State::Probation;
        let Self { channel, work, leaving, .. } = self;
        let happened = tokio::select! {
            message = receive(channel) => Happened::Message(message),
            done = finished(work) => Happened::Done(done),
            _ = leaving.wait_for(|is_leaving| *is_leaving) => return Event::Leaving,
            () = tokio::time::sleep_until(deadline), if must_hurry => return Event::Elapsed,
        };
        match happened {
            Happened::Message(message) => self.heard(message),
            Happened::Done(done) => {
                self.work = None;
                match done {
                    Ok(hidden) => {
                        self.hidden = hidden.or_else(|| self.hidden.take());
                        Event::Fit
                    }
                    Err(reason) => Event::Unfit(reason),
                }
            }
        }
    }

    fn heard(&mut self, message: Result<Message, ChannelError>) -> Event {
        match message {
            Ok(Message::Sockets(count)) => self.announced(count),
            Ok(Message::Descriptors(count)) => match self.take(count) {
                Ok(()) => Event::Part,
                Err(reason) => Event::Malformed(reason),
            },
            Ok(Message::Section(section)) => {
                self.received.put(section);
                Event::Part
            }
            Ok(Message::Handed) => self.complete(),
            Ok(Message::Proceed) => Event::Proceed,
            Ok(Message::Confirm) => Event::Confirm,
            Ok(Message::Commit) => Event::Commit,
            Ok(Message::Abort(reason)) => Event::Refused(reason),
            Ok(_) => Event::Malformed("a message that no incumbent sends".to_owned()),
            Err(ChannelError::Closed | ChannelError::Io(_)) => {
                self.channel = None;
                Event::Lost
            }
            Err(error) => Event::Malformed(error.to_string()),
        }
    }

    fn announced(&mut self, count: u32) -> Event {
        self.received.n_announced = usize::try_from(count).unwrap_or(usize::MAX);
        if self.received.n_announced > MAX_SOCKETS {
            return Event::Malformed(format!("{count} sockets, more than {MAX_SOCKETS}"));
        }
        Event::Sockets
    }

    fn take(&mut self, count: u32) -> Result<(), String> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let descriptors = match &mut self.channel {
            Some(channel) => channel.take_descriptors(count).map_err(|error| error.to_string())?,
            None => Vec::new(),
        };
        if self.received.sockets.len() + descriptors.len() > self.received.n_announced {
            return Err(format!("more than the {} sockets that were announced", self.received.n_announced));
        }
        for descriptor in descriptors {
            let socket = ListeningSocket::new(descriptor).map_err(|error| error.to_string())?;
            self.received.sockets.push(socket);
        }
        Ok(())
    }

    fn complete(&mut self) -> Event {
        let Received { n_announced, sockets, .. } = &self.received;
        if sockets.len() != *n_announced || self.channel.as_ref().is_some_and(Channel::has_descriptors) {
            return Event::Malformed(format!("{} sockets of {n_announced}", sockets.len()));
        }
        Event::Handed
    }

    fn prepare(&mut self) {
        let Received { sockets, sections, .. } = std::mem::take(&mut self.received);
        let (plane, path) = (Arc::clone(&self.plane), self.path.clone());
        let work = async move {
            // Now, while there is a way back: later nobody could be told.
            let hidden = path.prepare().map_err(|error| error.to_string())?;
            plane.adopt(sockets, sections).await?;
            plane.prove().await?;
            Ok(Some(hidden))
        };
        self.work = Some(tokio::spawn(work));
    }

    /// Says something. That nobody takes it shows when the next message is read: a last one may have come that says why.
    async fn say(&mut self, message: &Message) {
        if let Some(channel) = &mut self.channel {
            let _ = channel.send(message).await;
        }
    }

    fn show(&mut self) -> Option<UnixListener> {
        self.metrics.count(Ok(()));
        let shown = self.hidden.take()?.show();
        shown.inspect_err(|error| tracing::error!(%error, "the next upgrade needs a restart")).ok()
    }

    fn limit(&self) -> std::time::Duration {
        match self.state {
            State::Preparing | State::Orphaned => self.config.limit,
            _ => EXCHANGE,
        }
    }
}

impl Received {
    /// Keeps a part of the state, as far as there is room. What nobody here knows is skipped later, by its name.
    fn put(&mut self, section: Section) {
        if self.sections.len() == MAX_SECTIONS || self.n_bytes + section.bytes.len() > MAX_STATE {
            tracing::warn!(?section, "more state than there is room for: this part is done without");
            return;
        }
        self.n_bytes += section.bytes.len();
        self.sections.push(section);
    }
}

/// The next message of the incumbent; never, without one.
async fn receive(channel: &mut Option<Channel>) -> Result<Message, ChannelError> {
    match channel {
        Some(channel) => channel.receive().await,
        None => std::future::pending().await,
    }
}

/// The end of what is under way; never, without anything.
async fn finished(work: &mut Option<JoinHandle<Result<Option<Hidden>, String>>>) -> Result<Option<Hidden>, String> {
    match work {
        Some(work) => work.await.unwrap_or_else(|error| Err(error.to_string())),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(length: usize) -> Section {
        Section { name: "a".to_owned(), bytes: vec![0; length].into() }
    }

    #[test]
    fn state_that_there_is_no_room_for_is_done_without() {
        let mut received = Received::default();
        for length in [MAX_STATE - 1, 2, 1, 1] {
            received.put(section(length));
        }
        let lengths: Vec<usize> = received.sections.iter().map(|section| section.bytes.len()).collect();
        assert_eq!(lengths, [MAX_STATE - 1, 1]);
        let mut received = Received::default();
        for _ in 0..=MAX_SECTIONS {
            received.put(section(0));
        }
        assert_eq!(received.sections.len(), MAX_SECTIONS);
    }
}
