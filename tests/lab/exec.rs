//! `exec`: becomes another command inside a network namespace.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::Args;
use harness::netns;

/// As of shells: it cannot be started, or there is none.
const CANNOT_START: u8 = 126;
const NOT_FOUND: u8 = 127;

/// What to run where.
#[derive(Args)]
pub struct Exec {
    /// The namespace's name, as ip netns shows it
    namespace: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

impl Exec {
    /// Returns only when it fails: otherwise this process is the command from then on.
    pub fn run(self) -> ExitCode {
        if !Path::new(netns::DIRECTORY).join(&self.namespace).exists() {
            eprintln!("weir-lab: there is no namespace {} (weir-lab status shows a lab's)", self.namespace);
            return ExitCode::FAILURE;
        }
        if let Err(error) = netns::enter(&self.namespace) {
            eprintln!("weir-lab: {error:#}");
            return ExitCode::FAILURE;
        }
        let Some((program, arguments)) = self.command.split_first() else { return ExitCode::FAILURE };
        let error = Command::new(program).args(arguments).exec();
        eprintln!("weir-lab: {}: {error}", program.to_string_lossy());
        ExitCode::from(if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { CANNOT_START })
    }
}
