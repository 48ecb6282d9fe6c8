//! What is done to requests and answers on their way.

mod access;
mod forwarded;
mod headers;

pub(crate) use access::admit;
pub(crate) use forwarded::{client_of, set_forwarded_headers};
pub(crate) use headers::{drop_hop_headers, edit_request, edit_response};
