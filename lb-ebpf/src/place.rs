//! Placement: which backend a new flow gets. Runs once for a flow; every other packet follows its session.

use lb_common::abi::{Policy, ServiceRecord};
use lb_common::hash::{FlowHash, reduce};
use lb_common::limits::PLACE_TRIES;

use crate::tables::Tables;

/// The id of a backend that takes new flows, by the service's policy.
///
/// A first choice that takes none (draining, disabled, unhealthy, without a next hop) is not in the ring, which the
/// agent keeps to the backends that do; so the ring is asked instead, from a point that the flow's hash gives: nodes
/// that see the same health choose alike.
#[inline(always)]
pub fn place(tables: &impl Tables, service: &ServiceRecord, hash: FlowHash) -> Option<u16> {
    let ring_length = u32::from(service.ring_length);
    if ring_length == 0 {
        return None;
    }
    match Policy::from_number(service.policy) {
        Some(Policy::RoundRobin) => return next_in_turn(tables, service, ring_length),
        Some(Policy::Random) => {
            if let Some(id) = eligible(tables, tables.slot(service.id, reduce(tables.random(), service.slots))) {
                return Some(id);
            }
        }
        Some(Policy::Maglev) | None => {
            if let Some(id) = eligible(tables, tables.slot(service.id, hash.slot(service.slots))) {
                return Some(id);
            }
        }
    }
    let start = hash.slot(ring_length);
    let mut i = 0;
    while i < PLACE_TRIES {
        if let Some(id) = eligible(tables, tables.ring(service.id, (start + i) % ring_length)) {
            return Some(id);
        }
        i += 1;
    }
    None
}

/// The next entry of the ring that takes new flows: every flow moves the cursor on, so each prefix of the ring is
/// served before it comes round again.
#[inline(always)]
fn next_in_turn(tables: &impl Tables, service: &ServiceRecord, ring_length: u32) -> Option<u16> {
    let cursor = tables.cursor(service.id)?;
    let mut i = 0;
    while i < PLACE_TRIES {
        #[expect(clippy::cast_possible_truncation, reason = "the cursor wraps")]
        let turn = cursor.fetch_add(1) as u32;
        if let Some(id) = eligible(tables, tables.ring(service.id, turn % ring_length)) {
            return Some(id);
        }
        i += 1;
    }
    None
}

#[inline(always)]
fn eligible(tables: &impl Tables, id: Option<u16>) -> Option<u16> {
    let id = id?;
    if id != 0 && tables.backend(id)?.is_eligible() { Some(id) } else { None }
}
