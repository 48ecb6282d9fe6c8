//! How a connection ends that is still open at the drain limit: a WebSocket is told (1001), everything else sees the end of
//! the stream. Bytes that nobody has read would turn the end into a reset, so what the client still sends is read.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::timer::Timer;
use super::websocket::GOING_AWAY;
use super::{Connection, LINGER};

/// A connection that is being closed.
pub(super) struct Farewell {
    step: Step,
    timer: Timer,
    deadline: Instant,
}

enum Step {
    /// What is left to say.
    Say(&'static [u8]),
    /// Everything is said.
    Shutdown,
    /// The client may still talk.
    Listen,
    /// The client has closed too, or had time to.
    Over,
}

impl Connection {
    /// Closes the connection. Ready when nothing more is to be done but to drop it.
    pub(super) fn poll_farewell(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let may_close = self.frames.as_ref().is_some_and(|frames| frames.may_close());
        let farewell = self.farewell.get_or_insert_with(|| {
            let step = if may_close { Step::Say(GOING_AWAY) } else { Step::Shutdown };
            Box::new(Farewell { step, timer: Timer::default(), deadline: Instant::now() + LINGER })
        });
        loop {
            if farewell.timer.poll(farewell.deadline, context).is_ready() {
                farewell.step = Step::Over;
            }
            let io = self.io.pin();
            farewell.step = match farewell.step {
                Step::Say(words) => match ready!(io.poll_write(context, words)) {
                    Ok(n_said) if n_said < words.len() => Step::Say(words.get(n_said..).unwrap_or_default()),
                    Ok(_) => Step::Shutdown,
                    Err(_) => Step::Over,
                },
                Step::Shutdown => match ready!(io.poll_shutdown(context)) {
                    Ok(()) => Step::Listen,
                    Err(_) => Step::Over,
                },
                Step::Listen => {
                    let mut scratch = [0; 4096];
                    let mut buffer = ReadBuf::new(&mut scratch);
                    match ready!(io.poll_read(context, &mut buffer)) {
                        Ok(()) if !buffer.filled().is_empty() => Step::Listen,
                        _ => Step::Over,
                    }
                }
                Step::Over => return Poll::Ready(()),
            };
        }
    }
}

/// What is told to those who were still using the connection.
pub(super) fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "still open at the drain limit")
}
