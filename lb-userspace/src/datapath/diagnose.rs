//! Turns what the kernel says, which is little, into what happened and what to do about it.

use std::fmt::Write as _;

use aya::EbpfError;
use aya::programs::ProgramError;
use aya::programs::xdp::XdpMode;

use super::load::LoadError;

/// Lines of the verifier's log that are shown: the reason stands at its end.
const LOG_LINES: usize = 20;

/// The object was not loaded.
pub(super) fn load(error: &EbpfError) -> LoadError {
    let cause = chain(error);
    LoadError::Refused { what: "making the BPF maps".into(), hint: privilege_hint(&cause), cause }
}

/// A program was not loaded.
pub(super) fn verify(program: &str, error: &ProgramError) -> LoadError {
    let what = format!("loading program {program}");
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
        let cause = format!("{io_error}; the verifier's last words:\n  {tail}\n");
        return LoadError::Refused { what, hint: privilege_hint(&io_error.to_string()), cause };
    }
    let cause = chain(error);
    LoadError::Refused { what, hint: privilege_hint(&cause), cause }
}

/// The program was not attached.
pub(super) fn attach(interface: &str, ifindex: u32, mode: XdpMode, error: &ProgramError) -> LoadError {
    let cause = chain(error);
    let mode_name = if matches!(mode, XdpMode::Driver) { "native" } else { "generic" };
    let number = match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    let hint = match number {
        Some(libc::EBUSY | libc::EEXIST) => format!(
            "another XDP program is on it (see: bpftool net show dev {interface}); take that one off first, for one put there \
             by hand: ip link set {interface} xdp off"
        ),
        Some(libc::EOPNOTSUPP) => {
            "the driver has no native XDP; with mode = \"auto\" or \"generic\" it runs in the stack, which is slow"
                .into()
        }
        Some(libc::EINVAL | libc::ERANGE | libc::E2BIG) => format!(
            "the driver refused: usually an MTU above about 3500 bytes, LRO switched on, or too few queues (see: dmesg; ip link \
             show {interface}; ethtool -k {interface}; ethtool -l {interface})"
        ),
        Some(libc::ENODEV) => format!("interface {ifindex} is gone (see: ip link)"),
        _ => privilege_hint(&cause),
    };
    LoadError::Refused { what: format!("interface \"{interface}\": attaching in {mode_name} mode"), cause, hint }
}

/// Somebody else's program is on the interface.
pub(super) fn foreign(interface: &str, program_id: u32) -> LoadError {
    let name = aya::programs::loaded_programs()
        .flatten()
        .find(|program| program.id() == program_id)
        .and_then(|program| program.name_as_str().map(|name| format!(" (\"{name}\")")))
        .unwrap_or_default();
    LoadError::Refused {
        what: format!("interface \"{interface}\": attaching"),
        cause: format!("XDP program {program_id}{name} is on it already, and this instance did not put it there"),
        hint: format!(
            "if it is another instance's, run: weir --instance NAME detach; if it was put there by hand: ip link set {interface} \
             xdp off"
        ),
    }
}

fn privilege_hint(cause: &str) -> String {
    if cause.contains("Operation not permitted") || cause.contains("os error 1)") {
        "weir run needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON".into()
    } else {
        "weir needs Linux 6.1 or newer with BPF (see: uname -r)".into()
    }
}

/// An error with everything behind it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.to_string();
        if !text.contains(&told) {
            let _written = write!(text, ": {told}");
        }
        source = cause.source();
    }
    text
}
