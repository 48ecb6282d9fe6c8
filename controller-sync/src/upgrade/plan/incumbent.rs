//! The side of the process that serves.

use super::Failure;
use crate::upgrade::message::PROTOCOL;

/// How far a hand-over is, for the process that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incumbent {
    /// A successor was started, or has connected, and has not said who it is.
    Waiting,
    /// Sockets and state are on their way to it.
    Handing,
    /// It prepares itself.
    Preparing,
    /// It may accept, and has not said that it does.
    Starting,
    /// It accepts; this process does not, and can still go back.
    Probation,
    /// It is asked to prove itself for the last time.
    Confirming,
    /// COMMIT is on its way.
    Committing,
    /// It is the gateway now.
    Committed,
    /// There was no hand-over.
    Kept,
}

/// What can happen to a hand-over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IncumbentEvent {
    /// The successor says who it is.
    Hello {
        /// The version of the protocol that it speaks.
        protocol: u16,
    },
    /// Sockets and state are sent.
    Handed,
    /// The successor has them and answers requests.
    Prepared,
    /// The successor accepts.
    Ready,
    /// The successor still answers requests.
    Confirmed,
    /// COMMIT is sent.
    Sent,
    /// The successor says no.
    GaveUp(String),
    /// The successor has closed the connection.
    Lost,
    /// The successor sent what is no message, or none of a successor.
    Malformed(String),
    /// The new process ended.
    Exited(String),
    /// This process cannot do its part.
    Unable(String),
    /// The time of the state is up.
    Elapsed,
    /// This process was told to leave.
    Leaving,
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IncumbentAction {
    /// Nothing.
    Nothing,
    /// Send sockets and state.
    HandOver,
    /// Send PROCEED.
    Proceed,
    /// Stop accepting, keep everything else.
    Pause,
    /// Send CONFIRM.
    Confirm,
    /// Send COMMIT.
    Commit,
    /// Drain and leave.
    Retire,
    /// Tell the successor that there will be nothing, and say why.
    Keep {
        /// Whether this process has stopped accepting and must go on with it.
        must_resume: bool,
        /// Why.
        failure: Failure,
    },
}

impl Incumbent {
    /// What an event leads to.
    #[must_use]
    pub fn step(self, event: IncumbentEvent) -> (Self, IncumbentAction) {
        use IncumbentAction as Action;
        use IncumbentEvent as Event;
        match (self, event) {
            // What is over is over.
            (Self::Committed | Self::Kept, _) => (self, Action::Nothing),
            (Self::Waiting, Event::Hello { protocol: PROTOCOL }) => (Self::Handing, Action::HandOver),
            (Self::Waiting, Event::Hello { protocol: theirs }) => self.keep(Failure::Version { theirs }),
            (Self::Handing, Event::Handed) => (Self::Preparing, Action::Nothing),
            (Self::Preparing, Event::Prepared) => (Self::Starting, Action::Proceed),
            (Self::Starting, Event::Ready) => (Self::Probation, Action::Pause),
            (Self::Probation, Event::Elapsed) => (Self::Confirming, Action::Confirm),
            (Self::Confirming, Event::Confirmed) => (Self::Committing, Action::Commit),
            (Self::Committing, Event::Sent) => (Self::Committed, Action::Retire),
            (_, Event::GaveUp(reason)) => self.keep(Failure::GaveUp(reason)),
            (_, Event::Lost) => self.keep(Failure::Lost { during: self.name() }),
            (_, Event::Exited(status)) => self.keep(Failure::Exited { during: self.name(), status }),
            (_, Event::Unable(reason)) => self.keep(Failure::Unfit(reason)),
            (_, Event::Elapsed) => self.keep(Failure::Hung { during: self.name() }),
            (_, Event::Leaving) => self.keep(Failure::Leaving),
            (_, Event::Malformed(reason)) => self.keep(Failure::Malformed { during: self.name(), reason }),
            (_, Event::Hello { .. }) => self.untimely("HELLO"),
            (_, Event::Handed) => self.untimely("sockets sent twice"),
            (_, Event::Prepared) => self.untimely("PREPARED"),
            (_, Event::Ready) => self.untimely("READY"),
            (_, Event::Confirmed) => self.untimely("CONFIRMED"),
            (_, Event::Sent) => self.untimely("COMMIT sent twice"),
        }
    }

    /// Whether this process takes connections in this state.
    #[must_use]
    pub fn accepts(self) -> bool {
        !matches!(self, Self::Probation | Self::Confirming | Self::Committing | Self::Committed)
    }

    /// The state in words, after "the process was".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting for a HELLO",
            Self::Handing => "sending sockets and state",
            Self::Preparing => "waiting for PREPARED",
            Self::Starting => "waiting for READY",
            Self::Probation => "in the probation",
            Self::Confirming => "waiting for CONFIRMED",
            Self::Committing => "sending COMMIT",
            Self::Committed => "retired",
            Self::Kept => "serving on",
        }
    }

    fn keep(self, failure: Failure) -> (Self, IncumbentAction) {
        (Self::Kept, IncumbentAction::Keep { must_resume: !self.accepts(), failure })
    }

    fn untimely(self, what: &str) -> (Self, IncumbentAction) {
        self.keep(Failure::Malformed { during: self.name(), reason: format!("{what} is not due") })
    }
}
