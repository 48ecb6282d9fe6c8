//! What the end-to-end suites share: the real gateway as a process, real upstreams, real clients, manifests on disk.
//! Nothing here knows the code of the gateway, only its contracts. A panic here is a failed test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub mod certificate;
pub mod client;
pub mod cluster;
pub mod dashboard;
pub mod exposition;
pub mod gateway;
pub mod handoff;
pub mod interposer;
pub mod load;
pub mod manifests;
pub mod nginx;
pub mod node;
pub mod prometheus;
pub mod raw;
pub mod recorder;
pub mod relay;
pub mod release;
pub mod upstream;
pub mod wait;

pub use client::{Answer, Client};
pub use cluster::Cluster;
pub use gateway::Gateway;
pub use interposer::Interposer;
pub use manifests::Manifests;
pub use relay::Relay;
pub use upstream::{Seen, Upstream};
