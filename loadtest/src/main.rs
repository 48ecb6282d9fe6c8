//! The `loadtest` command: benchmarks of the gateway and of its peers, side by side on one machine.

mod bare;
mod client;
mod compare;
mod edit;
mod hostile;
mod http;
mod interrupt;
mod live;
mod load;
mod manifests;
mod memory;
mod peers;
mod process;
mod procfs;
mod propagation;
mod report;
mod routes;
mod statistics;
mod tls;
mod upgrade;
mod upstream;
mod workspace;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The bare proxy is measured against the gateway, so it has the gateway's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Benchmarks of Penstock.
#[derive(Parser)]
#[command(name = "loadtest", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Penstock, bare Pingora, nginx, HAProxy, Envoy, Traefik and Caddy side by side, with a report
    Compare(compare::CompareFlags),
    /// What one comparison shows to be slower or larger than another one did
    Diff(compare::DiffFlags),
    /// Clients that mean harm: slow ones, floods of HTTP/2, too many, and a gateway that runs out of what it needs
    Hostile(hostile::HostileFlags),
    /// Time from the edit of a manifest to the first right answer, at 1,000 Ingresses and under load
    Live(live::LiveFlags),
    /// Resident memory of 10,000 routes with their Services and EndpointSlices, and what of it is given back
    Memory(memory::MemoryFlags),
    /// Time from a change of an object to the first right answer, on a real API server and beside Traefik
    Propagation(propagation::PropagationFlags),
    /// Requests that are lost by upgrades: by those that succeed, by those that fail, and by none of them
    Upgrade(upgrade::UpgradeFlags),
    /// Serves as the bare Pingora proxy
    #[command(hide = true)]
    Bare(bare::BareFlags),
    /// Serves as the upstream of the peers
    #[command(hide = true)]
    Upstream {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        grpc: SocketAddr,
        #[arg(long)]
        body: String,
    },
    /// Takes part in a hand-over, badly
    #[command(hide = true)]
    Successor {
        #[arg(long)]
        socket: PathBuf,
        fault: upgrade::Fault,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Compare(flags) => compare::compare(&flags),
        Command::Diff(flags) => compare::diff(&flags),
        Command::Hostile(flags) => hostile::hostile(&flags),
        Command::Live(flags) => live::live(&flags),
        Command::Memory(flags) => memory::memory(&flags),
        Command::Bare(flags) => bare::serve(flags),
        Command::Upstream { listen, grpc, body } => upstream::serve(listen, grpc, &body),
        Command::Successor { socket, fault } => upgrade::succeed(&socket, fault),
        Command::Propagation(flags) => propagation::propagation(&flags),
        Command::Upgrade(flags) => upgrade::upgrade(&flags),
    };
    result.unwrap_or_else(|error| {
        eprintln!("loadtest: {error:#}");
        ExitCode::FAILURE
    })
}
