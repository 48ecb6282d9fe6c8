//! The side of the process that is to serve.

use super::Failure;

/// How far a hand-over is, for the process that is to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Successor {
    /// HELLO is sent.
    Greeting,
    /// Sockets and state come in.
    Receiving,
    /// It takes them over, and answers a request of its own.
    Preparing,
    /// The same, and the incumbent is gone: nobody serves until it does.
    Orphaned,
    /// PREPARED is sent.
    Prepared,
    /// It accepts, and the incumbent can still go back.
    Probation,
    /// The same, and it answers a request of its own once more.
    Proving,
    /// It is the gateway now.
    Serving,
    /// There will be no hand-over to this process.
    GivenUp,
}

/// What can happen to a hand-over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SuccessorEvent {
    /// The incumbent says how many sockets will come.
    Sockets,
    /// Some of them, or a part of the state.
    Part,
    /// That was everything.
    Handed,
    /// This process is fit to serve: it has answered a request of its own.
    Fit,
    /// It is not.
    Unfit(String),
    /// The incumbent lets it accept.
    Proceed,
    /// The incumbent wants one more proof.
    Confirm,
    /// The incumbent leaves.
    Commit,
    /// The incumbent says no.
    Refused(String),
    /// The incumbent has closed the connection, without a word: it is gone.
    Lost,
    /// The incumbent sent what is no message, or none of an incumbent.
    Malformed(String),
    /// The time of the state is up.
    Elapsed,
    /// This process was told to leave.
    Leaving,
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SuccessorAction {
    /// Nothing.
    Nothing,
    /// Keep what came.
    Keep,
    /// Take over sockets and state, and answer a request of its own.
    Prepare,
    /// Send PREPARED.
    SayPrepared,
    /// Accept connections, then send READY.
    Accept,
    /// Answer a request of its own.
    Prove,
    /// Send CONFIRMED.
    SayConfirmed,
    /// Be the gateway, and take hand-over connections.
    TakeOver,
    /// Accept connections without anybody's leave, and be the gateway.
    ServeAlone,
    /// Stop accepting, tell the incumbent why, drain what was accepted, and end.
    GiveUp(Failure),
}

impl Successor {
    /// What an event leads to.
    #[must_use]
    pub fn step(self, event: SuccessorEvent) -> (Self, SuccessorAction) {
        use SuccessorAction as Action;
        use SuccessorEvent as Event;
        match (self, event) {
            // What is over is over.
            (Self::Serving | Self::GivenUp, _) => (self, Action::Nothing),
            (Self::Greeting, Event::Sockets) => (Self::Receiving, Action::Keep),
            (Self::Receiving, Event::Part) => (self, Action::Keep),
            (Self::Receiving, Event::Handed) => (Self::Preparing, Action::Prepare),
            (Self::Preparing, Event::Fit) => (Self::Prepared, Action::SayPrepared),
            (Self::Prepared, Event::Proceed) => (Self::Probation, Action::Accept),
            (Self::Probation, Event::Confirm) => (Self::Proving, Action::Prove),
            (Self::Proving, Event::Fit) => (Self::Probation, Action::SayConfirmed),
            (Self::Probation, Event::Commit) => (Self::Serving, Action::TakeOver),
            // With the sockets in hand it is the last one that can serve.
            (Self::Preparing, Event::Lost) => (Self::Orphaned, Action::Nothing),
            (Self::Orphaned, Event::Fit) | (Self::Prepared, Event::Lost) => (Self::Serving, Action::ServeAlone),
            (Self::Probation | Self::Proving, Event::Lost) => (Self::Serving, Action::TakeOver),
            // It accepts already, and an incumbent that hangs does not: leaving would leave nobody.
            (Self::Probation | Self::Proving, Event::Elapsed) => (self, Action::Nothing),
            (Self::Orphaned, Event::Lost) => (self, Action::Nothing),
            (_, Event::Unfit(reason)) => self.give_up(Failure::Unfit(reason)),
            (_, Event::Refused(reason)) => self.give_up(Failure::GaveUp(reason)),
            (_, Event::Lost) => self.give_up(Failure::Lost { during: self.name() }),
            (_, Event::Elapsed) => self.give_up(Failure::Hung { during: self.name() }),
            (_, Event::Leaving) => self.give_up(Failure::Leaving),
            (_, Event::Malformed(reason)) => self.give_up(Failure::Malformed { during: self.name(), reason }),
            (_, Event::Sockets | Event::Part | Event::Handed) => self.untimely("sockets or state"),
            (_, Event::Fit) => self.untimely("a proof"),
            (_, Event::Proceed) => self.untimely("PROCEED"),
            (_, Event::Confirm) => self.untimely("CONFIRM"),
            (_, Event::Commit) => self.untimely("COMMIT"),
        }
    }

    /// The state in words, after "the process was".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Greeting => "waiting for sockets",
            Self::Receiving => "receiving sockets and state",
            Self::Preparing => "preparing itself",
            Self::Orphaned => "preparing itself without an incumbent",
            Self::Prepared => "waiting for PROCEED",
            Self::Probation => "in the probation",
            Self::Proving => "proving itself",
            Self::Serving => "serving",
            Self::GivenUp => "giving up",
        }
    }

    fn give_up(self, failure: Failure) -> (Self, SuccessorAction) {
        (Self::GivenUp, SuccessorAction::GiveUp(failure))
    }

    fn untimely(self, what: &str) -> (Self, SuccessorAction) {
        self.give_up(Failure::Malformed { during: self.name(), reason: format!("{what} was not due") })
    }
}
