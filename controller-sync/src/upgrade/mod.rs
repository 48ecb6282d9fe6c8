//! Upgrades by hand-over of the listening sockets: the old process serves until the new one has proved itself.
//!
//! [`plan`] says what happens; [`Incumbent`] and [`Successor`] carry it out over a Unix socket, for a child and for a
//! process of another pod alike. What is handed over belongs to the data plane, which is known as a [`DataPlane`] only.

mod channel;
mod incumbent;
pub mod message;
mod metrics;
pub mod notify;
mod operator;
pub mod path;
pub mod plan;
mod socket;
mod successor;
mod visitor;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

pub use channel::{Channel, ChannelError};
pub use incumbent::{Incumbent, Retired};
pub use metrics::HandoverMetrics;
pub use operator::{OperatorError, upgrade};
pub use socket::ListeningSocket;
pub use successor::Successor;

use message::Section;

/// How long sockets and state may take to be sent, and how long a proof may take.
const EXCHANGE: Duration = Duration::from_secs(10);

/// What a hand-over needs to know about this process.
#[derive(Clone, Debug)]
pub struct UpgradeConfig {
    /// The version of the program, for people.
    pub version: String,
    /// How long a new process may take from its start until it is prepared.
    pub limit: Duration,
    /// How long a successor serves before the old process leaves.
    pub probation: Duration,
    /// The program of a new process.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// The data plane, as far as a hand-over needs it.
pub trait DataPlane: Send + Sync + 'static {
    /// Copies of all listening sockets, whether or not they accept.
    fn list(&self) -> impl Future<Output = io::Result<Vec<OwnedFd>>> + Send;

    /// Stops accepting, and keeps the sockets: what waits in their queues waits on.
    fn pause(&self) -> impl Future<Output = ()> + Send;

    /// Accepts (again).
    fn resume(&self) -> impl Future<Output = ()> + Send;

    /// The sockets are another's: this process will not accept again.
    fn retire(&self) -> impl Future<Output = ()> + Send;

    /// The state that a successor goes on with. `with_resources` says whether it reads resources in our form.
    fn state(&self, with_resources: bool) -> impl Future<Output = Vec<Section>> + Send;

    /// Takes over sockets and state, and accepts nothing yet. What is wrong is told in words.
    fn adopt(
        &self,
        sockets: Vec<ListeningSocket>,
        state: Vec<Section>,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// Answers a request of its own through everything that requests pass.
    fn prove(&self) -> impl Future<Output = Result<(), String>> + Send;

    /// The hash of the model that is served.
    fn digest(&self) -> impl Future<Output = u64> + Send;
}
