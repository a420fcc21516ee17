//! The agent and the command line of Weir, as a library so that the tests can reach every room.
//!
//! The rooms and who may know whom: ARCHITECTURE.md.

pub mod agent;
pub mod api;
pub mod cli;
pub mod config;
pub mod control;
pub mod datapath;
pub mod health;
pub mod network;
pub mod telemetry;
