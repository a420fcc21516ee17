//! What a test needs of the machine, and how it steps aside where that is missing.

use std::fmt;
use std::path::Path;

/// One thing that a test cannot do without.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// User id 0.
    Root,
    /// The capability to change networks.
    NetAdmin,
    /// The capability to open raw sockets.
    NetRaw,
    /// The capability to load BPF programs.
    Bpf,
    /// The capability to let BPF programs use pointers freely.
    Perfmon,
    /// The capability to mount and to enter namespaces.
    SysAdmin,
    /// A program on the search path.
    Command(&'static str),
    /// The `weir` binary, built.
    Weir,
}

impl Need {
    /// Whether it is there.
    pub fn is_met(self) -> bool {
        match self {
            Self::Root => nix::unistd::Uid::effective().is_root(),
            Self::NetAdmin => has_capability(12),
            Self::NetRaw => has_capability(13),
            Self::SysAdmin => has_capability(21),
            Self::Perfmon => has_capability(38),
            Self::Bpf => has_capability(39),
            Self::Command(name) => is_on_path(name),
            Self::Weir => crate::agent::binary().is_ok(),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::NetAdmin => f.write_str("CAP_NET_ADMIN"),
            Self::NetRaw => f.write_str("CAP_NET_RAW"),
            Self::SysAdmin => f.write_str("CAP_SYS_ADMIN"),
            Self::Perfmon => f.write_str("CAP_PERFMON"),
            Self::Bpf => f.write_str("CAP_BPF"),
            Self::Command(name) => write!(f, "the command {name}"),
            Self::Weir => f.write_str("the weir binary (built, or named by WEIR_BIN)"),
        }
    }
}

/// What making a lab needs.
pub const LAB: [Need; 7] = [
    Need::Root,
    Need::NetAdmin,
    Need::NetRaw,
    Need::SysAdmin,
    Need::Bpf,
    Need::Command("ip"),
    Need::Command("ethtool"),
];
/// What running the agent needs beyond [`LAB`].
pub const AGENT: [Need; 2] = [Need::Perfmon, Need::Weir];

/// Whether a test can run here: `if !require("name", &[...]) { return; }`.
///
/// Where something is missing it says so. With `CI=true` in the environment that is a panic: there, nothing is skipped.
pub fn require(test: &str, needs: &[Need]) -> bool {
    let missing: Vec<String> = needs.iter().filter(|need| !need.is_met()).map(Need::to_string).collect();
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join(", ");
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{test} needs {missing}, and CI skips nothing");
    eprintln!("skipped: {test} needs {missing}");
    false
}

fn has_capability(number: u32) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/thread-self/status") else { return false };
    let effective = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    effective.is_some_and(|set| set >> number & 1 == 1)
}

fn is_on_path(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| is_program(&dir.join(name))))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|of| of.is_file() && of.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_on_the_path_alone() {
        assert!(Need::Command("sh").is_met());
        assert!(!Need::Command("no-such-command-anywhere").is_met());
    }

    #[test]
    fn what_is_met_does_not_stop_a_test() {
        assert!(require("this", &[]));
        assert!(require("this", &[Need::Command("sh")]));
    }
}
