//! bpf-linker: built once from its crate against Debian's LLVM, and kept in the user's cache.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::packages::{Apt, Purpose};
use super::{Journal, step};
use crate::process::{cargo_path, output};
use crate::toolchain::{BPF_LINKER, LLVM_MAJOR, LLVM_PREFIX};

/// Where the linker is; builds it if it is not there, or does not run any more.
pub fn ensure(apt: &mut Apt, journal: &mut Journal) -> Result<PathBuf> {
    let root = cache()?;
    let linker = root.join("bin/bpf-linker");
    if !runs(&linker) {
        apt.ensure(Purpose::Linker, journal)?;
        // A library that it needs may have been all that was missing.
        if !runs(&linker) {
            install(&root, journal)?;
        }
    }
    Ok(linker)
}

fn runs(linker: &Path) -> bool {
    output(Command::new(linker).arg("--version")).is_ok_and(|version| version.trim().ends_with(BPF_LINKER))
}

/// A directory for exactly this linker, so that another version never finds it.
fn cache() -> Result<PathBuf> {
    let cache = match env::var_os("XDG_CACHE_HOME").filter(|path| Path::new(path).is_absolute()) {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache"),
    };
    Ok(cache.join(format!("weir/bpf-linker-{BPF_LINKER}-llvm{LLVM_MAJOR}")))
}

fn install(root: &Path, journal: &mut Journal) -> Result<()> {
    journal.announce(&format!("building bpf-linker {BPF_LINKER} with LLVM {LLVM_MAJOR} (a few minutes)"));
    // Its build script asks the first llvm-config on PATH.
    let mut path = OsString::from(format!("{LLVM_PREFIX}/bin:"));
    path.push(env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new(cargo_path());
    command.args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked", "--force", "--no-default-features"]);
    command.args(["--features", &format!("llvm-{LLVM_MAJOR}"), "--root"]).arg(root);
    step(command.env("LLVM_PREFIX", LLVM_PREFIX).env("PATH", path))
}
