//! Weir's tasks, run as `cargo xtask TASK`: this file only dispatches, each task has a file of its own.

mod build;
mod check;
mod demo;
mod lab;
mod process;
mod setup;
mod test;
mod tidy;
mod toolchain;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Builds, tests, checks and shows Weir.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Install what building, testing and showing need on this machine; does nothing twice.
    Setup(setup::Args),
    /// Set up, then build everything.
    Build(build::Args),
    /// Everything that must be clean before a merge: format, lints, house rules, docs.
    Check,
    /// The house rules that no other tool knows.
    Tidy,
    /// Set up, build, then run every test; root is used only for the tests that need it.
    Test(test::Args),
    /// A network of namespaces for hands-on work.
    Lab(lab::Args),
    /// Show the whole thing at work: load, a backend killed, a backend drained.
    Demo(demo::Args),
}

fn main() -> ExitCode {
    match run(Task::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Setup(args) => setup::main(&args),
        Task::Build(args) => build::main(&args),
        Task::Check => check::main(),
        Task::Tidy => tidy::main(),
        Task::Test(args) => test::main(&args),
        Task::Lab(args) => lab::main(&args),
        Task::Demo(args) => demo::main(&args),
    }
}
