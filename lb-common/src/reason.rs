//! Why a packet was passed up, dropped or transmitted: stable numbers, stable names, one counter each.
//!
//! `docs/operating.md` has a sentence for each name (`cargo xtask tidy` checks). A retired number is never used again.

macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident, $count:ident { $($(#[$doc:meta])* $variant:ident = $number:literal => $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[repr(u32)]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name { $($(#[$doc])* $variant = $number),+ }

        impl $name {
            /// Every one, by number.
            pub const ALL: [Self; $count] = [$(Self::$variant),+];

            /// The name in commands, metrics and docs.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

/// How many [`PassReason`]s there are.
pub const PASS_REASONS: usize = 9;
/// How many [`DropReason`]s there are.
pub const DROP_REASONS: usize = 12;

reasons! {
    /// Why a frame went up to the host's stack, untouched.
    PassReason, PASS_REASONS {
        /// Neither a service's traffic nor a backend's answer to it.
        NotOurs = 0 => "not-ours",
        /// Not IP at all: ARP, LLDP, ...
        NotIp = 1 => "not-ip",
        /// IPv6, which no service can have yet.
        Ipv6 = 2 => "ipv6",
        /// Carries a VLAN tag.
        Vlan = 3 => "vlan",
        /// IP, but neither TCP nor UDP: ICMP, IGMP, ...
        NotTcpUdp = 4 => "not-tcp-udp",
        /// Has IPv4 options.
        IpOptions = 5 => "ip-options",
        /// A fragment of an IPv4 datagram.
        Fragment = 6 => "fragment",
        /// Addressed to another station: the NIC sees it because a switch flooded it, or it is promiscuous.
        OtherHost = 7 => "other-host",
        /// Too short, or its headers too broken, to tell whose it is.
        Malformed = 8 => "malformed",
    }
}

reasons! {
    /// Why a frame that was ours was not forwarded.
    DropReason, DROP_REASONS {
        /// The frame is shorter than its headers say, or the headers contradict each other.
        BadLength = 0 => "bad-length",
        /// The service has no backend that takes new flows.
        NoBackend = 1 => "no-backend",
        /// A TCP packet in the middle of a connection that has no session.
        NoSession = 2 => "no-session",
        /// Both buckets that the flow's session could stand in are full of live ones.
        SessionsFull = 3 => "sessions-full",
        /// No free NAT port towards the backend was found.
        PortsExhausted = 4 => "ports-exhausted",
        /// The time to live ran out on the way through.
        TtlExceeded = 5 => "ttl-exceeded",
        /// The flow's backend is disabled.
        BackendDisabled = 6 => "backend-disabled",
        /// The flow's backend was removed.
        BackendGone = 7 => "backend-gone",
        /// The next hop's MAC address is not known.
        NextHopUnknown = 8 => "next-hop-unknown",
        /// The next hop is on another interface than the packet came from.
        OtherInterface = 9 => "other-interface",
        /// Two CPUs made the same session at once; the sender's retransmission gets through.
        Contended = 10 => "contended",
        /// A map did not hold what the program relies on: a bug, or a foreign hand in the maps.
        Internal = 11 => "internal",
    }
}

/// Which way a transmitted packet went.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// Client to backend.
    Forward = 0,
    /// Backend to client.
    Return = 1,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Forward, Self::Return];

    /// The name in commands, metrics and docs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Return => "return",
        }
    }
}

/// What the pipeline decided about one frame.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// Up to the host's stack, no byte changed.
    Pass(PassReason),
    /// Ours, and not forwarded.
    Drop(DropReason),
    /// Rewritten, and out through the interface it came from.
    Transmit(Direction),
}

/// Counters, one for each verdict and reason: all of `Pass`, then all of `Drop`, then both directions.
pub const COUNTERS: usize = PASS_REASONS + DROP_REASONS + 2;

/// An index into the counters' map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Counter(u32);

impl Counter {
    /// The map's index.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self.0
    }
}

impl From<Verdict> for Counter {
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a few dozen reasons")]
    fn from(verdict: Verdict) -> Self {
        Self(match verdict {
            Verdict::Pass(reason) => reason as u32,
            Verdict::Drop(reason) => PASS_REASONS as u32 + reason as u32,
            Verdict::Transmit(direction) => (PASS_REASONS + DROP_REASONS) as u32 + direction as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_has_a_counter_of_its_own() {
        let verdicts = (PassReason::ALL.into_iter().map(Verdict::Pass))
            .chain(DropReason::ALL.into_iter().map(Verdict::Drop))
            .chain(Direction::ALL.into_iter().map(Verdict::Transmit));
        let indexes: Vec<u32> = verdicts.map(|verdict| Counter::from(verdict).index()).collect();
        assert_eq!(indexes, (0..u32::try_from(COUNTERS).unwrap()).collect::<Vec<_>>());
    }
}
