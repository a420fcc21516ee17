//! The command line, the socket API and the metrics as their users see them, in front of an agent of straw.

mod api;
mod change;
mod fake;
mod metrics;
mod show;
mod usage;
