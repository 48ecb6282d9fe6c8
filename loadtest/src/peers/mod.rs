//! The proxies that are measured, each with a configuration that is fair to it.

mod bare;
mod caddy;
mod envoy;
mod haproxy;
mod nginx;
mod penstock;
mod traefik;
mod wheel;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

pub(crate) use penstock::Gateway;

use crate::process::{self, Process};
use crate::tls::CertificateFiles;
use crate::{interrupt, procfs};

/// The host that leads to the upstream.
pub(crate) const HOST: &str = "bench.example";
/// The host that leads to the upstream of gRPC.
pub(crate) const GRPC_HOST: &str = "grpc.bench.example";
/// The host whose route is edited.
pub(crate) const MOVED_HOST: &str = "moved.bench.example";
/// The host whose endpoints come and go.
pub(crate) const POOL_HOST: &str = "pool.bench.example";

/// Old workers that still live by then are not going to end.
const WORKERS_LIMIT: Duration = Duration::from_secs(20);
/// How often it is looked whether they live.
const WORKERS_LOOK: Duration = Duration::from_millis(20);

/// A proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Peer {
    /// Pingora alone: the floor.
    Bare,
    /// Penstock as it is by default: access log as text to a pipe, metrics.
    Penstock,
    /// Penstock without access log, as the others are.
    PenstockWithoutLog,
    Nginx,
    Haproxy,
    Envoy,
    Traefik,
    Caddy,
}

/// What every peer is given.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub(crate) upstream: SocketAddr,
    pub(crate) grpc: SocketAddr,
    /// Where the host whose route is edited leads when it is moved.
    pub(crate) other: SocketAddr,
    pub(crate) is_moved: bool,
    pub(crate) tls: &'a CertificateFiles,
    /// Where the host whose endpoints come and go leads.
    pub(crate) pool: &'a [SocketAddr],
    /// Hosts that lead to the upstream besides the ones above: see [`route_host`].
    pub(crate) routes: u32,
    /// Certificates of hosts that lead to the upstream: see [`crate::load::certificate_host`].
    pub(crate) certificates: &'a [CertificateFiles],
    /// Whether the peer is going to be upgraded.
    pub(crate) is_upgraded: bool,
    pub(crate) threads: usize,
    /// Connections that clients open at most.
    pub(crate) max_connections: u32,
}

/// Where a peer listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    /// For whoever operates it; not every peer has one.
    pub(crate) admin: SocketAddr,
}

/// A file of a peer's configuration.
struct ConfigFile {
    name: Cow<'static, str>,
    text: String,
}

/// What is different about each proxy.
trait Proxy {
    /// Finds the program, or builds or installs it.
    fn program(&self) -> anyhow::Result<PathBuf>;

    /// What the program answers with its version to.
    fn version_arguments(&self) -> &'static [&'static str];

    /// The whole configuration. `directory` is where it will be.
    fn config(&self, setting: &Setting<'_>, addresses: &Addresses, directory: &Path) -> Vec<ConfigFile>;

    /// Starts the program on its configuration.
    fn command(&self, program: &Path, setting: &Setting<'_>, addresses: &Addresses, directory: &Path) -> Command;

    /// Makes the program read its configuration again; one that watches it has nothing to be told.
    fn reload(&self, running: &Running) -> anyhow::Result<()>;

    /// Makes successors of the same program take over while it serves, and waits until they have.
    fn upgrade(&self, running: &Running) -> anyhow::Result<()> {
        bail!("{} cannot be upgraded", running.peer.name())
    }

    /// Why there is something that it cannot do.
    fn lacks(&self, ability: Ability) -> Option<&'static str>;
}

/// What not every proxy can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ability {
    /// Other routes than the ones by name, and edits of them.
    Routes,
    /// More than one certificate.
    Certificates,
    /// A configuration that changes while it serves.
    Changes,
    /// To hand over to another process of its program.
    Upgrades,
}

/// A peer that can be had.
pub(crate) struct Located {
    pub(crate) peer: Peer,
    pub(crate) program: PathBuf,
    pub(crate) version: String,
}

/// A peer that serves.
pub(crate) struct Running {
    pub(crate) peer: Peer,
    pub(crate) process: Process,
    pub(crate) addresses: Addresses,
    program: PathBuf,
    directory: tempfile::TempDir,
}

/// One of the many hosts.
pub(crate) fn route_host(number: u32) -> String {
    format!("route-{number}.example")
}

impl Setting<'_> {
    /// Where the host whose route is edited leads.
    fn moved(&self) -> SocketAddr {
        if self.is_moved { self.other } else { self.upstream }
    }
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare Pingora",
            Self::Penstock => "Penstock",
            Self::PenstockWithoutLog => "Penstock, no access log",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Envoy => "Envoy",
            Self::Traefik => "Traefik",
            Self::Caddy => "Caddy",
        }
    }

    /// Its name in options, in results and in names of files.
    pub(crate) fn id(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn proxy(self) -> &'static dyn Proxy {
        match self {
            Self::Bare => &bare::Bare,
            Self::Penstock => &penstock::Penstock { has_access_log: true },
            Self::PenstockWithoutLog => &penstock::Penstock { has_access_log: false },
            Self::Nginx => &nginx::Nginx,
            Self::Haproxy => &haproxy::Haproxy,
            Self::Envoy => &envoy::Envoy,
            Self::Traefik => &traefik::Traefik,
            Self::Caddy => &caddy::Caddy,
        }
    }

    /// Finds the program, or builds or installs it.
    ///
    /// # Errors
    ///
    /// When it cannot be had: the peer is missing then.
    pub(crate) fn locate(self) -> anyhow::Result<Located> {
        let program = self.proxy().program()?;
        let version = version(&program, self.proxy().version_arguments())?;
        Ok(Located { peer: self, program, version })
    }

    /// Why it takes no part in a comparison of an ability.
    pub(crate) fn lacks(self, ability: Ability) -> Option<&'static str> {
        self.proxy().lacks(ability)
    }
}

impl Located {
    /// Starts the peer and waits until it serves the host.
    pub(crate) fn start(&self, setting: &Setting<'_>, parent: &Path, host: &str) -> anyhow::Result<Running> {
        let directory = tempfile::Builder::new().prefix("peer-").tempdir_in(parent).context("create a directory")?;
        let [plain, tls, admin] = [(); 3].map(|()| process::free_address());
        let addresses = Addresses { plain: plain?, tls: tls?, admin: admin? };
        let proxy = self.peer.proxy();
        write(directory.path(), proxy.config(setting, &addresses, directory.path()))?;
        let command = proxy.command(&self.program, setting, &addresses, directory.path());
        let process = Process::start_apart(self.peer.name(), command, directory.path())?;
        let program = self.program.clone();
        let mut running = Running { peer: self.peer, process, addresses, program, directory };
        running.process.wait_until_serving(addresses.plain, host)?;
        Ok(running)
    }

    /// How the peer is started, with the paths of files that are gone by the time it is read.
    pub(crate) fn command_line(&self, setting: &Setting<'_>) -> String {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let addresses = Addresses { plain: any, tls: any, admin: any };
        let command = self.peer.proxy().command(&self.program, setting, &addresses, Path::new("DIRECTORY"));
        let name = self.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let arguments = command.get_args().map(|argument| argument.to_string_lossy().into_owned());
        std::iter::once(name).chain(arguments).collect::<Vec<_>>().join(" ")
    }
}

impl Running {
    /// Replaces what is new in the configuration while the peer serves, and returns when that began.
    pub(crate) fn edit(&self, setting: &Setting<'_>) -> anyhow::Result<Instant> {
        let proxy = self.peer.proxy();
        let directory = self.directory.path();
        let mut files = proxy.config(setting, &self.addresses, directory);
        files.retain(|file| !std::fs::read(directory.join(&*file.name)).is_ok_and(|old| old == file.text.as_bytes()));
        let began = Instant::now();
        write(directory, files)?;
        proxy.reload(self)?;
        Ok(began)
    }

    /// Hands over to another process of the same program while the peer serves.
    pub(crate) fn upgrade(&self) -> anyhow::Result<()> {
        self.peer.proxy().upgrade(self)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process.signal(signal)
    }

    /// Sends a signal that replaces all workers, and waits until none of the old ones is left.
    fn replace_workers(&self, signal: Signal) -> anyhow::Result<()> {
        let old = procfs::children(self.process.id())?;
        self.signal(signal)?;
        let deadline = Instant::now() + WORKERS_LIMIT;
        while procfs::children(self.process.id())?.iter().any(|child| old.contains(child)) {
            if Instant::now() > deadline {
                bail!("{} keeps its old workers for more than {WORKERS_LIMIT:?}", self.peer.name());
            }
            interrupt::sleep(WORKERS_LOOK)?;
        }
        Ok(())
    }
}

/// What a program says about itself.
fn version(program: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("start {}", program.display()))?;
    if !output.status.success() {
        bail!("{} {} ends with {}", program.display(), arguments.join(" "), output.status);
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Writes files, each beside its place first: whoever watches it never sees half of it.
fn write(directory: &Path, files: Vec<ConfigFile>) -> anyhow::Result<()> {
    for ConfigFile { name, text } in files {
        let path = directory.join(&*name);
        let beside = path.with_extension("new");
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = written.and_then(|()| std::fs::write(&beside, text));
        written.and_then(|()| std::fs::rename(&beside, &path)).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// A Debian package's program, which is not installed here without being asked.
fn installed(name: &str, package: &str) -> anyhow::Result<PathBuf> {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&directories)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join(name))
        .find(|path| path.exists())
        .with_context(|| format!("{name} is not installed (Debian package {package})"))
}
