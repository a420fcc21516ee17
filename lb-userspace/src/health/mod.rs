//! Active probing: a pure state machine per backend, and the probes' I/O around it.

use serde::{Deserialize, Serialize};

/// What probes say about a backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// No probe has ended yet: takes no new flows.
    Unknown,
    /// Answers.
    Healthy,
    /// Does not answer: takes no new flows, keeps the ones it has.
    Unhealthy,
}

impl Health {
    /// The name in commands and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}
