//! The bare Pingora proxy, which is this program.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Ability, Addresses, ConfigFile, Proxy, Running, Setting};
use crate::workspace;

pub(super) struct Bare;

impl Proxy for Bare {
    fn program(&self) -> anyhow::Result<PathBuf> {
        workspace::own_program()
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["bare", "--version"]
    }

    fn config(&self, _: &Setting<'_>, _: &Addresses, _: &Path) -> Vec<ConfigFile> {
        Vec::new()
    }

    fn command(&self, program: &Path, setting: &Setting<'_>, addresses: &Addresses, _: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg("bare");
        command.args(["--listen", &addresses.plain.to_string(), "--listen-tls", &addresses.tls.to_string()]);
        command.args(["--upstream", &setting.upstream.to_string(), "--grpc", &setting.grpc.to_string()]);
        command.arg("--certificate").arg(&setting.tls.certificate).arg("--key").arg(&setting.tls.key);
        command.args(["--threads", &setting.threads.to_string()]);
        command
    }

    fn reload(&self, _: &Running) -> anyhow::Result<()> {
        Ok(())
    }

    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        Some(match ability {
            Ability::Routes | Ability::Changes => "it has one route",
            Ability::Certificates => "it has one certificate",
            Ability::Upgrades => "no such thing in its 40 lines",
        })
    }
}
