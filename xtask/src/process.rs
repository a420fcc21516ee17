//! Other programs: finding them, running them, running them as root.

use std::env;
use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The workspace's root directory.
pub fn workspace() -> PathBuf {
    // Cargo says where it runs this from; where it was compiled may be another clone with the same target directory.
    let package = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().unwrap_or(Path::new(".")).to_owned()
}

/// The cargo that runs this task, to be run in the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(cargo_path());
    command.current_dir(workspace());
    command
}

/// Where the cargo that runs this task is.
pub fn cargo_path() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// Runs to the end with this terminal; anything but success is an error that names the command.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", describe(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", describe(command));
    }
    Ok(())
}

/// Runs to the end and returns what it printed on standard output; its messages appear only if it fails.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", describe(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", describe(command), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as a person would type it.
pub fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_=+,.:/@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

/// Whether this process is root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A command that runs as root: directly, or through sudo, which asks for a password only on a terminal.
pub fn as_root(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    if !std::io::stdin().is_terminal() {
        command.arg("-n");
    }
    command.arg("--").arg(program);
    command
}

/// Whether [`as_root`] will do without asking.
pub fn can_be_root() -> bool {
    let sudo = || Command::new("sudo").args(["-n", "true"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    is_root() || sudo().is_ok_and(|status| status.success())
}

/// Looks a program up on `PATH`, and where administrators' programs are even if `PATH` leaves those out.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(administrators).map(|directory| directory.join(program)).find(|path| path.is_file())
}

/// Where BPF objects are pinned.
const BPFFS: &str = "/sys/fs/bpf";

/// Mounts the BPF file system where it belongs, unless it is there.
pub fn mount_bpffs() -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    if is_mounted(&mounts, "bpf", BPFFS) {
        return Ok(());
    }
    eprintln!("mounting the BPF file system on {BPFFS}");
    run(as_root("mount").args(["-t", "bpf", "bpf", BPFFS]))
}

fn is_mounted(mounts: &str, kind: &str, place: &str) -> bool {
    mounts.lines().any(|line| {
        let mut words = line.split(' ').skip(1);
        words.next() == Some(place) && words.next() == Some(kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_described_command_can_be_pasted() {
        let mut command = Command::new("/usr/bin/apt-get");
        command.args(["install", "-y", "a b"]);
        assert_eq!(describe(&command), "apt-get install -y 'a b'");
    }

    #[test]
    fn a_mount_is_recognised_by_place_and_kind() {
        let mounts = "sysfs /sys/fs/bpf sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n";
        assert!(is_mounted(mounts, "bpf", "/sys/fs/bpf"));
        assert!(!is_mounted("sysfs /sys/fs/bpf sysfs rw 0 0\n", "bpf", "/sys/fs/bpf"));
        assert!(!is_mounted("bpf /sys/fs/bpf/other bpf rw 0 0\n", "bpf", "/sys/fs/bpf"));
    }
}
