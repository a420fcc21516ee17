//! From a file's path or text to a valid config, or to everything that is wrong with it.

use std::io;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::diagnostic::{Diagnostic, diagnose, render};
use super::fault::Fault;
use super::model::Config;
use super::{read, rules, settings};

/// Why there is no config.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read at all.
    #[error("config file {}: {cause}: {}", path.display(), way_out(cause.kind()))]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The file has faults.
    #[error("{}", report(path, text, diagnostics, false))]
    Invalid {
        /// Which.
        path: PathBuf,
        /// What it says.
        text: String,
        /// All of them, in the order of the text. At least one.
        diagnostics: Vec<Diagnostic>,
    },
}

impl ConfigError {
    /// The whole error as a terminal shows it.
    pub fn render(&self, colour: bool) -> String {
        match self {
            Self::Unreadable { .. } => self.to_string(),
            Self::Invalid { path, text, diagnostics } => report(path, text, diagnostics, colour),
        }
    }
}

fn report(path: &Path, text: &str, diagnostics: &[Diagnostic], colour: bool) -> String {
    let name = path.display().to_string();
    let faults = if diagnostics.len() == 1 { "fault" } else { "faults" };
    format!("config file {name}: {} {faults}\n{}", diagnostics.len(), render(diagnostics, &name, text, colour))
}

/// What to do about a file that cannot be read.
fn way_out(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "write one (examples/weir.toml is a start), or name another with --config",
        io::ErrorKind::PermissionDenied => "run as a user who may read it, or change its mode",
        io::ErrorKind::InvalidData => "save it as UTF-8",
        io::ErrorKind::IsADirectory => "name the file in it",
        _ => "make it readable, or name another with --config",
    }
}

/// Reads and validates the file at `path`.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
    parse(&path.display().to_string(), &text).map_err(|diagnostics| ConfigError::Invalid {
        path: path.to_owned(),
        text,
        diagnostics,
    })
}

/// Validates `text`; `file_name` is for the diagnostics. A text that is not TOML has one, the first.
pub fn parse(file_name: &str, text: &str) -> Result<Config, Vec<Diagnostic>> {
    validate(text).map_err(|faults| diagnose(file_name, text, faults))
}

fn validate(text: &str) -> Result<Config, Vec<Fault>> {
    let document = DeTable::parse(text).map_err(|error| {
        let fault = Fault::invalid(error.span().unwrap_or(0..0), format!("this is not TOML: {}", error.message()));
        vec![fault.hint("see https://toml.io for the syntax")]
    })?;
    let (file, mut faults) = read::file(&document);
    faults.extend(settings::check(&file));
    faults.extend(rules::services(&file.services));
    // Whatever is not in the model has left a fault, so that there is none only if there is a model.
    file.to_model().filter(|_| faults.is_empty()).ok_or(faults)
}
