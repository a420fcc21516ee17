//! What the lab's load generator and connection holder print: one JSON object each. Field names are kept.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The result of `weir-lab load`. Times are milliseconds since the epoch.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct LoadReport {
    /// Requests that were started.
    pub requests: u64,
    /// Those that a status of 2xx and a whole body answered.
    pub ok: u64,
    /// The others.
    pub failed: u64,
    /// How many of `ok` each backend answered.
    pub by_backend: BTreeMap<String, u64>,
    /// The first hundred failures, by the time of their start.
    pub failures: Vec<Failure>,
    /// When the failed request that was started last was started.
    pub last_failure_ms: Option<u64>,
    /// When the first request was started.
    pub started_ms: u64,
    /// When the last one was over.
    pub ended_ms: u64,
    /// Times from connect to the answer's last byte, of `ok`.
    pub latency_us: Latency,
    /// Start and backend of each of `ok`, in the order of their starts, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Vec<(u64, String)>>,
}

/// A request that failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// When it was started.
    pub at_ms: u64,
    /// When it had failed.
    pub failed_at_ms: u64,
    /// What happened.
    pub error: String,
}

/// Quantiles, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// Half took no longer.
    pub p50: u64,
    /// Nine in ten took no longer.
    pub p90: u64,
    /// All but one in a hundred took no longer.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

impl Latency {
    /// The quantiles of some times; zeros when there are none.
    pub fn of(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100).max(1);
            times.get(rank - 1).copied().unwrap_or_default()
        };
        Self { p50: at(50), p90: at(90), p99: at(99), max: at(100) }
    }
}

/// The result of `weir-lab hold`.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct HoldReport {
    /// Connections that were asked for.
    pub connections: u64,
    /// Those that were not opened, ended early, or left a line without its answer.
    pub broken: u64,
    /// Those that another backend answered than the first time.
    pub moved: u64,
    /// Right answers.
    pub answers: u64,
    /// Connections by the backend that answered first.
    pub by_backend: BTreeMap<String, u64>,
    /// Of `broken`, by the backend that answered first; empty name: none did.
    pub broken_by_backend: BTreeMap<String, u64>,
    /// The first hundred errors.
    pub errors: Vec<String>,
}

/// How many failures and errors a report shows.
pub const SHOWN_MAX: usize = 100;

/// Milliseconds since the epoch.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        assert_eq!(Latency::of((1..=200).rev().collect()), Latency { p50: 100, p90: 180, p99: 198, max: 200 });
        assert_eq!(Latency::of(vec![7]), Latency { p50: 7, p90: 7, p99: 7, max: 7 });
        assert_eq!(Latency::of(vec![]), Latency::default());
    }

    #[test]
    fn samples_are_absent_unless_asked_for() {
        let report = LoadReport::default();
        assert!(!serde_json::to_string(&report).unwrap().contains("samples"));
    }
}
