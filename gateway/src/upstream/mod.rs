//! The upstream side: which endpoint takes a request, and how to connect to it.

mod peer;
mod select;

pub(crate) use peer::{peer, protocol};
pub(crate) use select::select;
