//! What is written back to the API server: the statuses of Ingresses and Events, by the leader of all replicas.
//!
//! Everything here may be slow, refused or cut off. Nothing here is waited for by those who serve.

mod address;
mod board;
mod bucket;
mod events;
mod leader;
mod publish;
mod writer;

pub use address::Address;
pub use board::Board;
pub(crate) use board::{Classes, Shown, Verdict};
pub use leader::Election;
pub use publish::Publish;
pub use writer::{Statuses, StatusesHandle};
