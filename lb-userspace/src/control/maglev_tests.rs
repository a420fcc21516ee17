//! What a lookup table promises: shares, little disruption, the same table on every node.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use lb_common::hash::KEY_WORDS;
use lb_common::limits::SLOTS;
use proptest::prelude::*;

use super::*;

fn key(seed: u64) -> HashKey {
    HashKey(std::array::from_fn(|i| {
        (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(u32::try_from(i * 64 / KEY_WORDS).unwrap())
    }))
}

fn member(number: u16, weight: u16) -> Member {
    let [high, low] = number.to_be_bytes();
    Member { address: Ipv4Addr::new(10, 0, high, low).into(), port: Port::new(8080), id: number + 1, weight }
}

fn members(count: u16, weight: impl Fn(u16) -> u16) -> Vec<Member> {
    (0..count).map(|number| member(number, weight(number))).collect()
}

fn counts(table: &[u16]) -> BTreeMap<u16, u32> {
    let mut counts = BTreeMap::new();
    for id in table {
        *counts.entry(*id).or_default() += 1;
    }
    counts
}

/// The largest difference between a share and the exact one, relative to the exact one.
fn share_error(table: &[u16], members: &[Member]) -> f64 {
    let (counts, total) = (counts(table), members.iter().map(|member| f64::from(member.weight)).sum::<f64>());
    let error = |member: &Member| {
        let fair = f64::from(SLOTS) * f64::from(member.weight) / total;
        (f64::from(counts.get(&member.id).copied().unwrap_or(0)) / fair - 1.0).abs()
    };
    members.iter().filter(|member| member.weight > 0).map(error).fold(0.0, f64::max)
}

/// The fraction of slots that differ.
fn moved(before: &[u16], after: &[u16]) -> f64 {
    let moved = before.iter().zip(after).filter(|(a, b)| a != b).count();
    f64::from(u32::try_from(moved).unwrap()) / f64::from(SLOTS)
}

/// FNV-1a over the ids.
fn fingerprint(table: &[u16]) -> u64 {
    let bytes = table.iter().flat_map(|id| id.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn a_table_is_the_same_in_every_release() {
    let table = build(&members(16, |number| 1 + number % 4), SLOTS, &key(1));
    assert_eq!(table[..8], [8, 16, 2, 2, 11, 16, 1, 15]);
    assert_eq!(fingerprint(&table), 340_165_644_278_818_659);
}

#[test]
fn shares_are_within_a_percent_for_up_to_a_hundred_weighted_members() {
    let weightings: [fn(u16) -> u16; 4] =
        [|_| 1, |n| 1 + n % 5, |n| 10 + n * 7 % 90, |n| if n == 0 { 100 } else { 300 }];
    for weight in weightings {
        for count in [1, 2, 3, 10, 50, 100] {
            let members = members(count, weight);
            let error = share_error(&build(&members, SLOTS, &key(2)), &members);
            assert!(error <= 0.01, "{count} members: {error}");
        }
    }
}

#[test]
fn the_smallest_weight_among_the_largest_is_not_starved() {
    let members = members(100, |number| if number == 7 { 1 } else { 1_000 });
    assert_eq!(counts(&build(&members, SLOTS, &key(3)))[&8], 1);
}

#[test]
fn a_change_moves_little_more_than_it_must() {
    for seed in 0..3 {
        let base = members(16, |_| 100);
        let before = build(&base, SLOTS, &key(seed));
        let removed = moved(&before, &build(&base[1..], SLOTS, &key(seed)));
        assert!((0.0625..0.069).contains(&removed), "remove one of 16: {removed}");

        let added = moved(&before, &build(&members(17, |_| 100), SLOTS, &key(seed)));
        assert!((0.0588..0.065).contains(&added), "add one to 16: {added}");

        let reweighted = build(&members(16, |number| if number == 3 { 70 } else { 100 }), SLOTS, &key(seed));
        let reweighted = moved(&before, &reweighted);
        assert!((0.0178..0.025).contains(&reweighted), "one of 16 at 70 %: {reweighted}");
    }
}

#[test]
fn a_hundred_weighted_members_lose_one_with_little_disruption() {
    let weight = |number: u16| 1 + number % 5;
    let base = members(100, weight);
    let before = build(&base, SLOTS, &key(5));
    for gone in [0, 4, 50, 99] {
        let rest: Vec<Member> = base.iter().copied().filter(|member| member.id != gone + 1).collect();
        let must = f64::from(weight(gone)) / 300.0;
        let moved = moved(&before, &build(&rest, SLOTS, &key(5)));
        assert!(moved >= must * 0.98 && moved <= must + 0.012, "without {gone}: {moved}, at least {must}");
    }
}

#[test]
fn nobody_with_weight_makes_an_empty_table() {
    assert!(build(&[], SLOTS, &key(1)).iter().all(|id| *id == 0));
    assert!(build(&members(5, |_| 0), SLOTS, &key(1)).iter().all(|id| *id == 0));
    let table = build(&members(5, |number| number % 2), SLOTS, &key(1));
    assert_eq!(counts(&table).into_keys().collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn the_key_decides_the_table() {
    let members = members(10, |_| 1);
    assert!(moved(&build(&members, SLOTS, &key(1)), &build(&members, SLOTS, &key(2))) > 0.8);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn order_ids_and_scale_do_not_matter(
        weights in prop::collection::vec(0u16..50, 1..40), rotate in 0usize..40, scale in 1u16..20, shift in 1u16..1_000,
    ) {
        let base: Vec<Member> = weights.iter().zip(0..).map(|(weight, number)| member(number, *weight)).collect();
        let mut other = base.clone();
        let at = rotate % other.len();
        other.rotate_left(at);
        other.reverse();
        for member in &mut other {
            member.weight *= scale;
            member.id += shift;
        }
        let (slots, key) = (4_093, key(9));
        let same: Vec<u16> = build(&base, slots, &key).iter().map(|id| if *id == 0 { 0 } else { id + shift }).collect();
        prop_assert_eq!(build(&other, slots, &key), same);
    }
}
