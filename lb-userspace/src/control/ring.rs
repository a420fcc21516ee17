//! Builds round-robin rings by Tijdeman's rule for the chairman assignment problem (Discrete Mathematics 32, 1980).
//!
//! Whoever walks such a ring has, after every single step, given each backend its exact share to within one.

use lb_common::limits::RING_MAX;

/// The ring of `entries`, pairs of backend id and weight: ids in the order in which new flows take them.
///
/// Its length is the sum of the weights in lowest terms, cut to [`RING_MAX`] by largest remainders; then a backend
/// whose share is below about half an entry of [`RING_MAX`] has none. Weight 0 has none either.
pub fn build(entries: &[(u16, u16)]) -> Vec<u16> {
    let entries: Vec<(u16, i64)> = quotas(entries);
    match entries[..] {
        [] => Vec::new(),
        [(id, _)] => vec![id],
        _ => assign(&entries),
    }
}

/// The greatest common divisor of `numbers`; 1 when there is nothing but zeros.
pub(super) fn common_divisor(numbers: impl Iterator<Item = u16>) -> u16 {
    let divisor = numbers.fold(0, |mut a, mut b| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    });
    divisor.max(1)
}

/// How many entries of the ring each id gets; those with none are left out.
fn quotas(entries: &[(u16, u16)]) -> Vec<(u16, i64)> {
    let unit = common_divisor(entries.iter().map(|(_, weight)| *weight));
    let weights: Vec<u64> = entries.iter().map(|(_, weight)| u64::from(weight / unit)).collect();
    let total: u64 = weights.iter().sum();
    let length = total.min(u64::from(RING_MAX));
    let total = total.max(1);

    let mut counts: Vec<u64> = weights.iter().map(|weight| weight * length / total).collect();
    let missing = length - counts.iter().sum::<u64>();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by_key(|index| std::cmp::Reverse(weights[*index] * length % total));
    for index in by_remainder.into_iter().zip(0..missing).map(|(index, _)| index) {
        counts[index] += 1;
    }

    let ids = entries.iter().map(|(id, _)| *id);
    ids.zip(counts).filter(|(_, count)| *count > 0).map(|(id, count)| (id, count.cast_signed())).collect()
}

/// At each step, of those that lag by 1/(2n-2) or more, whoever's allowance runs out first.
///
/// All in integers: with `total` entries and `d = 2n-2`, a lag is `k * quota - total * given` in units of 1/total, and
/// times are compared as fractions of the quota by multiplying across.
#[expect(clippy::cast_possible_wrap, reason = "a service has a thousand backends at most")]
fn assign(quotas: &[(u16, i64)]) -> Vec<u16> {
    let total: i64 = quotas.iter().map(|(_, quota)| quota).sum();
    // At most 1,000 backends and 4,096 entries: products of four such numbers fit 63 bits.
    let d = 2 * quotas.len() as i64 - 2;
    let mut owed: Vec<i64> = vec![0; quotas.len()];
    let mut ring = Vec::new();
    for _ in 0..total {
        let mut first: Option<(usize, i64)> = None;
        for (index, (owed, (_, quota))) in owed.iter_mut().zip(quotas).enumerate() {
            *owed += quota;
            if d * *owed < total {
                continue;
            }
            let allowance = (d - 1) * total - d * *owed;
            if first.is_none_or(|(best, least)| allowance * quotas[best].1 < least * quota) {
                first = Some((index, allowance));
            }
        }
        // Lags sum to one entry, so somebody lags by 1/n or more, and 1/n is at least 1/(2n-2).
        let Some((index, _)) = first else { unreachable!("nobody lags in a ring of {total}") };
        owed[index] -= total;
        ring.push(quotas[index].0);
    }
    ring
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The largest difference, over all prefixes of two rounds, between what an id was given and its exact share.
    fn worst_lag(ring: &[u16], shares: &[(u16, u64)]) -> f64 {
        let total: u64 = shares.iter().map(|(_, share)| share).sum();
        let mut worst = 0f64;
        for (id, share) in shares {
            let mut given = 0i64;
            for (at, entry) in (1i64..).zip(ring.iter().chain(ring)) {
                given += i64::from(entry == id);
                let lag = (at * share.cast_signed() - given * total.cast_signed()).abs();
                #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                let lag = lag as f64 / total as f64;
                worst = worst.max(lag);
            }
        }
        worst
    }

    fn count(ring: &[u16], id: u16) -> usize {
        ring.iter().filter(|entry| **entry == id).count()
    }

    #[test]
    fn equal_weights_rotate() {
        assert_eq!(build(&[(3, 7), (5, 7), (9, 7)]), [3, 5, 9]);
    }

    #[test]
    fn weights_interleave() {
        assert_eq!(build(&[(1, 5), (2, 1), (3, 1)]), [1, 1, 2, 1, 1, 3, 1]);
    }

    #[test]
    fn one_or_none() {
        assert_eq!(build(&[]), [0u16; 0]);
        assert_eq!(build(&[(1, 0), (2, 0)]), [0u16; 0]);
        assert_eq!(build(&[(4, 1_000)]), [4]);
        assert_eq!(build(&[(1, 0), (2, 3)]), [2]);
    }

    #[test]
    fn a_ring_never_outgrows_its_map() {
        let entries: Vec<(u16, u16)> = (1..=1_000).map(|id| (id, 1_000 - id % 7)).collect();
        let ring = build(&entries);
        assert_eq!(ring.len(), RING_MAX as usize);
        for (id, _) in entries {
            assert!((4..=5).contains(&count(&ring, id)), "backend {id}");
        }
        assert_eq!(build(&[(1, 1_000), (2, 999), (3, 998), (4, 997), (5, 102)]).len(), RING_MAX as usize);
    }

    proptest! {
        #[test]
        fn every_prefix_is_within_one_of_the_exact_share(weights in prop::collection::vec(0u16..100, 1..30)) {
            let entries: Vec<(u16, u16)> = (1..).zip(weights.iter().copied()).collect();
            let ring = build(&entries);
            let shares: Vec<(u16, u64)> = entries.iter().map(|(id, weight)| (*id, u64::from(*weight))).collect();
            if weights.iter().any(|weight| *weight > 0) {
                prop_assert!(worst_lag(&ring, &shares) < 1.0);
            }
        }

        #[test]
        fn rounding_costs_less_than_an_entry(weights in prop::collection::vec(1u16..=1_000, 2..60)) {
            let entries: Vec<(u16, u16)> = (1..).zip(weights.iter().copied()).collect();
            let ring = build(&entries);
            prop_assert!(ring.len() <= RING_MAX as usize);
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            let mut shares = Vec::new();
            for (id, weight) in entries {
                let given = u32::try_from(count(&ring, id)).unwrap();
                let exact = f64::from(u32::try_from(ring.len()).unwrap()) * f64::from(weight) / total;
                prop_assert!((f64::from(given) - exact).abs() < 1.0, "backend {}: {} of {}", id, given, exact);
                shares.push((id, u64::from(given)));
            }
            prop_assert!(worst_lag(&ring, &shares) < 1.0);
        }
    }
}
