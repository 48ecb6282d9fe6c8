//! What a service manager is told (sd_notify(3)): ready, leaving, and that another process is the main one now.
//!
//! Without `NOTIFY_SOCKET` nobody listens, and nothing is said.

use sd_notify::NotifyState;

/// This process serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// This process leaves, and nobody takes its place.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Another process is the gateway now. Only the main process of the moment is believed, so the old one says it, before
/// it ends.
pub(super) fn main_process(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager does not hear");
    }
}
