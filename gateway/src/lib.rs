//! The data plane: listeners, connections, the life of a request, and what is told about it.
//!
//! It reads the snapshot that others publish and must not know how resources become routes: only the composition root
//! (`main.rs` and `main/`) knows where a snapshot comes from.

mod admin;
mod answer;
mod application;
mod attempts;
mod client_certificate;
mod clock;
mod connection;
mod connections;
mod context;
mod error_pages;
mod exchange;
mod failure;
mod filter;
mod framing;
mod gate;
mod head;
mod health;
mod hop;
mod intake;
mod listener;
mod memory;
mod proxy;
mod proxy_header;
mod question;
mod record;
mod relay;
mod request_head;
mod server;
mod stream;
mod telemetry;
mod tickets;
mod tls;
mod upstream;

pub use admin::Dump;
pub use connections::{ConnectionCounts, Connections};
pub use failure::Failure;
pub use filter::LimitTables;
pub use health::HealthHandle;
pub use listener::{
    CertificateSource, EndpointError, InheritedSockets, ListenError, Listeners, ProofError, SecureEndpoint,
};
pub use question::{Question, QuestionError};
pub use server::{Server, ServerConfig, ServerError};
pub use telemetry::{AccessLog, AccessLogFormat, Metrics, PodIdentity};
pub use tickets::TicketKeys;
pub use upstream::{EndpointNews, export_endpoints, import_endpoints};
