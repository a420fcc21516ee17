//! Log records to standard error, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::agent::options::{LogFormat, LogOptions};

/// Why logging cannot be set up.
#[derive(thiserror::Error, Debug)]
pub enum LoggingError {
    /// The filter is not one.
    #[error("log level \"{filter}\": {cause}; use error, warn, info, debug or trace")]
    Filter {
        /// What was asked for.
        filter: String,
        /// What is wrong with it.
        cause: tracing_subscriber::filter::ParseError,
    },
    /// The process logs already.
    #[error("logging was set up before")]
    Twice,
}

/// Sends the process's log records to standard error from now on. Colours only on a terminal without `NO_COLOR`.
pub fn init(options: &LogOptions) -> Result<(), LoggingError> {
    let filter = EnvFilter::builder()
        .parse(&options.filter)
        .map_err(|cause| LoggingError::Filter { filter: options.filter.clone(), cause })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let done = match options.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal() && !no_color()).try_init(),
    };
    done.map_err(|_| LoggingError::Twice)
}

/// Whether the user wants no colours: `NO_COLOR` is set, and not empty (no-color.org).
pub fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}
