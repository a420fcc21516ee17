//! The `weir` binary: hands the command line to the library, and the agent's errors their exit codes.

use std::process::ExitCode;

use lb_userspace::agent::{self, AgentError};
use lb_userspace::cli::{self, ExitKind, RunError};
use lb_userspace::telemetry;

fn main() -> ExitCode {
    cli::main(|options| {
        telemetry::logging::init(&options.log)
            .map_err(|error| RunError { exit: ExitKind::Usage, message: error.to_string() })?;
        agent::run(&options).map_err(|error| RunError { exit: exit(&error), message: error.to_string() })
    })
}

fn exit(error: &AgentError) -> ExitKind {
    match error {
        AgentError::Config(_) | AgentError::Conflict(_) => ExitKind::BadConfig,
        AgentError::Host(_) | AgentError::Load(_) | AgentError::Network(_) | AgentError::Datapath(_) => {
            ExitKind::HostCannot
        }
        AgentError::Socket(_)
        | AgentError::Overrides(_)
        | AgentError::File { .. }
        | AgentError::Metrics(_)
        | AgentError::System { .. } => ExitKind::Failed,
    }
}
