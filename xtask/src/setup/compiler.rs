//! The compiler for BPF: a nightly of rustup's, or Debian's; its LLVM must be the linker's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::packages::{Apt, Purpose, has_file};
use super::{Journal, step};
use crate::process::{cargo_path, find, output};
use crate::toolchain::{Kind, LLVM_MAJOR, NIGHTLY, TARGET, Toolchain, llvm_major};

/// Where the BPF compiler is to come from.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, clap::ValueEnum)]
pub enum Choice {
    /// Whichever was used last; else rustup if it can; else Debian.
    #[default]
    Auto,
    /// A nightly of rustup's.
    Rustup,
    /// Debian's rustc-web.
    Debian,
}

impl Choice {
    fn allows(self, kind: Kind) -> bool {
        match self {
            Self::Auto => true,
            Self::Rustup => kind == Kind::Rustup,
            Self::Debian => kind == Kind::Debian,
        }
    }
}

/// Finds a compiler that can build for BPF, installing one if there is none.
pub fn ensure(choice: Choice, linker: PathBuf, apt: &mut Apt, journal: &mut Journal) -> Result<Toolchain> {
    if let Some(known) = Toolchain::load().filter(|known| choice.allows(known.kind))
        && known.cargo.is_file()
        && is_usable(known.kind, &known.rustc)
    {
        return Ok(Toolchain { linker, ..known });
    }
    match choice {
        Choice::Rustup => rustup(linker, journal),
        Choice::Debian => debian(linker, apt, journal),
        Choice::Auto => match rustup(linker.clone(), journal) {
            Ok(toolchain) => Ok(toolchain),
            Err(no_rustup) => {
                eprintln!("setup: no compiler for BPF by rustup ({no_rustup:#}); trying Debian's");
                debian(linker, apt, journal)
            }
        },
    }
}

/// Whether the compiler shares the linker's LLVM and has `core` for the target, prebuilt or as source.
fn is_usable(kind: Kind, rustc: &Path) -> bool {
    has_right_llvm(rustc)
        && sysroot(rustc).is_ok_and(|sysroot| match kind {
            Kind::Rustup => has_source(&sysroot),
            Kind::Debian => has_file(&sysroot.join("lib/rustlib").join(TARGET).join("lib"), "libcore-"),
        })
}

fn has_right_llvm(rustc: &Path) -> bool {
    output(Command::new(rustc).arg("-vV")).is_ok_and(|version| llvm_major(&version) == Some(LLVM_MAJOR))
}

fn sysroot(rustc: &Path) -> Result<PathBuf> {
    output(Command::new(rustc).args(["--print", "sysroot"])).map(|path| PathBuf::from(path.trim()))
}

fn has_source(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file()
}

fn rustup(linker: PathBuf, journal: &mut Journal) -> Result<Toolchain> {
    if find("rustup").is_none() {
        bail!("rustup is not installed");
    }
    for nightly in nightlies()? {
        let rustc = which(&nightly, "rustc")?;
        if !has_right_llvm(&rustc) {
            continue;
        }
        if !has_source(&sysroot(&rustc)?) {
            journal.announce(&format!("adding the source of core to the toolchain {nightly}"));
            step(Command::new("rustup").args(["component", "add", "rust-src", "--toolchain", &nightly]))?;
        }
        return from_rustup(&nightly, linker);
    }
    journal.announce(&format!("installing the toolchain {NIGHTLY}, whose LLVM is {LLVM_MAJOR}"));
    let mut install = Command::new("rustup");
    install.args(["toolchain", "install", NIGHTLY, "--profile", "minimal", "--component", "rust-src"]);
    step(install.arg("--no-self-update"))?;
    from_rustup(NIGHTLY, linker)
}

fn from_rustup(nightly: &str, linker: PathBuf) -> Result<Toolchain> {
    let (cargo, rustc) = (which(nightly, "cargo")?, which(nightly, "rustc")?);
    if !is_usable(Kind::Rustup, &rustc) {
        bail!(
            "the toolchain {nightly} has no source of core, or another LLVM than {LLVM_MAJOR}; \
             mend it with: rustup toolchain uninstall {nightly}, then cargo xtask setup"
        );
    }
    Ok(Toolchain { kind: Kind::Rustup, cargo, rustc, build_std: true, linker })
}

/// Installed nightlies: the pinned one first, then the one that people update, then any other.
fn nightlies() -> Result<Vec<String>> {
    Ok(in_order_of_preference(&output(Command::new("rustup").args(["toolchain", "list"]))?))
}

fn in_order_of_preference(list: &str) -> Vec<String> {
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("nightly")).map(str::to_owned).collect();
    let dated =
        |name: &str| name.strip_prefix("nightly-").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    names.sort_by_key(|name| (!name.starts_with(NIGHTLY), dated(name)));
    names
}

/// The toolchain's own program, not rustup's proxy, which would choose again.
fn which(toolchain: &str, program: &str) -> Result<PathBuf> {
    output(Command::new("rustup").args(["which", "--toolchain", toolchain, program]))
        .map(|path| PathBuf::from(path.trim()))
}

fn debian(linker: PathBuf, apt: &mut Apt, journal: &mut Journal) -> Result<Toolchain> {
    apt.ensure(Purpose::Compiler, journal)?;
    let rustc = PathBuf::from("/usr/bin/rustc");
    if !is_usable(Kind::Debian, &rustc) {
        bail!(
            "{} is not Debian's rustc-web with LLVM {LLVM_MAJOR} and core for {TARGET}; mend it with: \
             sudo apt-get install rustc-web libstd-rust-web-dev-bpf",
            rustc.display()
        );
    }
    let cargo = std::path::absolute(cargo_path()).context("cannot tell where cargo is")?;
    Ok(Toolchain { kind: Kind::Debian, cargo, rustc, build_std: false, linker })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_nightly_comes_first_and_other_channels_never() {
        let list = "stable-x86_64 (active, default)\nnightly-2026-01-01-x86_64\nnightly-x86_64\n1.95.0-x86_64\n";
        assert_eq!(in_order_of_preference(list), ["nightly-x86_64", "nightly-2026-01-01-x86_64"]);
        let list = format!("nightly-x86_64\n{NIGHTLY}-x86_64\n");
        assert_eq!(in_order_of_preference(&list), [format!("{NIGHTLY}-x86_64"), "nightly-x86_64".to_owned()]);
    }
}
