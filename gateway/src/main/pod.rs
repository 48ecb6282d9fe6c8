//! Commands for pods that hand over to each other. On the network of their node the directory of the hand-over socket is
//! common to them, and a probe over HTTP is answered by whichever pod has the sockets.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use controller_sync::upgrade::path::HandoffPath;

use super::flags::{PrepareFlags, ProbeFlags};

/// `gateway probe`: whether the gateway that serves is one of this container.
pub(crate) fn probe(flags: &ProbeFlags) -> anyhow::Result<ExitCode> {
    let path = &flags.handoff_socket;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    match runtime.block_on(HandoffPath::new(path).connect())? {
        None => bail!("no gateway listens at {}", path.display()),
        // A container sees the numbers of its own processes only.
        Some(channel) if channel.peer().is_none() => bail!("the gateway of another container serves"),
        Some(_) => Ok(ExitCode::SUCCESS),
    }
}

/// `gateway prepare`: makes the directory of the socket, and makes it one that nobody but a user gets into.
pub(crate) fn prepare(flags: &PrepareFlags) -> anyhow::Result<ExitCode> {
    let directory = flags.handoff_socket.parent().unwrap_or_else(|| Path::new("/"));
    let prepare = || {
        std::fs::create_dir_all(directory)?;
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
        chown(directory, Some(flags.user), None)
    };
    prepare().with_context(|| format!("prepare {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}
