//! Active probing: a pure state machine per backend, and the probes' I/O around it.

use std::time::Instant;

use serde::{Deserialize, Serialize};

pub mod probe;
pub mod prober;
pub mod state;

pub use probe::{ProbeError, ProbeResult};
pub use prober::{HealthView, Prober, Target};
pub use state::{Check, HealthState};

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

/// What is known about a backend's health.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthStatus {
    /// What probes say.
    pub health: Health,
    /// The last probe's failure, as a sentence; gone once the backend is healthy and answers.
    pub detail: Option<String>,
    /// When the health last changed, or probing began.
    pub since: Instant,
}
