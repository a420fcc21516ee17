//! Map keys and values: what the agent writes and the datapath reads, and the session records both touch.
//!
//! Integers and byte arrays only, no padding, sizes asserted: any bit pattern is a valid value. Change one, raise
//! [`crate::ABI_VERSION`].

use crate::addr::{Address, Hop, Port, Protocol};
use crate::hash::HashKey;
use crate::limits::{INDEX_WAYS, SERVICE_WAYS, SLOTS_PER_LINE};

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
    /// How long a session may be silent before it is dead, in ticks, by [`Phase`].
    pub timeouts: [u32; TIMEOUTS],
    /// How old a closing session must be, in ticks, before a flow that finds no other port may take its port.
    pub reuse_ticks: u32,
    /// Not used.
    pub reserved: u32,
    /// The flow hash's secret.
    pub hash_key: HashKey,
}

/// Room for a timeout of every [`Phase`], rounded up to a power of two so that an index needs a mask and no check.
pub const TIMEOUTS: usize = 16;

/// Some service preserves the client's address, so any packet may be a backend's answer.
pub const SETTING_PRESERVE: u32 = 1;

/// Ticks are jiffies shifted right by this: 256 ms at 250 Hz. In 32 bits they wrap after 8 years at 1000 Hz.
pub const TICK_SHIFT: u32 = 6;

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

/// A bucket of a session index, or a session record, as raw words: the agent and the datapath read and write them
/// through atomic operations, each word by itself.
pub type Line = [u64; INDEX_WAYS];

/// Where the parts of a session record stand in its [`Line`].
pub mod session {
    /// [`super::SessionState`].
    pub const STATE: usize = 0;
    /// The client's address, two words.
    pub const CLIENT: usize = 1;
    /// The VIP, two words.
    pub const VIP: usize = 3;
    /// Where the client's packets came from, so where its answers go: a [`super::Hop`].
    pub const HOP: usize = 5;
    /// [`super::SessionPorts`].
    pub const PORTS: usize = 6;
    /// [`super::SessionBinding`].
    pub const BINDING: usize = 7;
}

/// What a session is going through.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Phase {
    /// No session.
    Free = 0,
    /// Being written by one CPU: nobody else may touch it.
    Busy = 1,
    /// The client's SYN went to the backend, which has not answered yet.
    HalfOpen = 2,
    /// Both have spoken.
    Established = 3,
    /// The client has sent its FIN.
    ClientClosed = 4,
    /// The backend has sent its FIN.
    BackendClosed = 5,
    /// Both have sent their FIN: the tuple is in quarantine.
    Closing = 6,
    /// One of them has sent a RST.
    Reset = 7,
    /// UDP that the backend has not answered.
    UdpOneWay = 8,
    /// UDP in both directions.
    UdpBothWays = 9,
}

/// How many [`Phase`]s there are.
pub const PHASES: usize = 10;

impl Phase {
    /// Every phase, by number.
    pub const ALL: [Self; PHASES] = [
        Self::Free,
        Self::Busy,
        Self::HalfOpen,
        Self::Established,
        Self::ClientClosed,
        Self::BackendClosed,
        Self::Closing,
        Self::Reset,
        Self::UdpOneWay,
        Self::UdpBothWays,
    ];

    /// The inverse of `as u8`; numbers that are none are `Free`.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Busy,
            2 => Self::HalfOpen,
            3 => Self::Established,
            4 => Self::ClientClosed,
            5 => Self::BackendClosed,
            6 => Self::Closing,
            7 => Self::Reset,
            8 => Self::UdpOneWay,
            9 => Self::UdpBothWays,
            _ => Self::Free,
        }
    }

    /// Whether a flow in this phase is one that a person would call open.
    pub const fn is_open(self) -> bool {
        matches!(
            self,
            Self::HalfOpen
                | Self::Established
                | Self::ClientClosed
                | Self::BackendClosed
                | Self::UdpOneWay
                | Self::UdpBothWays
        )
    }
}

/// A session's state word: phase, time of the last packet and a version that changes with every new occupant.
///
/// The word itself, not its parts: an index taken from the raw word keeps the mask that the verifier asks for.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SessionState(u64);

impl SessionState {
    /// `tick` is that of the last packet or, for a closing session, of the packet that closed it.
    #[inline(always)]
    pub const fn new(phase: Phase, tick: u32, version: u16) -> Self {
        Self(tick as u64 | (phase as u64) << 32 | (version as u64) << 48)
    }

    /// What the session is going through.
    #[inline(always)]
    pub const fn phase(self) -> Phase {
        Phase::from_number(self.phase_number())
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "below 16")]
    const fn phase_number(self) -> u8 {
        ((self.0 >> 32) % TIMEOUTS as u64) as u8
    }

    /// Tick of the last packet.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "fields are cut out of the word")]
    pub const fn tick(self) -> u32 {
        self.0 as u32
    }

    /// Rises with every new occupant of the record.
    #[inline(always)]
    pub const fn version(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// As one word.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The inverse of [`SessionState::word`].
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// Whether a session is there, and nobody is writing it.
    #[inline(always)]
    pub const fn is_settled(self) -> bool {
        self.phase_number() > Phase::Busy as u8
    }

    /// Ticks since the last packet; `None` if that lies ahead, as another CPU's jiffies may by a moment.
    #[inline(always)]
    pub const fn age(self, now: u32) -> Option<u32> {
        let age = now.wrapping_sub(self.tick());
        if age <= u32::MAX / 2 { Some(age) } else { None }
    }

    /// Whether there is no session, or it has been silent for longer than its phase allows. One being written is
    /// alive: its writer is in the middle of a packet. Should the writer never end, `Busy` has a timeout too.
    #[inline(always)]
    pub const fn is_dead(self, now: u32, settings: &Settings) -> bool {
        let number = self.phase_number();
        if number == Phase::Free as u8 {
            return true;
        }
        match self.age(now) {
            Some(age) => age > settings.timeouts[number as usize],
            None => false,
        }
    }
}

impl core::fmt::Debug for SessionState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}@{}v{}", self.phase(), self.tick(), self.version())
    }
}

/// A session's ports, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionPorts {
    /// The client's port.
    pub client: Port,
    /// The service's port.
    pub vip: Port,
    /// The port towards the backend: of the balancer's range, or the client's own.
    pub nat: Port,
}

impl SessionPorts {
    /// As one word.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.client.wire() as u64 | (self.vip.wire() as u64) << 16 | (self.nat.wire() as u64) << 32
    }

    /// The inverse of [`SessionPorts::word`].
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "fields are cut out of the word")]
    pub const fn from_word(word: u64) -> Self {
        Self {
            client: Port::from_wire(word as u16),
            vip: Port::from_wire((word >> 16) as u16),
            nat: Port::from_wire((word >> 32) as u16),
        }
    }
}

/// What a session belongs to, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionBinding {
    /// A [`Protocol`]'s number.
    pub protocol: u8,
    /// Whether the client's address is preserved.
    pub preserve: bool,
    /// The backend's id.
    pub backend: u16,
    /// The service's id.
    pub service: u16,
}

impl SessionBinding {
    /// As one word.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.protocol as u64 | (self.preserve as u64) << 8 | (self.backend as u64) << 16 | (self.service as u64) << 32
    }

    /// The inverse of [`SessionBinding::word`].
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "fields are cut out of the word")]
    pub const fn from_word(word: u64) -> Self {
        Self {
            protocol: word as u8,
            preserve: word >> 8 & 1 != 0,
            backend: (word >> 16) as u16,
            service: (word >> 32) as u16,
        }
    }
}

/// What a word of a session index says: a tag of the tuple's hash, and where the other half stands.
///
/// A session's record has the position of its word in the flows' index (bucket times ways, plus way). Its word there
/// names the position of its word in the returns' index, and that one names the record. Zero is an empty word; a tag
/// is never zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexEntry {
    /// Bits of the hash that the bucket was not chosen by.
    pub tag: u32,
    /// In the flows' index, a position in the returns' index; there, the session's.
    pub peer: u32,
}

impl IndexEntry {
    /// As one word.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        (self.tag as u64) << 32 | self.peer as u64
    }

    /// The inverse of [`IndexEntry::word`].
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "fields are cut out of the word")]
    pub const fn from_word(word: u64) -> Self {
        Self { tag: (word >> 32) as u32, peer: word as u32 }
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
    assert!(size_of::<Line>() == 64);
    assert!(size_of::<TrafficStats>() == 40);
    assert!(Phase::UdpBothWays as usize + 1 == PHASES && PHASES <= TIMEOUTS);
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
    use proptest::prelude::*;

    #[test]
    fn phases_keep_their_numbers() {
        for (number, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, number);
            assert_eq!(Phase::from_number(phase as u8), phase);
        }
        assert!(Policy::ALL.into_iter().all(|policy| Policy::from_number(policy as u8) == Some(policy)));
    }

    proptest! {
        #[test]
        fn words_hold_what_was_put_in(tick: u32, phase in 0u8..10, version: u16, a: u16, b: u16, c: u16, p: bool, tag: u32) {
            let state = SessionState::new(Phase::from_number(phase), tick, version);
            prop_assert_eq!((state.phase() as u8, state.tick(), state.version()), (phase, tick, version));
            let ports = SessionPorts { client: Port::new(a), vip: Port::new(b), nat: Port::new(c) };
            prop_assert_eq!(SessionPorts::from_word(ports.word()), ports);
            let binding = SessionBinding { protocol: phase, preserve: p, backend: a, service: b };
            prop_assert_eq!(SessionBinding::from_word(binding.word()), binding);
            let entry = IndexEntry { tag, peer: tick };
            prop_assert_eq!(IndexEntry::from_word(entry.word()), entry);
        }
    }
}
