//! The process that serves, and hands over: starts successors, listens to them, and does what [`plan::Incumbent`] says.

mod attempt;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::process::Command;
use tokio::sync::{mpsc, watch};

use super::message::{Outcome, Upgrade};
use super::plan::Failure;
use super::visitor::{self, Visitor, Wish};
use super::{DataPlane, HandoverMetrics, UpgradeConfig, notify};
use attempt::Attempt;

/// Visitors that wait while one is served.
const VISITOR_QUEUE: usize = 8;

/// The process that serves, as far as hand-overs are concerned.
pub struct Incumbent<P> {
    plane: Arc<P>,
    config: UpgradeConfig,
    metrics: HandoverMetrics,
    /// Somebody wants an upgrade, without waiting for what comes of it.
    requests: mpsc::Receiver<()>,
    /// Turns true when the process was told to leave.
    leaving: watch::Receiver<bool>,
}

/// Another process is the gateway now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retired {
    /// Whether this process started it. One that it did not start may be in another pod: there, ending would only make
    /// somebody start this process again, which would take the sockets back.
    pub by_own_child: bool,
}

impl<P: DataPlane> Incumbent<P> {
    /// `requests` and `leaving` come from the signals of the process.
    #[must_use]
    pub fn new(
        plane: Arc<P>,
        config: UpgradeConfig,
        metrics: HandoverMetrics,
        requests: mpsc::Receiver<()>,
        leaving: watch::Receiver<bool>,
    ) -> Self {
        Self { plane, config, metrics, requests, leaving }
    }

    /// Takes hand-over connections until another process is the gateway.
    pub async fn run(mut self, listener: UnixListener) -> Retired {
        let (sender, mut visitors) = mpsc::channel(VISITOR_QUEUE);
        tokio::spawn(visitor::receive(listener, sender));
        loop {
            let (wish, channel) = tokio::select! {
                Some(Visitor { channel, wish }) = visitors.recv() => (wish, Some(channel)),
                Some(()) = self.requests.recv() => (Wish::Upgrade(Upgrade::default()), None),
                else => std::future::pending().await,
            };
            let is_leaving = *self.leaving.borrow();
            let (attempt, operator) = match (wish, channel) {
                (wish, Some(channel)) if is_leaving => {
                    visitor::refuse(channel, &wish, &Failure::Leaving, &self.metrics).await;
                    continue;
                }
                (Wish::Succeed(hello), Some(channel)) => (Ok(Attempt::of_stranger(channel, hello)), None),
                (Wish::Upgrade(upgrade), operator) if !is_leaving => (self.start(upgrade.binary), operator),
                // Nobody waits for an answer.
                _ => {
                    self.metrics.count(Err(&Failure::Leaving));
                    tracing::warn!("no upgrade: {}", Failure::Leaving);
                    continue;
                }
            };
            let result = match attempt {
                Ok(attempt) => {
                    attempt.run(&*self.plane, &self.config, &self.metrics, &mut visitors, &mut self.leaving).await
                }
                Err(failure) => Err(failure),
            };
            self.metrics.count(result.as_ref().map(drop));
            if let Some(operator) = operator {
                visitor::tell(operator, outcome(&result)).await;
            }
            // What was asked for meanwhile was this.
            while self.requests.try_recv().is_ok() {}
            match result {
                Err(failure) => tracing::error!(outcome = failure.label(), "no hand-over: {failure}"),
                Ok(success) => {
                    if let Some(pid) = success.pid {
                        notify::main_process(pid);
                    }
                    tracing::info!(version = success.version, "handed over");
                    self.plane.retire().await;
                    return Retired { by_own_child: success.is_child };
                }
            }
        }
    }

    /// Starts a process that will come to the hand-over socket.
    fn start(&self, binary: Option<PathBuf>) -> Result<Attempt, Failure> {
        let program = binary.unwrap_or_else(|| self.config.program.clone());
        let mut command = Command::new(&program);
        command.args(&self.config.arguments).stdin(std::process::Stdio::null());
        match command.spawn() {
            Ok(child) => {
                tracing::info!(program = %program.display(), pid = child.id(), "started a new process");
                Ok(Attempt::of_child(child))
            }
            Err(error) => Err(Failure::Spawn(format!("{}: {error}", program.display()))),
        }
    }
}

fn outcome(result: &Result<attempt::Success, Failure>) -> Outcome {
    match result {
        Ok(success) => Outcome { is_handed_over: true, text: format!("handed over to version {}", success.version) },
        Err(failure) => Outcome { is_handed_over: false, text: format!("the old process serves on: {failure}") },
    }
}
