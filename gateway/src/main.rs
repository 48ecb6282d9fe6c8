//! The `gateway` command. This file and `main/` are the composition root: only here do the data plane and
//! `controller_sync` meet.

mod main {
    pub(super) mod check;
    pub(super) mod cluster;
    pub(super) mod demo;
    pub(super) mod echo;
    pub(super) mod explain;
    pub(super) mod flags;
    pub(super) mod handover;
    pub(super) mod lifecycle;
    pub(super) mod logging;
    pub(super) mod manifests;
    pub(super) mod pod;
    pub(super) mod run;
    pub(super) mod supervise;
    pub(super) mod translate;
    pub(super) mod upgrade;
    pub(super) mod values;
    pub(super) mod version;
}

use std::process::ExitCode;

use clap::Parser;
use controller_sync::source::directory::OpenError;
use controller_sync::source::kube::ConnectError;
use main::flags::{Cli, Command, Normalized};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Bad flags end here, with 2.
    let Normalized { arguments, ignored } = main::flags::normalized(std::env::args_os());
    let cli = Cli::parse_from(arguments);
    let result = match cli.command {
        Command::Run(flags) => main::run::run(&flags, &ignored),
        Command::Demo(flags) => main::demo::demo(&flags),
        Command::Check(flags) => main::check::check(&flags),
        Command::Explain(flags) => main::explain::explain(&flags),
        Command::Translate(flags) => main::translate::translate(&flags),
        Command::Upgrade(flags) => main::upgrade::upgrade(&flags),
        Command::Supervise(flags) => main::supervise::supervise(&flags),
        Command::Probe(flags) => main::pod::probe(&flags),
        Command::Prepare(flags) => main::pod::prepare(&flags),
    };
    result.unwrap_or_else(|error| {
        eprintln!("gateway: {error:#}");
        // A path that does not exist is a mistake on the command line, and so is no source at all.
        let is_usage = matches!(error.downcast_ref(), Some(OpenError::Path { .. }))
            || matches!(error.downcast_ref(), Some(ConnectError::Kubeconfig { .. } | ConnectError::NotInCluster(_)));
        if is_usage { ExitCode::from(2) } else { ExitCode::FAILURE }
    })
}
