//! The side of `gateway upgrade`: asks the process that serves, and waits for what comes of it.

use std::path::PathBuf;

use super::channel::ChannelError;
use super::message::{Message, Outcome, Upgrade};
use super::path::{HandoffPath, PathError};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The gateway cannot be reached.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Nobody listens there.
    #[error("no gateway listens there")]
    Nobody,
    /// The gateway did not say what came of it.
    #[error("ask the gateway: {0}")]
    Channel(#[from] ChannelError),
    /// It said something else.
    #[error("the gateway answers with something else than an outcome")]
    Answer,
}

/// Asks the gateway to hand over to a new process, of `binary` or of its own program, and waits for the outcome. The
/// gateway bounds the time.
///
/// # Errors
///
/// When it cannot be asked, or ends without an answer.
pub async fn upgrade(path: &HandoffPath, binary: Option<PathBuf>) -> Result<Outcome, OperatorError> {
    let mut channel = path.connect().await?.ok_or(OperatorError::Nobody)?;
    channel.send(&Message::Upgrade(Upgrade { binary })).await?;
    match channel.receive().await? {
        Message::Outcome(outcome) => Ok(outcome),
        _ => Err(OperatorError::Answer),
    }
}
