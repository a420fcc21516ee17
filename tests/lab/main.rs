//! `weir-lab`: a lab in network namespaces, a test server, a load generator and a holder of connections.

mod durations;
mod exec;
mod hold;
mod labs;
mod load;
mod serve;
mod serve_body;
mod serve_plain;
mod signals;
mod targets;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A lab for Weir: hosts in network namespaces, a server for them, and load.
#[derive(Parser)]
#[command(name = "weir-lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make a client, a balancer and backends, joined by a switch
    Up(labs::Up),
    /// Remove a lab
    Down(labs::Named),
    /// Show a lab: its namespaces, addresses and links
    Status(labs::Named),
    /// Run a command in a network namespace; all else stays as it is
    Exec(exec::Exec),
    /// Serve HTTP, and on request lines and datagrams, as a backend
    Serve(serve::Serve),
    /// Send requests, each over a connection of its own, and say what became of them
    Load(load::Load),
    /// Keep connections open and see that each stays with its backend
    Hold(hold::Hold),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Action::Up(up) => up.run(),
        Action::Down(named) => named.down(),
        Action::Status(named) => return code(named.status()),
        Action::Exec(exec) => return exec.run(),
        Action::Serve(serve) => in_runtime(serve.run()),
        Action::Load(load) => in_runtime(load.run()),
        Action::Hold(hold) => in_runtime(hold.run()),
    };
    code(result.map(|()| ExitCode::SUCCESS))
}

fn code(result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("weir-lab: {error:#}");
        ExitCode::FAILURE
    })
}

fn in_runtime(job: impl Future<Output = Result<()>>) -> Result<()> {
    // Every connection is a file: as many as we may have.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    tokio::runtime::Runtime::new().context("no runtime")?.block_on(job)
}
