//! Incremental updates of the Internet checksum. The only checksum arithmetic of the datapath.
//!
//! The checksum is the one's complement of the one's complement sum of all 16-bit words (RFC 1071). One's complement
//! addition does not care how words are grouped or, within a machine, how their bytes are swapped (RFC 1071 section
//! 2), so everything here stays in the byte order of memory and 32-bit words are added whole. When a word `m` becomes
//! `m'`, the new checksum is `~(~HC + ~m + m')` (RFC 1624 equation 3; the shorter equation of RFC 1141 gives -0 where
//! +0 is due). A [`Change`] collects `~m + m'` of all words that change and applies them in one go; the same change of
//! addresses applies to the IPv4 header and, through the pseudo header, to TCP and UDP.

/// What is to be added to a sum.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[must_use]
pub struct Change(u64);

impl Change {
    /// No change.
    #[inline(always)]
    pub const fn none() -> Self {
        Self(0)
    }

    /// A 32-bit word, as it stands in memory, is replaced.
    #[inline(always)]
    pub const fn word32(self, old: u32, new: u32) -> Self {
        Self(self.0 + !old as u64 + new as u64)
    }

    /// A 16-bit word, as it stands in memory, is replaced.
    #[inline(always)]
    pub const fn word16(self, old: u16, new: u16) -> Self {
        Self(self.0 + !old as u64 + new as u64)
    }

    /// The checksum after the change.
    #[inline(always)]
    pub const fn apply(self, checksum: [u8; 2]) -> [u8; 2] {
        (!fold(self.0 + !u16::from_ne_bytes(checksum) as u64)).to_ne_bytes()
    }

    /// The checksum of UDP after the change: 0 means "none" and stays (RFC 768), and a computed 0 is sent as all ones.
    #[inline(always)]
    pub const fn apply_udp(self, checksum: [u8; 2]) -> [u8; 2] {
        if u16::from_ne_bytes(checksum) == 0 {
            return checksum;
        }
        match self.apply(checksum) {
            [0, 0] => [0xff, 0xff],
            other => other,
        }
    }
}

/// The sum of all 16-bit words of `sum`, carries added back in: at most a few dozen terms were added.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "three folds leave 16 bits of any sum below 2^48")]
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The checksum of all of `bytes`, computed the long way (RFC 1071 section 4.1).
    fn whole(bytes: &[u8]) -> [u8; 2] {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!u16::try_from(sum).unwrap()).to_be_bytes()
    }

    #[test]
    fn the_example_of_rfc_1624() {
        // Section 4: HC = 0xdd2f, m = 0x5555, m' = 0x3285 gives 0 where RFC 1141 gave -0.
        let change = Change::none().word16(0x5555u16.to_be(), 0x3285u16.to_be());
        assert_eq!(change.apply(0xdd2fu16.to_be_bytes()), [0, 0]);
    }

    #[test]
    fn udp_without_checksum_stays_without() {
        assert_eq!(Change::none().word16(1, 2).apply_udp([0, 0]), [0, 0]);
    }

    proptest! {
        #[test]
        fn incremental_equals_recomputed(mut bytes in prop::collection::vec(any::<u8>(), 8..64), new32: u32, new16: u16) {
            // A sum of zero has two forms; a header is never all zeros.
            bytes[7] |= 1;
            if bytes.len() % 2 == 1 { bytes.push(0); }
            let before = whole(&bytes);
            let old32 = u32::from_ne_bytes(bytes[0..4].try_into().unwrap());
            let old16 = u16::from_ne_bytes(bytes[4..6].try_into().unwrap());
            bytes[0..4].copy_from_slice(&new32.to_ne_bytes());
            bytes[4..6].copy_from_slice(&new16.to_ne_bytes());
            let change = Change::none().word32(old32, new32).word16(old16, new16);
            prop_assert_eq!(change.apply(before), whole(&bytes));
        }

        #[test]
        fn a_computed_zero_is_sent_as_all_ones(old: u16, new: u16, checksum in 1u16..) {
            let change = Change::none().word16(old, new);
            let plain = change.apply(checksum.to_ne_bytes());
            let udp = change.apply_udp(checksum.to_ne_bytes());
            prop_assert_eq!(udp, if plain == [0, 0] { [0xff, 0xff] } else { plain });
        }
    }
}
