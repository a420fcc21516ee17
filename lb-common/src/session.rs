//! Session records and the words that find them: what the datapath and the agent's sweep both read and write.
//!
//! All of it is 64-bit words, each read and written by one atomic operation. Part of the ABI: change it, raise
//! [`crate::ABI_VERSION`].

use crate::abi::Settings;
use crate::addr::Port;
use crate::limits::INDEX_WAYS;

/// Ticks are jiffies shifted right by this: 256 ms at 250 Hz. In 32 bits they wrap after 8 years at 1000 Hz.
pub const TICK_SHIFT: u32 = 6;

/// Room for a timeout of every [`Phase`], rounded up to a power of two so that an index needs a mask and no check.
pub const TIMEOUTS: usize = 16;

/// A bucket of a session index, or a session record, as raw words: the agent and the datapath read and write them
/// through atomic operations, each word by itself.
pub type Line = [u64; INDEX_WAYS];

/// Where the parts of a session record stand in its [`Line`].
pub mod word {
    /// [`super::SessionState`].
    pub const STATE: usize = 0;
    /// The client's address, two words.
    pub const CLIENT: usize = 1;
    /// The VIP, two words.
    pub const VIP: usize = 3;
    /// Where the client's packets came from, so where its answers go: a [`crate::addr::Hop`].
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
    /// A [`crate::addr::Protocol`]'s number.
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

const _: () = {
    assert!(size_of::<Line>() == 64);
    assert!(Phase::UdpBothWays as usize + 1 == PHASES && PHASES <= TIMEOUTS);
};

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
