//! Why a hand-over came to nothing: one word for metrics, one line for people.

use crate::upgrade::message::PROTOCOL;

/// Why a hand-over came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The new process could not be started.
    #[error("the new process cannot be started: {0}")]
    Spawn(String),
    /// The new process ended.
    #[error("the new process ended while the old one was {during}: {status}")]
    Exited {
        /// What the incumbent was at.
        during: &'static str,
        /// How it ended.
        status: String,
    },
    /// The other process closed the connection.
    #[error("the other process closed the connection while this one was {during}")]
    Lost {
        /// What this process was at.
        during: &'static str,
    },
    /// The other process took too long.
    #[error("no word from the other process in time while this one was {during}")]
    Hung {
        /// What this process was at.
        during: &'static str,
    },
    /// What it sent is no message, or none that is due.
    #[error("bad message while this process was {during}: {reason}")]
    Malformed {
        /// What this process was at.
        during: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// It speaks another version of the protocol.
    #[error("the other process speaks version {theirs} of the protocol, this one {PROTOCOL}")]
    Version {
        /// Its version.
        theirs: u16,
    },
    /// The other process said no.
    #[error("the other process gave up: {0}")]
    GaveUp(String),
    /// This process cannot serve: the reason is its own.
    #[error("{0}")]
    Unfit(String),
    /// This process was told to leave.
    #[error("the process is leaving")]
    Leaving,
    /// There is another hand-over.
    #[error("another hand-over is under way")]
    Busy,
}

impl Failure {
    /// The failure in one word.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Spawn(_) => "spawn",
            Self::Exited { .. } => "exited",
            Self::Lost { .. } => "lost",
            Self::Hung { .. } => "hung",
            Self::Malformed { .. } => "malformed",
            Self::Version { .. } => "version",
            Self::GaveUp(_) => "gave_up",
            Self::Unfit(_) => "unfit",
            Self::Leaving => "leaving",
            Self::Busy => "busy",
        }
    }
}
