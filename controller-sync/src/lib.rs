//! Sources of Kubernetes resources, and the loop that makes them live.

pub mod source;
