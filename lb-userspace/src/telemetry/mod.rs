//! Metrics: what is counted, as Prometheus reads it.
