//! `weir run`: from arguments to the agent's options.

use std::path::PathBuf;

use super::args::RunArgs;
use super::error::{CliError, RunError};
use crate::agent::options::{InstanceName, LogOptions, RunOptions};

pub(super) fn run(
    args: RunArgs,
    instance: InstanceName,
    socket: PathBuf,
    run_agent: impl FnOnce(RunOptions) -> Result<(), RunError>,
) -> Result<(), CliError> {
    let log = LogOptions { format: args.log_format, filter: args.log_level };
    Ok(run_agent(RunOptions { config: args.config, instance, state_dir: args.state_dir, socket, log })?)
}
