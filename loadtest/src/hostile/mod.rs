//! `loadtest hostile`: what the gateway spends on clients that mean harm, and what honest ones notice of it.

mod flood;
mod frames;
mod honest;
mod limits;
mod overload;
mod site;
mod slow;
mod watch;

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use self::honest::Honest;
use self::site::Site;
use crate::{procfs, report, workspace};

#[derive(Args)]
pub(crate) struct HostileFlags {
    /// Connections that are opened to be slow
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(10..=20_000))]
    connections: u32,
    /// Frames of each flood
    #[arg(long, default_value_t = 40_000, value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    frames: u32,
    /// Requests a second of the honest clients
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(50..=5000))]
    rate: u32,
    /// Measures the rows whose name contains this
    #[arg(long)]
    only: Option<String>,
}

/// One goal, and what was found.
struct Row {
    what: &'static str,
    goal: String,
    found: String,
    is_met: bool,
}

/// Runs the command: 0 when all goals are met.
pub(crate) fn hostile(flags: &HostileFlags) -> anyhow::Result<ExitCode> {
    let program = workspace::build_gateway()?;
    limits::raise_descriptors();
    let directory = tempfile::Builder::new().prefix("loadtest-").tempdir().context("create a directory")?;
    let site = Site::create(&program, directory.path())?;
    let is_wanted = |what: &str| flags.only.as_deref().is_none_or(|only| what.contains(only));
    report::line(&format!("{:<38}{:<46}{}\n", "", "goal", "found"));
    let mut are_met = true;
    let mut print = |row: Row| {
        let Row { what, goal, found, is_met } = row;
        report::line(&format!("{what:<38}{goal:<46}{found}{}", if is_met { "" } else { "  NOT met" }));
        are_met &= is_met;
    };
    for attack in slow::ALL.iter().filter(|attack| is_wanted(attack.what)) {
        print(slow::row(attack, &site, flags)?);
    }
    for flood in flood::ALL.iter().filter(|flood| is_wanted(flood.what)) {
        print(flood::row(flood, &site, flags)?);
    }
    for (what, row) in [
        (overload::WHAT, overload::row as fn(&Site) -> anyhow::Result<Row>),
        (limits::DESCRIPTORS, limits::descriptors),
        (limits::MEMORY, limits::memory),
    ] {
        if is_wanted(what) {
            print(row(&site)?);
        }
    }
    report::line(&format!("\nload average of the machine: {}", procfs::load_average()?));
    Ok(if are_met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
