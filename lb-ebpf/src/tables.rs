//! Everything that the pipeline reads besides the frame: the maps, the clock, the dice; and what it counts.
//!
//! In the kernel this is `maps.rs` of the binary; on the host, the agent's in-memory datapath. A table that lacks an
//! index answers `None`. Counting returns nothing: it cannot influence a verdict.

use lb_common::abi::{BackendRecord, DeviceRecord, ServiceBucket, Settings};
use lb_common::limits::INDEX_WAYS;
use lb_common::reason::{Direction, Verdict};

use crate::word::Word;

/// A cache line of shared words: a bucket of a session index, or a session record.
pub type Line = [Word; INDEX_WAYS];

/// The session records and their indexes: what the agent's sweep shares with packets.
pub trait SessionTables {
    /// A bucket of the index by clients' packets.
    fn flows(&self, bucket: u32) -> Option<&Line>;
    /// A bucket of the index by backends' packets.
    fn returns(&self, bucket: u32) -> Option<&Line>;
    /// A session record.
    fn session(&self, position: u32) -> Option<&Line>;
}

/// The maps, the clock and the dice.
pub trait Tables: SessionTables {
    /// The instance's settings.
    fn settings(&self) -> Option<&Settings>;
    /// The device record at `index`.
    fn device(&self, index: u32) -> Option<&DeviceRecord>;
    /// A bucket of the service table.
    fn service_bucket(&self, index: u32) -> Option<&ServiceBucket>;
    /// A slot of a service's lookup table: a backend id.
    fn slot(&self, service: u16, slot: u32) -> Option<u16>;
    /// An entry of a service's ring: a backend id.
    fn ring(&self, service: u16, index: u32) -> Option<u16>;
    /// A service's round-robin cursor.
    fn cursor(&self, service: u16) -> Option<&Word>;
    /// The backend with that id.
    fn backend(&self, id: u16) -> Option<&BackendRecord>;
    /// Now, in ticks.
    fn now(&self) -> u32;
    /// 32 random bits.
    fn random(&self) -> u32;
    /// Counts a verdict.
    fn count(&self, verdict: Verdict);
    /// Counts a packet of `bytes` through a service and a backend, and, if it `begins` one, a flow.
    fn count_traffic(&self, service: u16, backend: u16, direction: Direction, bytes: u16, begins: bool);
}

/// `value`, of which the verifier knows nothing any more.
///
/// It follows a loop with the place found as a constant, and everything after the loop once for each place. Where such
/// loops follow each other that multiplies beyond its limit. Adding a zero that it cannot know ends it at no cost.
#[inline(always)]
pub const fn forget(settings: &Settings, value: u32) -> u32 {
    value.wrapping_add(settings.zero)
}
