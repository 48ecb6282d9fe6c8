//! One hand-over, from the start of a successor to COMMIT or to the reason why not.

use std::os::fd::AsFd as _;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::upgrade::channel::{BATCH, Channel, ChannelError};
use crate::upgrade::message::{Hello, MODEL, Message, Section};
use crate::upgrade::plan::{Failure, Incumbent as State, IncumbentAction as Action, IncumbentEvent as Event};
use crate::upgrade::visitor::{self, Visitor, Wish};
use crate::upgrade::{DataPlane, EXCHANGE, HandoverMetrics, UpgradeConfig};

/// How long the end of a child may take to be seen after that of its connection, or the other way round.
const AFTERMATH: Duration = Duration::from_secs(2);
/// How long a child that was told to give up may serve what it had accepted.
const FAREWELL: Duration = Duration::from_secs(300);

/// One hand-over.
pub(super) struct Attempt {
    state: State,
    child: Option<Child>,
    successor: Option<(Channel, Hello)>,
    /// What is to be looked at before anything else can happen.
    next: Option<Event>,
}

/// Who serves now.
pub(super) struct Success {
    /// Its program's version.
    pub(super) version: String,
    /// Its number, where there is a common one.
    pub(super) pid: Option<u32>,
    pub(super) is_child: bool,
}

impl Attempt {
    /// A process that was started and has not connected.
    pub(super) fn of_child(child: Child) -> Self {
        Self { state: State::Waiting, child: Some(child), successor: None, next: None }
    }

    /// A process that somebody else has started.
    pub(super) fn of_stranger(channel: Channel, hello: Hello) -> Self {
        let next = Some(Event::Hello { protocol: hello.protocol });
        Self { state: State::Waiting, child: None, successor: Some((channel, hello)), next }
    }

    /// Carries it through. On failure this process accepts, and the successor knows.
    pub(super) async fn run<P: DataPlane>(
        mut self,
        plane: &P,
        config: &UpgradeConfig,
        metrics: &HandoverMetrics,
        visitors: &mut mpsc::Receiver<Visitor>,
        leaving: &mut watch::Receiver<bool>,
    ) -> Result<Success, Failure> {
        let mut deadline = Instant::now() + self.limit(config);
        loop {
            let event = match self.next.take() {
                Some(event) => event,
                None => self.event(deadline, metrics, visitors, leaving).await,
            };
            let (state, action) = self.state.step(event);
            if state != self.state {
                tracing::info!("hand-over: {}", state.name());
                self.state = state;
                deadline = Instant::now() + self.limit(config);
            }
            self.next = match action {
                Action::Nothing => None,
                Action::HandOver => Some(self.hand_over(plane).await),
                Action::Proceed => self.say(&Message::Proceed).await,
                Action::Pause => {
                    plane.pause().await;
                    None
                }
                Action::Confirm => self.say(&Message::Confirm).await,
                Action::Commit => self.say(&Message::Commit).await.or(Some(Event::Sent)),
                Action::Retire => return Ok(self.success().await),
                Action::Keep { must_resume, failure } => {
                    if must_resume {
                        plane.resume().await;
                    }
                    self.abort(&failure).await;
                    return Err(failure);
                }
            };
        }
    }

    /// What happens next.
    async fn event(
        &mut self,
        deadline: Instant,
        metrics: &HandoverMetrics,
        visitors: &mut mpsc::Receiver<Visitor>,
        leaving: &mut watch::Receiver<bool>,
    ) -> Event {
        loop {
            let Self { child, successor, .. } = self;
            tokio::select! {
                biased;
                message = receive(successor) => return self.heard(message).await,
                status = wait(child) => return self.ended(status).await,
                Some(visitor) = visitors.recv() => {
                    if let Some(event) = self.visited(visitor, metrics).await {
                        return event;
                    }
                }
                () = left(leaving) => return Event::Leaving,
                () = tokio::time::sleep_until(deadline) => return Event::Elapsed,
            }
        }
    }

    async fn heard(&mut self, message: Result<Message, ChannelError>) -> Event {
        match message {
            Ok(Message::Prepared(prepared)) => {
                tracing::info!(model = format!("{:016x}", prepared.digest), "the new process is prepared");
                Event::Prepared
            }
            Ok(Message::Ready) => Event::Ready,
            Ok(Message::Confirmed) => Event::Confirmed,
            Ok(Message::Abort(reason)) => Event::GaveUp(reason),
            Ok(Message::Hello(hello)) => Event::Hello { protocol: hello.protocol },
            Ok(other) => Event::Malformed(format!("a successor does not send {}", name(&other))),
            Err(ChannelError::Closed | ChannelError::Io(_)) => {
                self.successor = None;
                // How it ended says more than that it did.
                if self.child.is_some()
                    && let Ok(status) = tokio::time::timeout(AFTERMATH, wait(&mut self.child)).await
                {
                    return Event::Exited(describe(&status));
                }
                Event::Lost
            }
            Err(error) => Event::Malformed(error.to_string()),
        }
    }

    /// A process that gives up says why, and ends: its last words may still be unread.
    async fn ended(&mut self, status: std::io::Result<ExitStatus>) -> Event {
        self.child = None;
        if self.successor.is_some()
            && let Ok(Ok(Message::Abort(reason))) = tokio::time::timeout(AFTERMATH, receive(&mut self.successor)).await
        {
            return Event::GaveUp(reason);
        }
        Event::Exited(describe(&status))
    }

    /// Only one may come, and while a child is expected, only that child.
    async fn visited(&mut self, visitor: Visitor, metrics: &HandoverMetrics) -> Option<Event> {
        let Visitor { channel, wish } = visitor;
        let expected = self.child.as_ref().and_then(Child::id);
        match wish {
            Wish::Succeed(hello) if self.successor.is_none() && expected.is_some() && expected == channel.peer() => {
                let event = Event::Hello { protocol: hello.protocol };
                self.successor = Some((channel, hello));
                Some(event)
            }
            wish => {
                visitor::refuse(channel, &wish, &Failure::Busy, metrics).await;
                None
            }
        }
    }

    async fn hand_over<P: DataPlane>(&mut self, plane: &P) -> Event {
        let Some((channel, hello)) = &mut self.successor else { return Event::Lost };
        let sockets = match plane.list().await {
            Ok(sockets) => sockets,
            Err(error) => return Event::Unable(format!("copy the listening sockets: {error}")),
        };
        let (state, unfit): (Vec<_>, Vec<_>) =
            plane.state(hello.model == MODEL).await.into_iter().partition(Section::fits);
        for section in unfit {
            tracing::warn!(?section, "a part of the state is too long to be handed over");
        }
        let send = async {
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            channel.send(&Message::Sockets(count(sockets.len()))).await?;
            for batch in sockets.chunks(BATCH) {
                let descriptors: Vec<_> = batch.iter().map(|socket| socket.as_fd()).collect();
                channel.send_with(&Message::Descriptors(count(batch.len())), &descriptors).await?;
            }
            for section in state {
                channel.send(&Message::Section(section)).await?;
            }
            channel.send(&Message::Handed).await
        };
        match tokio::time::timeout(EXCHANGE, send).await {
            Ok(Ok(())) => Event::Handed,
            Ok(Err(ChannelError::Message(error))) => Event::Unable(error.to_string()),
            Ok(Err(ChannelError::Slow)) | Err(_) => Event::Elapsed,
            Ok(Err(_)) => self.broken().await,
        }
    }

    /// Says something. Returns what there is to be said about that.
    async fn say(&mut self, message: &Message) -> Option<Event> {
        let Some((channel, _)) = &mut self.successor else { return Some(Event::Lost) };
        match channel.send(message).await {
            Ok(()) => None,
            Err(_) => Some(self.broken().await),
        }
    }

    /// What is behind a connection that takes nothing any more: its last words may still be unread.
    async fn broken(&mut self) -> Event {
        match tokio::time::timeout(AFTERMATH, receive(&mut self.successor)).await {
            Ok(message) => self.heard(message).await,
            Err(_) => Event::Lost,
        }
    }

    async fn abort(&mut self, failure: &Failure) {
        let is_told = match &mut self.successor {
            Some((channel, _)) => channel.send(&Message::Abort(failure.to_string())).await.is_ok(),
            None => false,
        };
        let Some(mut child) = self.child.take() else { return };
        // One that hangs will not go by itself; one that was told has connections of its own to end.
        let farewell = if is_told && !matches!(failure, Failure::Hung { .. }) { FAREWELL } else { Duration::ZERO };
        tokio::spawn(async move {
            if tokio::time::timeout(farewell, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        });
    }

    /// It has heard of it when it closes the connection, and its own hand-over socket is in place by then.
    async fn success(&mut self) -> Success {
        let _ = tokio::time::timeout(AFTERMATH, receive(&mut self.successor)).await;
        let (channel, hello) =
            self.successor.as_ref().map_or((None, None), |(channel, hello)| (Some(channel), Some(hello)));
        Success {
            version: hello.map(|hello| hello.version.clone()).unwrap_or_default(),
            pid: channel.and_then(Channel::peer),
            is_child: self.child.is_some(),
        }
    }

    fn limit(&self, config: &UpgradeConfig) -> Duration {
        match self.state {
            State::Waiting | State::Preparing => config.limit,
            State::Probation => config.probation,
            _ => EXCHANGE,
        }
    }
}

/// The next message of the successor; never, without one.
async fn receive(successor: &mut Option<(Channel, Hello)>) -> Result<Message, ChannelError> {
    match successor {
        Some((channel, _)) => {
            let message = channel.receive().await?;
            // It has nothing to send that we would want.
            if channel.has_descriptors() {
                return Err(ChannelError::Descriptors { received: 1, announced: 0 });
            }
            Ok(message)
        }
        None => std::future::pending().await,
    }
}

/// The end of the child; never, without one.
async fn wait(child: &mut Option<Child>) -> std::io::Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    }
}

/// Returns when this process is told to leave.
async fn left(leaving: &mut watch::Receiver<bool>) {
    if leaving.wait_for(|is_leaving| *is_leaving).await.is_err() {
        // Nobody can say so any more.
        std::future::pending().await
    }
}

fn describe(status: &std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}

/// The kind of a message, without what it says.
fn name(message: &Message) -> String {
    let text = format!("{message:?}");
    text.split(['(', ' ']).next().unwrap_or_default().to_owned()
}
