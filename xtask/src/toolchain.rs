//! The BPF toolchain: which versions are wanted (pinned here and nowhere else), and the file that says which was found.
//!
//! `xtask setup` writes the file; lb-userspace's build script and `xtask check` read it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::workspace;

/// The LLVM that compiler and linker must share: the linker reads the compiler's bitcode.
pub const LLVM_MAJOR: u32 = 22;
/// Debian's package of [`LLVM_MAJOR`] to build against.
pub const LLVM_PACKAGE: &str = "llvm-22-dev";
/// Where [`LLVM_PACKAGE`] is, once installed.
pub const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
/// Shows that [`LLVM_PACKAGE`] is installed.
pub const LLVM_CONFIG: &str = "/usr/lib/llvm-22/bin/llvm-config";
/// The nightly that is installed when none with [`LLVM_MAJOR`] is there.
pub const NIGHTLY: &str = "nightly-2026-05-20";
/// The BPF linker, a crate.
pub const BPF_LINKER: &str = "0.13.0";
/// What the datapath is compiled for.
pub const TARGET: &str = "bpfel-unknown-none";

/// At the workspace's root, known to git as ignored.
const FILE: &str = ".bpf-toolchain";

/// Where the compiler comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A nightly of rustup's, which builds `core` itself.
    Rustup,
    /// Debian's rustc-web, which has `core` prebuilt.
    Debian,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Rustup => "rustup",
            Self::Debian => "debian",
        }
    }
}

/// What compiles and links the datapath. All paths are absolute.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Toolchain {
    /// Where the compiler comes from.
    pub kind: Kind,
    /// The cargo to build with.
    pub cargo: PathBuf,
    /// The compiler.
    pub rustc: PathBuf,
    /// Whether cargo must build `core` (`-Z build-std=core`).
    pub build_std: bool,
    /// bpf-linker.
    pub linker: PathBuf,
}

impl Toolchain {
    /// What the last setup found; `None` when there was none, or what it left cannot be read.
    pub fn load() -> Option<Self> {
        Self::parse(&fs::read_to_string(workspace().join(FILE)).ok()?).ok()
    }

    /// Leaves it for others to read.
    pub fn store(&self) -> Result<()> {
        fs::write(workspace().join(FILE), self.to_string()).with_context(|| format!("cannot write {FILE}"))
    }

    /// A program beside the compiler, if that toolchain has it.
    pub fn companion(&self, program: &str) -> Option<PathBuf> {
        let path = self.rustc.parent().unwrap_or(Path::new("/")).join(program);
        // Debian's /usr/bin may hold another compiler's programs.
        (self.kind == Kind::Rustup && path.is_file()).then_some(path)
    }

    fn parse(text: &str) -> Result<Self> {
        let value = |key: &str| {
            let pair = |line: &'_ str| {
                line.split_once('=').map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
            };
            let found = text.lines().filter_map(pair).find(|(name, _)| name == key);
            found.map(|(_, value)| value).with_context(|| format!("{FILE} does not say {key}"))
        };
        let kind = match value("kind")?.as_str() {
            "rustup" => Kind::Rustup,
            "debian" => Kind::Debian,
            other => bail!("{FILE} has an unknown kind {other:?}"),
        };
        Ok(Self {
            kind,
            cargo: value("cargo")?.into(),
            rustc: value("rustc")?.into(),
            build_std: value("build_std")? == "true",
            linker: value("linker")?.into(),
        })
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kind = {}", self.kind.name())?;
        writeln!(f, "cargo = {}", self.cargo.display())?;
        writeln!(f, "rustc = {}", self.rustc.display())?;
        writeln!(f, "build_std = {}", self.build_std)?;
        writeln!(f, "linker = {}", self.linker.display())
    }
}

/// The LLVM major in what `rustc -vV` prints.
pub fn llvm_major(version: &str) -> Option<u32> {
    let line = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_names_the_same_llvm() {
        assert_eq!(LLVM_PACKAGE, format!("llvm-{LLVM_MAJOR}-dev"));
        assert_eq!(LLVM_PREFIX, format!("/usr/lib/llvm-{LLVM_MAJOR}"));
        assert_eq!(LLVM_CONFIG, format!("{LLVM_PREFIX}/bin/llvm-config"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let toolchain = Toolchain {
            kind: Kind::Debian,
            cargo: "/opt/cargo".into(),
            rustc: "/usr/bin/rustc".into(),
            build_std: false,
            linker: "/opt/with = sign/bpf-linker".into(),
        };
        assert_eq!(Toolchain::parse(&toolchain.to_string()).unwrap(), toolchain);
    }

    #[test]
    fn a_file_that_lacks_a_key_is_refused() {
        assert!(Toolchain::parse("kind = rustup\ncargo = /c\nrustc = /r\nbuild_std = true\n").is_err());
        assert!(Toolchain::parse("").is_err());
    }

    #[test]
    fn the_llvm_major_is_found() {
        assert_eq!(llvm_major("rustc 1.97.0-nightly\nrelease: 1.97.0\nLLVM version: 22.1.4\n"), Some(22));
        assert_eq!(llvm_major("rustc 1.97.0-nightly\n"), None);
    }
}
