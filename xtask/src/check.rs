//! `cargo xtask check`: everything that must be clean before a merge, and needs no privilege.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::process::{cargo, run};
use crate::setup::{self, Choice, Scope};
use crate::tidy;
use crate::toolchain::{TARGET, Toolchain};

/// Runs all checks, the quick ones first; stops at the first that fails.
pub fn main() -> Result<()> {
    let toolchain = setup::ensure(Scope::Build, Choice::Auto)?;
    title("format");
    require("fmt", "rustfmt")?;
    run(cargo().args(["fmt", "--all", "--check"]))?;
    title("house rules");
    tidy::main()?;
    title("lints");
    require("clippy", "clippy")?;
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    title("lints of the BPF program");
    lint_bpf(&toolchain)?;
    title("docs");
    run(cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    eprintln!("check: all clean");
    Ok(())
}

fn title(what: &str) {
    eprintln!("check: {what}");
}

/// A minimal toolchain has neither formatter nor linter.
fn require(subcommand: &str, component: &str) -> Result<()> {
    let mut command = cargo();
    let there = command.args([subcommand, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        bail!("cargo has no {subcommand}; mend it with: rustup component add {component}");
    }
    Ok(())
}

/// Lints what only compiles for the kernel. Prebuilt compilers come without a linter of their own version.
fn lint_bpf(toolchain: &Toolchain) -> Result<()> {
    let Some(clippy) = toolchain.companion("cargo-clippy") else {
        eprintln!("check: skipped, since the BPF toolchain has no clippy ({})", toolchain.rustc.display());
        return Ok(());
    };
    // Called directly, not as a subcommand of cargo, which would find the other toolchain's.
    let mut command = Command::new(clippy);
    command.current_dir(crate::process::workspace());
    command.args(["clippy", "--package", "lb-ebpf", "--bin", "weir_bpf", "--release", "--target", TARGET]);
    command.args(["-Z", "build-std=core", "--target-dir", "target/bpf-lints", "--", "-D", "warnings"]);
    command.env_remove("RUSTUP_TOOLCHAIN").env("CARGO", &toolchain.cargo).env("RUSTC", &toolchain.rustc);
    // What aya-ebpf needs to know about the machine that the program will run on.
    let architecture = format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH);
    run(command.env("CARGO_ENCODED_RUSTFLAGS", architecture))
}
