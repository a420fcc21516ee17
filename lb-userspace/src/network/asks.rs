//! When to ask the kernel to resolve a neighbour: at once, then ever more rarely.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::message::NeighbourKey;

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The neighbours that are being resolved.
#[derive(Default)]
pub(super) struct Asks {
    pending: BTreeMap<NeighbourKey, Ask>,
}

struct Ask {
    at: Instant,
    wait: Duration,
}

impl Asks {
    /// Which of the `unresolved` are to be asked about now; forgets all others.
    pub fn due(&mut self, unresolved: &BTreeSet<NeighbourKey>, now: Instant) -> Vec<NeighbourKey> {
        self.pending.retain(|key, _| unresolved.contains(key));
        let mut due = Vec::new();
        for key in unresolved {
            let ask = self.pending.entry(*key).or_insert(Ask { at: now, wait: FIRST_WAIT });
            if ask.at <= now {
                due.push(*key);
                ask.at = now + ask.wait;
                ask.wait = (ask.wait * 2).min(LONGEST_WAIT);
            }
        }
        due
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Instant> {
        self.pending.values().map(|ask| ask.at).min()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const GATEWAY: NeighbourKey = (2, Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn the_waits_double_up_to_the_longest() {
        let mut asks = Asks::default();
        let unresolved = BTreeSet::from([GATEWAY]);
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert_eq!(asks.due(&unresolved, now), [GATEWAY]);
            assert_eq!(asks.due(&unresolved, now), [], "asked a moment ago");
            let next = asks.next().expect("still unresolved");
            waits.push((next - now).as_millis());
            now = next;
        }
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    }

    #[test]
    fn a_neighbour_that_is_lost_again_is_asked_about_at_once() {
        let mut asks = Asks::default();
        let now = Instant::now();
        assert_eq!(asks.due(&BTreeSet::from([GATEWAY]), now), [GATEWAY]);
        assert_eq!(asks.due(&BTreeSet::new(), now), []);
        assert_eq!(asks.next(), None);
        assert_eq!(asks.due(&BTreeSet::from([GATEWAY]), now), [GATEWAY]);
    }
}
