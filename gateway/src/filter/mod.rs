//! What is done to requests and answers on their way.

mod access;
mod basic;
mod cache;
mod cors;
mod forwarded;
mod headers;
mod limits;

pub(crate) use access::{Gatekeeper, Refusal, Visitor};
pub(crate) use cors::mark as mark_for_origin;
pub(crate) use forwarded::{client_of, set_forwarded_headers};
pub(crate) use headers::{drop_hop_headers, edit_request, edit_response};
pub(crate) use limits::Counted;
