//! From Kubernetes resources to the [model](routing::Model), as a pure function that can be run in small steps.
//!
//! The crate owns the typed resources, the meaning of their fields and annotations, and the conditions that tell an
//! author what became of an object. It must not do I/O, read a clock, or know the Kubernetes client.

mod backend;
mod class;
mod config;
mod decode;
mod encode;
mod health;
mod index;
pub mod ingress;
mod problem;
mod references;
pub mod resources;
mod settings;
mod streams;
mod translator;

pub use class::ClassDecision;
pub use config::{ClassConfig, Config, ListenerConfig, ServiceRef, Source};
pub use decode::{Decoded, decode};
pub use encode::encode;
pub use problem::{Problem, Reason, Severity};
pub use settings::{SETTING_KEYS, Scope, SettingKey, SettingState, When};
pub use translator::{Change, Preview, Translator, Update};
