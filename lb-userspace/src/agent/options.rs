//! What one run of the agent is told from outside: which instance, which config, where its files are.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use lb_common::names::INSTANCE_DEFAULT;

/// Longest name of an instance, in bytes.
pub const INSTANCE_NAME_MAX: usize = 32;

/// An instance's name. It becomes part of paths, so it holds nothing but lowercase letters, digits, `-` and `_`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct InstanceName(String);

impl InstanceName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for InstanceName {
    fn default() -> Self {
        Self(INSTANCE_DEFAULT.to_owned())
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for InstanceName {
    type Err = InstanceNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        if (1..=INSTANCE_NAME_MAX).contains(&name.len()) && name.bytes().all(allowed) {
            Ok(Self(name.to_owned()))
        } else {
            Err(InstanceNameError)
        }
    }
}

/// A text that cannot name an instance.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
#[error("an instance's name is 1 to {INSTANCE_NAME_MAX} lowercase letters, digits, \"-\" and \"_\"")]
pub struct InstanceNameError;

/// Everything that `weir run` tells the agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunOptions {
    /// The config file.
    pub config: PathBuf,
    /// The instance to serve.
    pub instance: InstanceName,
    /// Where changes made at run time are kept; `INSTANCE/` below it is ours.
    pub state_dir: PathBuf,
    /// The socket to answer on.
    pub socket: PathBuf,
    /// How to log.
    pub log: LogOptions,
}

/// How the agent logs, to standard error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogOptions {
    /// The records' form.
    pub format: LogFormat,
    /// A level, or `tracing-subscriber`'s directives, such as `info,lb_userspace::health=debug`.
    pub filter: String,
}

/// The form of log records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object in each line.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_its_directory_is_refused() {
        for name in ["", ".", "..", "a/b", "../x", "A", "a b", "a.b", "ä", &"x".repeat(33)] {
            assert_eq!(name.parse::<InstanceName>(), Err(InstanceNameError), "{name:?}");
        }
        for name in ["a", "default", "edge-1_b", &"x".repeat(32)] {
            assert_eq!(name.parse::<InstanceName>().unwrap().as_str(), name);
        }
    }
}
