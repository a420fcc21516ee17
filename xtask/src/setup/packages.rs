//! System packages: which are wanted and how one sees that they are there; apt-get gets the missing ones.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::{Journal, step};
use crate::process::{as_root, find, output};
use crate::toolchain::{LLVM_CONFIG, LLVM_PACKAGE};

/// What a package is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Every build.
    Build,
    /// Building bpf-linker.
    Linker,
    /// Debian's way to compile for BPF.
    Compiler,
    /// Tests, lab and demo: a machine without these can still build.
    Tests,
}

/// A Debian package.
struct Package {
    name: &'static str,
    shows: Shows,
    purpose: Purpose,
}

/// How one sees that a package is there, whoever installed it.
enum Shows {
    /// By a program on `PATH`.
    Program(&'static str),
    /// By a file.
    File(&'static str),
    /// By a directory that holds a file whose name begins so.
    Prefix(&'static str, &'static str),
}

use Purpose::{Build, Compiler, Linker, Tests};
use Shows::{File, Prefix, Program};

const PACKAGES: [Package; 17] = [
    Package { name: "gcc", shows: Program("cc"), purpose: Build },
    Package { name: "libc6-dev", shows: File("/usr/include/stdio.h"), purpose: Build },
    Package { name: "git", shows: Program("git"), purpose: Build },
    Package { name: "g++", shows: Program("c++"), purpose: Linker },
    Package { name: "pkg-config", shows: Program("pkg-config"), purpose: Linker },
    Package { name: LLVM_PACKAGE, shows: File(LLVM_CONFIG), purpose: Linker },
    Package { name: "libzstd-dev", shows: File("/usr/include/zstd.h"), purpose: Linker },
    Package { name: "zlib1g-dev", shows: File("/usr/include/zlib.h"), purpose: Linker },
    Package { name: "rustc-web", shows: File("/usr/bin/rustc"), purpose: Compiler },
    Package {
        name: "libstd-rust-web-dev-bpf",
        shows: Prefix("/usr/lib/rustlib/bpfel-unknown-none/lib", "libcore-"),
        purpose: Compiler,
    },
    Package { name: "iproute2", shows: Program("ip"), purpose: Tests },
    Package { name: "ethtool", shows: Program("ethtool"), purpose: Tests },
    Package { name: "bpftool", shows: Program("bpftool"), purpose: Tests },
    Package { name: "tcpdump", shows: Program("tcpdump"), purpose: Tests },
    Package { name: "curl", shows: Program("curl"), purpose: Tests },
    Package { name: "iperf3", shows: Program("iperf3"), purpose: Tests },
    Package { name: NGINX, shows: Program("nginx"), purpose: Tests },
];

/// The one package that starts a service when it is installed.
const NGINX: &str = "nginx-light";

impl Package {
    fn is_there(&self) -> bool {
        match self.shows {
            Program(program) => find(program).is_some(),
            File(file) => Path::new(file).exists(),
            Prefix(directory, prefix) => has_file(Path::new(directory), prefix),
        }
    }
}

/// Whether `directory` holds a file whose name begins with `prefix`.
pub fn has_file(directory: &Path, prefix: &str) -> bool {
    let names = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.into_iter().any(|name| name.to_string_lossy().starts_with(prefix))
}

/// Packages that are wanted for `purpose` and not there.
fn missing(purpose: Purpose) -> Vec<&'static str> {
    let wanted = PACKAGES.iter().filter(|package| package.purpose == purpose);
    wanted.filter(|package| !package.is_there()).map(|package| package.name).collect()
}

/// The package manager; its lists are brought up to date once, and only if something is to be installed.
#[derive(Default)]
pub struct Apt {
    updated: bool,
}

impl Apt {
    /// Installs what is missing for `purpose`. What only tests need may stay missing: that is said, and no error.
    pub fn ensure(&mut self, purpose: Purpose, journal: &mut Journal) -> Result<()> {
        let missing = missing(purpose);
        if missing.is_empty() {
            return Ok(());
        }
        if find("apt-get").is_none() {
            return lack(purpose, &missing, "this machine has no apt-get, so get that by its own means");
        }
        self.update(journal)?;
        let (there, lacking): (Vec<&str>, Vec<&str>) = missing.into_iter().partition(|name| has_candidate(name));
        if !there.is_empty() {
            install(&there, journal)?;
        }
        if !lacking.is_empty() {
            return lack(purpose, &lacking, "this machine's package sources do not have that");
        }
        let broken = self::missing(purpose);
        if broken.is_empty() {
            return Ok(());
        }
        let mend = format!("its files are gone; mend it with: apt-get install --reinstall {}", broken.join(" "));
        lack(purpose, &broken, &mend)
    }

    fn update(&mut self, journal: &mut Journal) -> Result<()> {
        if !self.updated {
            journal.announce("bringing the package lists up to date");
            step(apt_get().args(["-q", "update"]))?;
            self.updated = true;
        }
        Ok(())
    }
}

fn apt_get() -> Command {
    let mut command = as_root("env");
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=120"]);
    command
}

fn has_candidate(name: &str) -> bool {
    let policy = output(Command::new("apt-cache").args(["policy", name])).unwrap_or_default();
    policy.lines().any(|line| line.trim().strip_prefix("Candidate: ").is_some_and(|version| version != "(none)"))
}

fn install(names: &[&str], journal: &mut Journal) -> Result<()> {
    journal.announce(&format!("installing {}", names.join(", ")));
    let before = processes("nginx");
    // --no-remove: what is here already is not ours to take away.
    step(apt_get().args(["-q", "install", "-y", "--no-install-recommends", "--no-remove"]).args(names))?;
    if names.contains(&NGINX) && processes("nginx") != before {
        stop_nginx(&before, journal)?;
    }
    Ok(())
}

/// The package starts nginx as a service; the tests start their own.
fn stop_nginx(before: &BTreeSet<u32>, journal: &mut Journal) -> Result<()> {
    journal.announce("stopping the nginx service, which the package has just started");
    if Path::new("/run/systemd/system").exists() {
        step(as_root("systemctl").args(["disable", "--now", "nginx"]))?;
    } else {
        step(as_root("service").args(["nginx", "stop"]))?;
    }
    if processes("nginx").is_subset(before) {
        return Ok(());
    }
    bail!("nginx was started by its package and still runs; mend it with: nginx -s quit")
}

/// Processes of that name.
fn processes(name: &str) -> BTreeSet<u32> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_named = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name);
    numbers.filter(is_named).collect()
}

fn lack(purpose: Purpose, names: &[&str], why: &str) -> Result<()> {
    let names = names.join(", ");
    match purpose {
        Build => bail!("building needs {names}; {why}"),
        Linker => bail!("building bpf-linker needs {names}; {why}"),
        Compiler => bail!("compiling for BPF by Debian's compiler needs {names}; {why}"),
        Tests => {
            eprintln!("setup: some tests, the lab or the demo need {names}; {why}");
            Ok(())
        }
    }
}
