//! The keyed flow hash: the same bits in the kernel, in the agent and in the tests, and on every node that has the key.
//!
//! A multilinear hash (Lemire and Kaser, "Strongly universal string hashing is fast", 2014): `k0 + sum of k_i * x_i`
//! over 32-bit words with secret 64-bit keys. Its upper half is strongly universal, so nobody without the key can make
//! tuples that collide. It was measured against SipHash-1-3 at two thirds of the cost (docs/decisions.md). Words are
//! read as the machine has them: nodes that share a key must share the byte order, which is little-endian wherever
//! the BPF side is built.

use crate::addr::{Address, Port, Protocol};

/// How many key words the hash uses: one to start from, four for each address, one for the ports and the protocol each.
pub const KEY_WORDS: usize = 11;

/// The secret that all nodes of a cluster share.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey(pub [u64; KEY_WORDS]);

impl core::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashKey(***)")
    }
}

/// One direction's 5-tuple, as the packet has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowKey {
    /// Sender.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
    /// The sender's port.
    pub source_port: Port,
    /// The receiver's port.
    pub destination_port: Port,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// A flow's hash. Take different uses from different parts: [`FlowHash::slot`] and [`FlowHash::mixed`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowHash(u64);

impl FlowKey {
    /// The keyed hash of this tuple.
    #[inline(always)]
    pub fn hash(&self, key: &HashKey) -> FlowHash {
        let k = &key.0;
        let ports = u32::from(self.source_port.wire()) | u32::from(self.destination_port.wire()) << 16;
        let mut sum = k[0];
        if self.source.is_v4() && self.destination.is_v4() {
            sum = add(sum, k[1], self.source.v4_word());
            sum = add(sum, k[2], self.destination.v4_word());
        } else {
            let [a, b] = self.source.words();
            let [c, d] = self.destination.words();
            sum = add(sum, k[1], low(a));
            sum = add(sum, k[2], high(a));
            sum = add(sum, k[3], low(b));
            sum = add(sum, k[4], high(b));
            sum = add(sum, k[5], low(c));
            sum = add(sum, k[6], high(c));
            sum = add(sum, k[7], low(d));
            sum = add(sum, k[8], high(d));
        }
        sum = add(sum, k[9], ports);
        sum = add(sum, k[10], self.protocol as u32);
        FlowHash(sum)
    }
}

impl FlowHash {
    /// The slot of a lookup table with `slots` slots, by multiplication: the hash's upper half, scaled.
    #[inline(always)]
    pub const fn slot(self, slots: u32) -> u32 {
        reduce(high(self.0), slots)
    }

    /// All 64 bits well mixed (the finaliser of `MurmurHash3`), for bucket, tag and port: the low half of the sum alone
    /// depends on the words' low bits only.
    #[inline(always)]
    pub const fn mixed(self) -> u64 {
        let mut h = self.0;
        h ^= h >> 33;
        h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
        h ^= h >> 33;
        h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        h ^ h >> 33
    }
}

/// `value` scaled from 32 bits to `0..range`.
#[inline(always)]
pub const fn reduce(value: u32, range: u32) -> u32 {
    ((value as u64 * range as u64) >> 32) as u32
}

/// The service table's bucket: not secret, since its keys come from the config and not from packets.
#[inline(always)]
pub fn service_bucket(vip: Address, port: Port, protocol: Protocol, buckets: u32) -> u32 {
    let [a, b] = vip.words();
    let rest = u64::from(port.wire()) << 8 | protocol as u64;
    let mixed = (a ^ b.rotate_left(32) ^ rest).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    reduce(high(mixed), buckets)
}

#[inline(always)]
const fn add(sum: u64, key: u64, word: u32) -> u64 {
    sum.wrapping_add(key.wrapping_mul(word as u64))
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the lower half is asked for")]
const fn low(word: u64) -> u32 {
    word as u32
}

#[inline(always)]
const fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    /// A fixed key: any will do that is not special.
    fn key(seed: u64) -> HashKey {
        let mut state = seed;
        HashKey(core::array::from_fn(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state ^ state >> 29
        }))
    }

    fn tuple(client: u32, port: u16) -> FlowKey {
        FlowKey {
            source: Ipv4Addr::from(client).into(),
            destination: Ipv4Addr::new(192, 0, 2, 1).into(),
            source_port: Port::new(port),
            destination_port: Port::new(80),
            protocol: Protocol::Tcp,
        }
    }

    #[test]
    fn tuples_that_crowd_under_one_key_spread_under_another() {
        let (crafted_for, used) = (key(1), key(2));
        let crowd: Vec<FlowKey> = (0..2_000_000u32)
            .map(|i| tuple(0x0a00_0000 + i / 200, 1_024 + u16::try_from(i % 200).unwrap() * 300))
            .filter(|tuple| tuple.hash(&crafted_for).slot(64) == 7)
            .collect();
        assert!(crowd.len() > 20_000);
        let mut shares = [0usize; 16];
        for tuple in &crowd {
            shares[tuple.hash(&used).slot(16) as usize] += 1;
        }
        let fair = crowd.len() / 16;
        assert!(shares.iter().all(|share| *share < fair * 11 / 10), "{shares:?}");
    }

    #[test]
    fn bucket_and_tag_of_neighbouring_tuples_spread() {
        let key = key(3);
        let mut buckets = vec![0u32; 4_096];
        for i in 0..40_960u32 {
            let mixed = tuple(0x0a00_0001, u16::try_from(i % 65_536).unwrap()).hash(&key).mixed();
            buckets[usize::try_from(mixed & 4_095).unwrap()] += 1;
        }
        let most = buckets.iter().max().unwrap();
        assert!(*most < 40, "a bucket with {most} where 10 are fair");
    }

    #[test]
    fn every_part_of_the_tuple_counts() {
        let key = key(4);
        let base = tuple(1, 2);
        let v6 = FlowKey { source: "2001:db8::1".parse::<core::net::Ipv6Addr>().unwrap().into(), ..base };
        let others = [
            FlowKey { source: Ipv4Addr::new(9, 9, 9, 9).into(), ..base },
            FlowKey { destination: Ipv4Addr::new(9, 9, 9, 9).into(), ..base },
            FlowKey { source_port: Port::new(9), ..base },
            FlowKey { destination_port: Port::new(9), ..base },
            FlowKey { protocol: Protocol::Udp, ..base },
            v6,
            FlowKey { source_port: Port::new(77), ..v6 },
        ];
        for other in others {
            assert_ne!(other.hash(&key), base.hash(&key), "{other:?}");
        }
        assert_eq!(format!("{key:?}"), "HashKey(***)");
    }
}
