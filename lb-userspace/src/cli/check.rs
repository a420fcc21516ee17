//! `weir config check`: every fault of a config file, without an agent.

use std::path::Path;

use serde_json::json;

use super::args::Output;
use super::error::CliError;
use super::{Io, output};
use crate::config::{self, ConfigError};

/// Succeeds if the agent would take the file.
pub(super) fn run(file: &Path, form: Output, io: &mut Io<'_>) -> Result<(), CliError> {
    match (config::load(file), form) {
        (Ok(_), Output::Table) => Ok(writeln!(io.out, "{}: no faults", file.display())?),
        (Ok(_), Output::Json) => {
            Ok(io.out.write_all(output::pretty(&json!({ "file": file, "faults": [] }))?.as_bytes())?)
        }
        (Err(ConfigError::Invalid { diagnostics, .. }), Output::Json) => {
            let faults = output::pretty(&json!({ "file": file, "faults": diagnostics }))?;
            io.out.write_all(faults.as_bytes())?;
            Err(CliError::config(format!("{}: {} faults", file.display(), diagnostics.len())))
        }
        (Err(error), Output::Table) => Err(CliError::config(error.render(io.colour))),
        (Err(error), Output::Json) => Err(CliError::config(error.to_string())),
    }
}
