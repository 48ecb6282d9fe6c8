//! Sources of Kubernetes resources, and the loop that makes them live.

pub mod admission;
mod backoff;
pub mod metrics;
mod report;
mod resolve;
pub mod source;
pub mod status;
pub mod sync;
pub mod upgrade;
