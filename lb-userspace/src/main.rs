//! weir.

use std::process::ExitCode;

use lb_userspace::cli::{self, ExitKind, RunError};

fn main() -> ExitCode {
    cli::main(|options| {
        let failed = |message| RunError { exit: ExitKind::Failed, message };
        Err(failed(format!("instance \"{}\": this build of weir has no agent", options.instance)))
    })
}
