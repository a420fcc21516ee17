//! `cargo xtask build`: sets up, then builds what is shipped and what the tests need.

use anyhow::Result;

use crate::process::{cargo, run};
use crate::setup::{self, Choice, Scope};

/// Arguments of `cargo xtask build`.
#[derive(clap::Args)]
pub struct Args {
    /// Optimised, as it is shipped.
    #[arg(long)]
    release: bool,
}

/// Sets up and builds.
pub fn main(args: &Args) -> Result<()> {
    setup::ensure(Scope::Build, Choice::Auto)?;
    let profile = args.release.then_some("--release");
    // Not xtask: it is what runs now.
    run(cargo().args(["build", "--workspace", "--exclude", "xtask"]).args(profile))
}
