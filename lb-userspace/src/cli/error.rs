//! What a command can end with: exit codes, and errors in words or as JSON.

use std::io::{self, Write};

use clap::error::ErrorKind;
use serde_json::json;

use crate::api::client::ClientError;
use crate::api::types::{Refusal, RefusalCode};

/// Why a command did not end well. Success is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitKind {
    /// It failed, or the agent refused it.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The config is not valid.
    BadConfig = 3,
    /// No agent answers.
    Unreachable = 4,
    /// The host cannot do it: kernel, driver, privilege.
    HostCannot = 5,
}

impl ExitKind {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The stable `code` in JSON errors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::BadConfig => "bad-config",
            Self::Unreachable => "unreachable",
            Self::HostCannot => "host-cannot",
        }
    }
}

/// Why `weir run` ended badly.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[error("{message}")]
pub struct RunError {
    /// What kind of failure.
    pub exit: ExitKind,
    /// What object, why, and what to do about it.
    pub message: String,
}

/// Why a command ended badly.
#[derive(thiserror::Error, Debug)]
pub(super) enum CliError {
    /// It can be told.
    #[error("{message}")]
    Told { exit: ExitKind, code: &'static str, message: String, hint: Option<String> },
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// A command line that makes no sense, found out after parsing.
    pub(super) fn usage(message: impl Into<String>, hint: &str) -> Self {
        let exit = ExitKind::Usage;
        Self::Told { exit, code: exit.name(), message: message.into(), hint: Some(hint.into()) }
    }

    /// A failure on this side of the socket.
    pub(super) fn failed(message: impl Into<String>, hint: Option<String>) -> Self {
        let exit = ExitKind::Failed;
        Self::Told { exit, code: exit.name(), message: message.into(), hint }
    }

    /// What the host, or whoever runs the command, cannot do.
    pub(super) fn host(message: impl Into<String>) -> Self {
        let exit = ExitKind::HostCannot;
        Self::Told { exit, code: exit.name(), message: message.into(), hint: None }
    }

    /// A config that is not valid.
    pub(super) fn config(message: impl Into<String>) -> Self {
        let exit = ExitKind::BadConfig;
        Self::Told { exit, code: exit.name(), message: message.into(), hint: None }
    }

    pub(super) const fn exit(&self) -> ExitKind {
        match self {
            Self::Told { exit, .. } => *exit,
            Self::Output(_) => ExitKind::Failed,
        }
    }

    /// Tells it on `err`.
    pub(super) fn report(&self, err: &mut dyn Write, json: bool) -> io::Result<()> {
        let (code, hint) = match self {
            Self::Told { code, hint, .. } => (*code, hint.as_deref()),
            Self::Output(_) => (ExitKind::Failed.name(), None),
        };
        let message = self.to_string();
        if json {
            return writeln!(err, "{}", json!({"error": {"code": code, "message": message, "hint": hint}}));
        }
        // Messages about a config come with their own heading.
        let heading = if message.starts_with("error") { "" } else { "error: " };
        writeln!(err, "{heading}{}", message.trim_end())?;
        hint.map_or(Ok(()), |hint| writeln!(err, "hint: {hint}"))
    }
}

impl From<clap::Error> for CliError {
    fn from(error: clap::Error) -> Self {
        if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return Self::usage("a command is missing", "see: weir --help");
        }
        let text = error.to_string();
        let (message, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
        let message = message.strip_prefix("error: ").unwrap_or(message).trim_end();
        let line = |start| rest.lines().find_map(move |line| line.trim_start().strip_prefix(start));
        let usage = line("Usage: ").map(|usage| format!("usage: {usage}"));
        let hint = line("tip: ").map(ToOwned::to_owned).or(usage);
        Self::usage(message, hint.as_deref().unwrap_or("see: weir --help"))
    }
}

impl From<Refusal> for CliError {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.code {
            RefusalCode::NotFound => "not-found",
            RefusalCode::Conflict => "conflict",
            RefusalCode::Invalid => "invalid",
            RefusalCode::Failed => "failed",
        };
        Self::Told { exit: ExitKind::Failed, code, message: refusal.message, hint: refusal.hint }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let exit = match error {
            ClientError::Refused(refusal) => return refusal.into(),
            ClientError::Unreachable { .. } => ExitKind::Unreachable,
            ClientError::Answer { .. } => ExitKind::Failed,
        };
        Self::Told { exit, code: exit.name(), hint: error.hint(), message: error.to_string() }
    }
}

impl From<RunError> for CliError {
    fn from(RunError { exit, message }: RunError) -> Self {
        Self::Told { exit, code: exit.name(), message, hint: None }
    }
}
