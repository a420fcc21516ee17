//! The datapath as the agent sees it: maps to read and write, sessions to sweep.
//!
//! Two of them exist: the kernel's (`bpf`, through aya) and one in memory (`memory`), on which the same packet
//! pipeline runs for tests. What one does the other does too, or a test fails.

pub mod bpf;
mod diagnose;
pub mod lines;
pub mod load;
pub mod memory;
pub mod services;
pub mod sweep;
#[cfg(feature = "trace")]
mod trace;

use std::collections::{BTreeMap, BTreeSet};

use lb_common::abi::TrafficStats;
use lb_common::reason::COUNTERS;

use crate::control::image::{Image, Step};

/// Why the datapath could not do something.
#[derive(thiserror::Error, Debug)]
pub enum DatapathError {
    /// The kernel refused an operation on a map.
    #[error("map {map}: {operation} failed: {cause}")]
    Map {
        /// The map's name.
        map: &'static str,
        /// What was asked of it.
        operation: &'static str,
        /// What the kernel said.
        cause: String,
    },
    /// The service table has no room where this service belongs.
    #[error("service table: no room for one more service in its bucket; remove a service, or give one another port")]
    ServiceTableFull,
    /// A step that does not fit the maps: a mistake in the plan.
    #[error("step does not fit the maps: {0}")]
    Step(String),
}

/// What the agent needs of a datapath.
pub trait Datapath: Send {
    /// Reads back what every map holds.
    fn read(&self) -> Result<Image, DatapathError>;

    /// Applies one step. Idempotent.
    fn apply(&mut self, step: &Step) -> Result<(), DatapathError>;

    /// The verdict counters, summed over CPUs, by [`lb_common::reason::Counter`].
    fn counters(&self) -> Result<[u64; COUNTERS], DatapathError>;

    /// What went through each of the services and backends asked for, summed over CPUs, by id.
    fn traffic(&self, services: &[u16], backends: &[u16]) -> Result<Traffic, DatapathError>;

    /// Empties the statistics of an id that is about to be used again.
    fn reset_traffic(&mut self, services: &[u16], backends: &[u16]) -> Result<(), DatapathError>;

    /// Frees dead sessions, and all sessions of the backends in `purge`; counts the rest.
    fn sweep(&mut self, purge: &BTreeSet<u16>) -> Result<Sweep, DatapathError>;
}

/// What went through services and backends.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Traffic {
    /// By service id.
    pub services: BTreeMap<u16, TrafficStats>,
    /// By backend id.
    pub backends: BTreeMap<u16, TrafficStats>,
}

/// What a sweep over the sessions found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Sweep {
    /// Live sessions by backend id.
    pub sessions: BTreeMap<u16, SessionCount>,
    /// Dead or purged sessions that were freed.
    pub freed: u64,
}

/// Live sessions of one backend.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SessionCount {
    /// Those that can still carry data.
    pub open: u64,
    /// Those whose tuple is in quarantine after the connection's end.
    pub closing: u64,
}
