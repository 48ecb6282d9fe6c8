//! What is done to requests and answers on their way.

mod access;
mod answer;
mod basic;
mod cache;
mod client_tls;
mod compression;
mod copy;
mod cors;
mod errors;
mod external;
mod forwarded;
mod headers;
mod limits;
mod mirror;
mod names;
mod request;
mod servers;
mod sizes;

pub(crate) use access::{Admission, Gatekeeper, Refusal, Visitor};
pub(crate) use answer::{hide_headers, mark_answer};
pub(crate) use client_tls::admit as admit_certificate;
pub(crate) use compression::{Compressor, compressor};
pub(crate) use copy::copy_request;
pub(crate) use cors::mark as mark_for_origin;
pub(crate) use errors::tell_error;
pub(crate) use forwarded::client_of;
pub(crate) use forwarded::set_forwarded_headers;
use headers::edit_request;
pub(crate) use headers::{drop_hop_headers, edit_response};
pub use limits::LimitTables;
pub(crate) use mirror::{Mirrors, RequestCopy};
pub(crate) use request::{ORIGINAL_URI, prepare_request};
pub(crate) use sizes::{BODY_TOO_LARGE, RESPONSE_HEAD_TOO_LARGE, admit_body, check_response_head, count_body};
