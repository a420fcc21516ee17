//! Builds weighted Maglev lookup tables (Eisenbud et al., NSDI 2016, section 3.4).
//!
//! A member's preference list comes from a keyed hash of its address and port, never from its id or its place in the
//! list: nodes that share the members, their weights and the key build tables that name the same backends.

use std::cmp::Reverse;

use lb_common::addr::{Address, Port, Protocol};
use lb_common::hash::{FlowKey, HashKey, reduce};

/// A backend that wants slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its address, which with the port decides which slots it prefers.
    pub address: Address,
    /// Its port.
    pub port: Port,
    /// What the table calls it; not 0.
    pub id: u16,
    /// Its share relative to the others'; 0 gets no slot.
    pub weight: u16,
}

/// A member's way through the slots: a permutation of them, walked on demand.
struct Walk {
    id: u16,
    position: u32,
    skip: u32,
}

/// Members of one weight, which take their turns together.
struct Group {
    /// When they take the next one.
    next: u64,
    /// Time between two turns, in units of [`TIME`]: the inverse of the weight.
    period: u64,
    walks: Vec<Walk>,
}

/// The time after which a member of weight 1 has taken one turn. Turns of weight 1 fill 17 bits at most, so times
/// fit 64.
const TIME: u64 = 1 << 40;

/// The lookup table of `members`: a backend id for each slot, 0 everywhere when nobody has weight.
///
/// `slots` must be prime, or a member may never come to a free slot; [`lb_common::limits::SLOTS`] is.
///
/// A member takes its k-th turn at the time `(k - 1/2) / weight`, so every member's count is within one or so of its
/// exact share; the half lets the smallest weights round instead of starving. Time goes in rounds as long as the
/// heaviest member's period, in which nobody takes two turns.
pub fn build(members: &[Member], slots: u32, key: &HashKey) -> Vec<u16> {
    let mut table = vec![0; slots as usize];
    let mut groups = groups(members, slots, key);
    let Some(round) = groups.first().map(|heaviest| heaviest.period) else { return table };
    let (mut free, mut end) = (slots, 0);
    loop {
        end += round;
        for group in groups.iter_mut().filter(|group| group.next < end) {
            group.next += group.period;
            for walk in &mut group.walks {
                if free == 0 {
                    return table;
                }
                walk.claim(&mut table, slots);
                free -= 1;
            }
        }
    }
}

/// Members by weight, heaviest first, within a weight by hash: an order that the caller's does not enter.
fn groups(members: &[Member], slots: u32, key: &HashKey) -> Vec<Group> {
    let mut ordered: Vec<(Reverse<u16>, u64, &Member)> = members
        .iter()
        .filter(|member| member.weight > 0)
        .map(|member| (Reverse(member.weight), preference(member, key), member))
        .collect();
    ordered.sort_by_key(|(weight, preference, member)| (*weight, *preference, member.address, member.port, member.id));
    // Weights 2 and 2 are weights 1 and 1: the same turns, so the same table.
    let unit = super::ring::common_divisor(ordered.iter().map(|(weight, ..)| weight.0));
    ordered
        .chunk_by(|a, b| a.0 == b.0)
        .map(|chunk| {
            let period = TIME / u64::from(chunk[0].0.0 / unit);
            let walks = chunk.iter().map(|(_, preference, member)| Walk::new(member.id, *preference, slots));
            Group { next: period / 2, period, walks: walks.collect() }
        })
        .collect()
}

/// 64 bits that nobody without the key can foresee, from what every node knows about the member.
fn preference(member: &Member, key: &HashKey) -> u64 {
    let identity = FlowKey {
        source: member.address,
        destination: Address::UNSPECIFIED,
        source_port: member.port,
        destination_port: Port::default(),
        protocol: Protocol::Tcp,
    };
    identity.hash(key).mixed()
}

impl Walk {
    #[expect(clippy::cast_possible_truncation, reason = "each half of the hash is used by itself")]
    fn new(id: u16, preference: u64, slots: u32) -> Self {
        Self {
            id,
            position: reduce((preference >> 32) as u32, slots),
            skip: 1 + reduce(preference as u32, slots.saturating_sub(1)),
        }
    }

    /// Takes the first free slot on the way. There is one, and with a prime number of slots the way leads everywhere.
    fn claim(&mut self, table: &mut [u16], slots: u32) {
        loop {
            let slot = self.position as usize;
            self.position += self.skip;
            if self.position >= slots {
                self.position -= slots;
            }
            if table[slot] == 0 {
                table[slot] = self.id;
                return;
            }
        }
    }
}

#[cfg(test)]
#[path = "maglev_tests.rs"]
mod tests;
