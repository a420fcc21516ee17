//! Shapes of headers, on top of `network-types`: what it lacks, or has with an alignment that a frame cannot promise.

use network_types::eth::EtherType;
use network_types::ip::Ipv4Hdr;

/// Ethernet II. (`network-types` has the type field as a `u16`, which a frame at an odd address would misalign.)
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ethernet {
    /// Receiver.
    pub destination: [u8; 6],
    /// Sender.
    pub source: [u8; 6],
    /// An [`EtherType`], in network order.
    pub ether_type: [u8; 2],
}

/// Bytes of an Ethernet header without tags.
pub const ETHERNET: usize = size_of::<Ethernet>();
/// Bytes of an IPv4 header without options.
pub const IPV4: usize = Ipv4Hdr::LEN;
/// Bytes of a TCP header without options.
pub const TCP: usize = 20;
/// Bytes of a UDP header.
pub const UDP: usize = 8;
/// First byte of the transport header, in an untagged frame with an IPv4 header without options.
pub const TRANSPORT: usize = ETHERNET + IPV4;

/// What the Ethernet header says follows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carries {
    /// RFC 791.
    Ipv4,
    /// RFC 8200.
    Ipv6,
    /// A VLAN tag, IEEE 802.1Q or 802.1ad.
    Vlan,
    /// Anything else.
    Other,
}

impl Ethernet {
    /// What follows.
    #[inline(always)]
    pub fn carries(&self) -> Carries {
        const IPV4: u16 = EtherType::Ipv4 as u16;
        const IPV6: u16 = EtherType::Ipv6 as u16;
        const TAG: u16 = EtherType::Ieee8021q as u16;
        const SERVICE_TAG: u16 = EtherType::Ieee8021ad as u16;
        const QINQ: u16 = EtherType::Ieee8021QinQ1 as u16;
        match u16::from_ne_bytes(self.ether_type) {
            IPV4 => Carries::Ipv4,
            IPV6 => Carries::Ipv6,
            TAG | SERVICE_TAG | QINQ => Carries::Vlan,
            _ => Carries::Other,
        }
    }
}

/// The flags of a TCP header that a balancer cares for (RFC 9293 section 3.1).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(1);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(1 << 1);
    /// Reset the connection.
    pub const RST: Self = Self(1 << 2);
    /// The acknowledgement field counts.
    pub const ACK: Self = Self(1 << 4);

    /// From the header's 14th byte.
    #[inline(always)]
    pub const fn new(byte: u8) -> Self {
        Self(byte)
    }

    /// Whether any of `flags` is set.
    #[inline(always)]
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    /// Whether this opens a connection: SYN, and neither ACK, RST nor FIN.
    #[inline(always)]
    pub const fn opens(self) -> bool {
        self.0 & (Self::SYN.0 | Self::ACK.0 | Self::RST.0 | Self::FIN.0) == Self::SYN.0
    }
}
