//! What is done to requests and answers on their way.

mod access;
mod basic;
mod cache;
mod forwarded;
mod headers;

pub(crate) use access::{Gatekeeper, Refusal, Visitor};
pub(crate) use forwarded::{client_of, set_forwarded_headers};
pub(crate) use headers::{drop_hop_headers, edit_request, edit_response};
