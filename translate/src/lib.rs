//! Placeholder of the crate; see the workspace's ARCHITECTURE.md.
