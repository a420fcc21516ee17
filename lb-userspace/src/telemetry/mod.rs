//! What the agent tells of itself: metrics for Prometheus, and log records.

pub mod logging;
pub mod metrics;
pub mod server;
