//! The protocol of a hand-over as two pure state machines: one for the process that serves (the incumbent), one for the
//! process that is to serve (the successor). Events in, actions out; no clock, no socket.
//!
//! ```text
//! successor                          incumbent
//!   HELLO            ───────────────►
//!                    ◄─────────────── sockets, state
//!   adopts, compiles,
//!   answers a request of its own
//!   PREPARED         ───────────────►
//!                    ◄─────────────── PROCEED
//!   accepts
//!   READY            ───────────────►  pauses: the probation begins
//!                    ◄─────────────── CONFIRM   it ends
//!   answers a request of its own
//!   CONFIRMED        ───────────────►
//!                    ◄─────────────── COMMIT    only now it drains
//! ```
//!
//! Whatever else happens before COMMIT leaves the incumbent serving as if nothing had been.

mod failure;
mod incumbent;
mod successor;

pub use failure::Failure;
pub use incumbent::{Incumbent, IncumbentAction, IncumbentEvent};
pub use successor::{Successor, SuccessorAction, SuccessorEvent};

#[cfg(test)]
mod tests;
