//! `cargo xtask lab`: hands its arguments to `weir-lab`, as root.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::process::{as_root, cargo, run};
use crate::setup::{self, Choice, Scope};

/// Arguments of `cargo xtask lab`.
#[derive(clap::Args)]
pub struct Args {
    /// What `weir-lab` takes: up, down, status, exec, ...
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    arguments: Vec<String>,
}

/// Builds `weir-lab` and runs it.
pub fn main(args: &Args) -> Result<()> {
    setup::ensure(Scope::Everything, Choice::Auto)?;
    run(cargo().args(["build", "--quiet", "--package", "lb-tests", "--bin", "weir-lab"]))?;
    run(as_root(built("weir-lab")?).args(&args.arguments))
}

/// A program of the workspace, built in the same profile as this one.
pub fn built(program: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let path = own.with_file_name(program);
    if !path.is_file() {
        bail!("{} is not built; build it with: cargo xtask build", path.display());
    }
    Ok(path)
}
