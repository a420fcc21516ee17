//! Addresses, ports and MACs as they stand on the wire: byte order lives in these types and nowhere else.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 or IPv6 address in 16 bytes of network order; IPv4 is v4-mapped (RFC 4291 section 2.5.5.2).
///
/// Two words rather than sixteen bytes, so that a comparison is two instructions (a `memcmp` does not link for BPF).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address {
    words: [u64; 2],
}

impl Address {
    /// The address that nothing has, `::`.
    pub const UNSPECIFIED: Self = Self { words: [0, 0] };

    /// From the four bytes of an IPv4 header's address field, read as one native word.
    #[inline(always)]
    pub const fn from_v4_word(word: u32) -> Self {
        let bytes = word.to_ne_bytes();
        Self { words: [0, u64::from_ne_bytes([0, 0, 0xff, 0xff, bytes[0], bytes[1], bytes[2], bytes[3]])] }
    }

    /// The IPv4 address field's four bytes as one native word; meaningless for an IPv6 address.
    #[inline(always)]
    pub const fn v4_word(self) -> u32 {
        let bytes = self.words[1].to_ne_bytes();
        u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]])
    }

    /// Whether this is a v4-mapped address.
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        let mapped = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);
        let mask = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        self.words[0] == 0 && self.words[1] & mask == mapped
    }

    /// Both words, in memory order.
    #[inline(always)]
    pub const fn words(self) -> [u64; 2] {
        self.words
    }

    /// The inverse of [`Address::words`].
    #[inline(always)]
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self { words }
    }

    /// The address as the standard library has it; a v4-mapped one becomes IPv4.
    pub fn to_ip(self) -> IpAddr {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.words[0].to_ne_bytes());
        bytes[8..].copy_from_slice(&self.words[1].to_ne_bytes());
        Ipv6Addr::from(bytes).to_canonical()
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Self::from_v4_word(u32::from_ne_bytes(address.octets()))
    }
}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        let o = address.octets();
        Self {
            words: [
                u64::from_ne_bytes([o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7]]),
                u64::from_ne_bytes([o[8], o[9], o[10], o[11], o[12], o[13], o[14], o[15]]),
            ],
        }
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

impl core::fmt::Debug for Address {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.to_ip().fmt(f)
    }
}

/// A TCP or UDP port as it stands in the header: two bytes of network order.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Port(u16);

impl Port {
    /// From a number as people write it.
    #[inline(always)]
    pub const fn new(number: u16) -> Self {
        Self(number.to_be())
    }

    /// From the header's two bytes read as one native word.
    #[inline(always)]
    pub const fn from_wire(word: u16) -> Self {
        Self(word)
    }

    /// The header's two bytes as one native word.
    #[inline(always)]
    pub const fn wire(self) -> u16 {
        self.0
    }

    /// The number as people write it.
    #[inline(always)]
    pub const fn number(self) -> u16 {
        u16::from_be(self.0)
    }
}

impl core::fmt::Debug for Port {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.number().fmt(f)
    }
}

/// Where to send a frame: the next hop's MAC and the device it is reached through, in one word that one store replaces.
///
/// Zero means "not known": no device has index 0.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Hop(u64);

impl Hop {
    /// The next hop that is not known.
    pub const UNKNOWN: Self = Self(0);

    /// `device` is an index into the device table, starting at 1.
    #[inline(always)]
    pub const fn new(mac: [u8; 6], device: u16) -> Self {
        let d = device.to_ne_bytes();
        Self(u64::from_ne_bytes([mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], d[0], d[1]]))
    }

    /// The MAC in wire order.
    #[inline(always)]
    pub const fn mac(self) -> [u8; 6] {
        let b = self.0.to_ne_bytes();
        [b[0], b[1], b[2], b[3], b[4], b[5]]
    }

    /// The device table's index; 0 when unknown.
    #[inline(always)]
    pub const fn device(self) -> u16 {
        let b = self.0.to_ne_bytes();
        u16::from_ne_bytes([b[6], b[7]])
    }

    /// Whether there is a next hop at all.
    #[inline(always)]
    pub const fn is_known(self) -> bool {
        self.0 != 0
    }

    /// As one word.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The inverse of [`Hop::word`].
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }
}

impl core::fmt::Debug for Hop {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let m = self.mac();
        write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}@{}", m[0], m[1], m[2], m[3], m[4], m[5], self.device())
    }
}

/// The protocols that a service can have, by their IP protocol number.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// RFC 9293.
    Tcp = 6,
    /// RFC 768.
    Udp = 17,
}

impl Protocol {
    /// From the IP header's protocol field.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }

    /// `tcp` or `udp`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_survives_the_word_and_back() {
        let address = Address::from(Ipv4Addr::new(192, 0, 2, 7));
        assert!(address.is_v4());
        assert_eq!(address.v4_word().to_ne_bytes(), [192, 0, 2, 7]);
        assert_eq!(Address::from_v4_word(address.v4_word()), address);
        assert_eq!(address.to_ip(), IpAddr::from([192, 0, 2, 7]));
    }

    #[test]
    fn an_ipv6_address_is_not_taken_for_ipv4() {
        let ip: Ipv6Addr = "2001:db8::1".parse().unwrap();
        assert!(!Address::from(ip).is_v4());
        assert_eq!(Address::from(ip).to_ip(), IpAddr::V6(ip));
        assert!(!Address::UNSPECIFIED.is_v4());
    }

    #[test]
    fn a_hop_keeps_mac_and_device() {
        let hop = Hop::new([2, 0, 0, 0, 0, 9], 3);
        assert_eq!((hop.mac(), hop.device(), hop.is_known()), ([2, 0, 0, 0, 0, 9], 3, true));
        assert!(!Hop::UNKNOWN.is_known());
        assert_eq!(Hop::from_word(hop.word()), hop);
    }
}
