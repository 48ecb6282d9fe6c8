//! `gateway upgrade`: asks the running gateway to hand over to a new process, and says what came of it.

use std::process::ExitCode;

use anyhow::Context;
use controller_sync::upgrade::path::HandoffPath;

use super::flags::UpgradeFlags;

/// Runs the command.
pub(crate) fn upgrade(flags: &UpgradeFlags) -> anyhow::Result<ExitCode> {
    let path = HandoffPath::new(&flags.handoff_socket);
    // The gateway starts the program, perhaps from another directory.
    let binary = flags.binary.as_ref().map(std::path::absolute).transpose().context("find the new program")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    let outcome = runtime
        .block_on(controller_sync::upgrade::upgrade(&path, binary))
        .with_context(|| format!("upgrade at {}", flags.handoff_socket.display()))?;
    eprintln!("gateway: {}", outcome.text);
    Ok(if outcome.is_handed_over { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
