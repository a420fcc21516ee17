//! Map keys and values: what the agent writes and the datapath reads. (What both write: [`crate::session`].)
//!
//! Integers and byte arrays only, no padding, sizes asserted: any bit pattern is a valid value. Change one, raise
//! [`crate::ABI_VERSION`].

use crate::addr::{Address, Hop, Port, Protocol};
use crate::hash::HashKey;
use crate::limits::{SERVICE_WAYS, SLOTS_PER_LINE};
use crate::session::TIMEOUTS;

/// What every packet reads: one value, replaced whole.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// [`crate::ABI_VERSION`] of whoever wrote this.
    pub abi_version: u32,
    /// Number of buckets in each session index, less one; the number is a power of two.
    pub bucket_mask: u32,
    /// First port of the range that NAT uses towards backends, as a number.
    pub nat_port_first: u16,
    /// Number of ports in that range; 0 when nothing is ever rewritten to the balancer's own address.
    pub nat_port_count: u16,
    /// [`SETTING_PRESERVE`] and what may follow.
    pub flags: u32,
    /// How long a session may be silent before it is dead, in ticks, by [`crate::session::Phase`].
    pub timeouts: [u32; TIMEOUTS],
    /// How old a closing session must be, in ticks, before a flow that finds no other port may take its port.
    pub reuse_ticks: u32,
    /// Always 0, which the verifier does not know: see `lb_ebpf::tables::forget`.
    pub zero: u32,
    /// The flow hash's secret.
    pub hash_key: HashKey,
}

/// Some service preserves the client's address, so any packet may be a backend's answer.
pub const SETTING_PRESERVE: u32 = 1;

/// A network device that the program is attached to, by device index.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DeviceRecord {
    /// The kernel's interface index; 0 when the record is empty.
    pub ifindex: u32,
    /// Not used.
    pub reserved: u32,
    /// The device's own MAC; its device part is this record's index.
    pub mac: Hop,
}

/// How a service's new flows find a backend.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Policy {
    /// By the flow's hash through the lookup table.
    Maglev = 1,
    /// By the service's cursor through the ring.
    RoundRobin = 2,
    /// By a random slot of the lookup table.
    Random = 3,
}

impl Policy {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Maglev, Self::RoundRobin, Self::Random];

    /// The name in commands, config and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Maglev => "maglev",
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
        }
    }

    /// The inverse of `as u8`.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Maglev),
            2 => Some(Self::RoundRobin),
            3 => Some(Self::Random),
            _ => None,
        }
    }
}

/// A service, found by VIP, port and protocol.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ServiceRecord {
    /// Where clients send to.
    pub vip: Address,
    /// The port clients send to.
    pub port: Port,
    /// A [`Protocol`]'s number; 0 when the record is empty.
    pub protocol: u8,
    /// A [`Policy`]'s number.
    pub policy: u8,
    /// The service's id, from 1: index of its lookup table, ring, cursor and statistics.
    pub id: u16,
    /// Entries of its ring.
    pub ring_length: u16,
    /// [`SERVICE_PRESERVE`].
    pub flags: u32,
    /// Slots of its lookup table; 0 when it has no backend at all.
    pub slots: u32,
}

/// The backends see the client's own address and answer through the balancer.
pub const SERVICE_PRESERVE: u32 = 1;

/// One bucket of the service table. Empty records may stand anywhere in it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ServiceBucket {
    /// The services in it.
    pub ways: [ServiceRecord; SERVICE_WAYS],
}

/// A backend of one service, by backend id.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct BackendRecord {
    /// Its address.
    pub address: Address,
    /// The balancer's address towards it; unspecified where the client's own is preserved.
    pub source: Address,
    /// Its next hop.
    pub hop: Hop,
    /// Its port.
    pub port: Port,
    /// The id of the service it belongs to.
    pub service: u16,
    /// `BACKEND_*` bits; 0 when the record is empty.
    pub flags: u32,
    /// Its weight, for the agent's own use: the datapath has it in tables and rings.
    pub weight: u32,
    /// Not used.
    pub reserved: [u32; 3],
}

/// The record is in use.
pub const BACKEND_PRESENT: u32 = 1;
/// Takes no new flows, keeps the ones it has.
pub const BACKEND_DRAINING: u32 = 1 << 1;
/// Takes no packet at all.
pub const BACKEND_DISABLED: u32 = 1 << 2;
/// Probes say that it does not answer: takes no new flows.
pub const BACKEND_UNHEALTHY: u32 = 1 << 3;
/// Is on its way out: no longer desired, kept while it has sessions.
pub const BACKEND_LEAVING: u32 = 1 << 4;

impl BackendRecord {
    /// Whether the record is in use.
    #[inline(always)]
    pub const fn is_present(&self) -> bool {
        self.flags & BACKEND_PRESENT != 0
    }

    /// Whether it takes new flows.
    #[inline(always)]
    pub const fn is_eligible(&self) -> bool {
        self.flags == BACKEND_PRESENT && self.hop.is_known()
    }
}

/// A cache line of a lookup table or of a ring: backend ids, 0 where there is none.
#[repr(C, align(64))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotLine {
    /// The backends.
    pub slots: [u16; SLOTS_PER_LINE as usize],
}

impl Default for SlotLine {
    fn default() -> Self {
        Self { slots: [0; SLOTS_PER_LINE as usize] }
    }
}

/// What went through a service or a backend, on one CPU. Bytes are those of the IP packets.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TrafficStats {
    /// Flows placed.
    pub flows: u64,
    /// Packets from clients to backends.
    pub forward_packets: u64,
    /// Bytes from clients to backends.
    pub forward_bytes: u64,
    /// Packets from backends to clients.
    pub return_packets: u64,
    /// Bytes from backends to clients.
    pub return_bytes: u64,
}

impl TrafficStats {
    /// Adds another CPU's share.
    pub const fn add(&mut self, other: &Self) {
        self.flows += other.flows;
        self.forward_packets += other.forward_packets;
        self.forward_bytes += other.forward_bytes;
        self.return_packets += other.return_packets;
        self.return_bytes += other.return_bytes;
    }
}

/// VIP, port and protocol: what names a service in the datapath.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceKey {
    /// Where clients send to.
    pub vip: Address,
    /// The port clients send to.
    pub port: Port,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl ServiceRecord {
    /// What names it; `None` when the record is empty.
    pub const fn key(&self) -> Option<ServiceKey> {
        match Protocol::from_number(self.protocol) {
            Some(protocol) => Some(ServiceKey { vip: self.vip, port: self.port, protocol }),
            None => None,
        }
    }
}

const _: () = {
    assert!(size_of::<Settings>() == 176 && align_of::<Settings>() == 8);
    assert!(size_of::<DeviceRecord>() == 16);
    assert!(size_of::<ServiceRecord>() == 32 && size_of::<ServiceBucket>() == 128);
    assert!(size_of::<BackendRecord>() == 64);
    assert!(size_of::<SlotLine>() == 64);
    assert!(size_of::<TrafficStats>() == 40);
};

#[cfg(feature = "user")]
mod pod {
    // SAFETY of all: repr(C) or repr(transparent) integers without padding (sizes are asserted above), any bits valid.
    unsafe impl aya::Pod for super::Settings {}
    unsafe impl aya::Pod for super::DeviceRecord {}
    unsafe impl aya::Pod for super::ServiceBucket {}
    unsafe impl aya::Pod for super::BackendRecord {}
    unsafe impl aya::Pod for super::SlotLine {}
    unsafe impl aya::Pod for super::TrafficStats {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_keep_their_numbers() {
        assert!(Policy::ALL.into_iter().all(|policy| Policy::from_number(policy as u8) == Some(policy)));
    }
}
