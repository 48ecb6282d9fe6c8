//! The proxies that are measured, each with a configuration that is fair to it.

mod bare;
mod envoy;
mod nginx;
mod penstock;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

pub(crate) use penstock::Gateway;

use crate::process::Process;

/// A proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// Pingora alone: the floor.
    Bare,
    /// Penstock as it is by default: access log as text to a pipe, metrics.
    Penstock,
    /// Penstock without access log, to tell what the log costs.
    PenstockWithoutLog,
    /// Envoy as an edge proxy, without access log.
    Envoy,
    /// nginx with kept upstream connections, without access log.
    Nginx,
}

/// What every peer is given.
pub(crate) struct Setting<'a> {
    /// For its files.
    pub(crate) directory: &'a Path,
    /// Host that leads to the upstream.
    pub(crate) host: &'a str,
    pub(crate) upstream: SocketAddr,
    pub(crate) threads: usize,
}

/// A peer that serves.
pub(crate) struct Running {
    pub(crate) peer: Peer,
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

/// A peer that can be had.
pub(crate) struct Located {
    pub(crate) peer: Peer,
    pub(crate) program: PathBuf,
    pub(crate) version: String,
}

impl Peer {
    pub(crate) const ALL: [Self; 5] = [Self::Bare, Self::Penstock, Self::PenstockWithoutLog, Self::Envoy, Self::Nginx];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare Pingora",
            Self::Penstock => "Penstock",
            Self::PenstockWithoutLog => "Penstock, no access log",
            Self::Envoy => "Envoy",
            Self::Nginx => "nginx",
        }
    }

    /// Finds the program, or builds or installs it.
    ///
    /// # Errors
    ///
    /// When it cannot be had: the peer is missing then.
    pub(crate) fn locate(self) -> anyhow::Result<Located> {
        let program = match self {
            Self::Bare => crate::workspace::own_program()?,
            Self::Penstock | Self::PenstockWithoutLog => crate::workspace::build_gateway()?,
            Self::Envoy => envoy::program()?,
            Self::Nginx => PathBuf::from("nginx"),
        };
        let version = match self {
            Self::Bare => bare::VERSION.to_owned(),
            Self::Penstock | Self::PenstockWithoutLog | Self::Envoy => version(&program, "--version")?,
            Self::Nginx => version(&program, "-v")?,
        };
        Ok(Located { peer: self, program, version })
    }
}

impl Located {
    /// Starts the peer and waits until it serves.
    pub(crate) fn start(&self, setting: &Setting<'_>) -> anyhow::Result<Running> {
        let Self { peer, program, .. } = self;
        let directory = tempfile::Builder::new().prefix("peer-").tempdir_in(setting.directory);
        let directory = directory.context("create a directory")?.keep();
        let setting = Setting { directory: &directory, ..*setting };
        let (mut process, address) = match peer {
            Peer::Bare => bare::start(program, &setting)?,
            Peer::Penstock => penstock::start_proxy(program, &setting, &[])?,
            Peer::PenstockWithoutLog => penstock::start_proxy(program, &setting, &["--access-log=off".to_owned()])?,
            Peer::Envoy => envoy::start(program, &setting)?,
            Peer::Nginx => nginx::start(program, &setting)?,
        };
        process.wait_until_serving(address, setting.host)?;
        Ok(Running { peer: *peer, process, address })
    }
}

/// What a program says about itself.
fn version(program: &Path, flag: &str) -> anyhow::Result<String> {
    let output = Command::new(program).arg(flag).output().with_context(|| format!("start {}", program.display()))?;
    if !output.status.success() {
        bail!("{} {flag} ends with {}", program.display(), output.status);
    }
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Writes the configuration of a peer.
fn write(directory: &Path, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = directory.join(name);
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}
