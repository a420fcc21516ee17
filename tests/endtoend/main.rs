//! Stories from the outside: the agent in a lab, clients and backends around it, and what they see.
//!
//! Each story makes a lab of its own; one runs at a time. `lab` is about the lab and its tools themselves.

mod attach;
mod cleanup;
mod config;
mod expiry;
mod failover;
mod lab;
mod network;
mod passthrough;
mod payload;
mod reload;
mod restart;
mod scene;
mod spread;
mod wire;
