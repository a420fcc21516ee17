//! `cargo xtask setup`: brings this machine to where it can build, test and show Weir, and does nothing twice.

mod compiler;
mod linker;
mod packages;

use std::process::Command;

use anyhow::{Result, anyhow};

pub use self::compiler::Choice;
use self::packages::{Apt, Purpose};
use crate::process::{describe, run};
use crate::toolchain::Toolchain;

/// Arguments of `cargo xtask setup`.
#[derive(clap::Args)]
pub struct Args {
    /// Where the BPF compiler is to come from.
    #[arg(long, value_enum, default_value_t)]
    compiler: Choice,
}

/// What the machine is to be ready for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Building and linting.
    Build,
    /// Also the tests that need a network, the lab and the demo.
    Everything,
}

/// What has been done in this run: everything is announced before it is done.
#[derive(Default)]
struct Journal {
    done: usize,
}

impl Journal {
    fn announce(&mut self, what: &str) {
        eprintln!("setup: {what}");
        self.done += 1;
    }
}

/// Sets up for everything.
pub fn main(args: &Args) -> Result<()> {
    ensure(Scope::Everything, args.compiler).map(drop)
}

/// Sets up as far as `scope` needs, and returns the BPF toolchain.
pub fn ensure(scope: Scope, choice: Choice) -> Result<Toolchain> {
    let mut journal = Journal::default();
    let mut apt = Apt::default();
    apt.ensure(Purpose::Build, &mut journal)?;
    if scope == Scope::Everything {
        apt.ensure(Purpose::Tests, &mut journal)?;
    }
    let linker = linker::ensure(&mut apt, &mut journal)?;
    let toolchain = compiler::ensure(choice, linker, &mut apt, &mut journal)?;
    if Toolchain::load().as_ref() != Some(&toolchain) {
        journal.announce("writing down where the BPF toolchain is (.bpf-toolchain)");
        toolchain.store()?;
    }
    eprintln!("setup: {}", if journal.done == 0 { "nothing to do" } else { "done" });
    Ok(toolchain)
}

/// Runs one step; if it fails, the error names the command that mends it.
fn step(command: &mut Command) -> Result<()> {
    run(command).map_err(|error| anyhow!("{error:#}; mend it with: {}", describe(command)))
}
