//! NAT ports: each new flow takes one towards its backend that no live flow has, by entering the index of returns.

use lb_common::abi::Settings;
use lb_common::addr::Port;
use lb_common::hash::{FlowKey, reduce};
use lb_common::limits::PORT_TRIES;
use lb_common::reason::DropReason;
use lb_common::session::{IndexEntry, Phase, SessionState, word};

use crate::index::{Home, PLACES, WAYS, at};
use crate::session::Opening;
use crate::tables::{Tables, forget};

/// Takes a port towards the backend whose tuple no live session has, and enters its word: the port, and where the word
/// stands.
#[inline(always)]
pub fn take_port(
    tables: &impl Tables,
    settings: &Settings,
    opening: &Opening,
    position: u32,
    now: u32,
) -> Result<(Port, u32), DropReason> {
    let preserve = opening.binding.preserve;
    let port = if preserve { opening.flow.source_port } else { candidate_port(settings, opening) };
    let flow = FlowKey {
        source: opening.backend,
        destination: if preserve { opening.flow.source } else { opening.source },
        source_port: opening.backend_port,
        destination_port: port,
        protocol: opening.flow.protocol,
    };
    let home = Home::new(flow.hash(&settings.hash_key), settings);
    let is_pressed = preserve || opening.attempt >= PORT_TRIES / 2;
    let peer = enter_return(tables, settings, home, position, now, is_pressed).ok_or(DropReason::PortsExhausted)?;
    Ok((port, peer))
}

/// The port to try: the flow's hash says where to start, and multiples of the golden ratio go on from there, so that
/// every further try lands in the largest gap between the former ones.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "bits of a hash; an offset below the number of ports")]
const fn candidate_port(settings: &Settings, opening: &Opening) -> Port {
    let start = (opening.hash.mixed() >> 16) as u32;
    let point = start.wrapping_add(opening.attempt.wrapping_mul(0x9e37_79b9));
    let offset = reduce(point, settings.nat_port_count as u32);
    Port::new(settings.nat_port_first.wrapping_add(offset as u16))
}

/// Enters a word for `position` unless a live session's has the same tag; where it stands.
///
/// Equal tags in the same two buckets are taken for equal tuples: about one port in 10^8 is passed over for nothing,
/// and nobody's record need be read. A dead session gives way, and if `is_pressed` so does one that has been over
/// for `reuse_ticks` (RFC 6191: a new connection may follow once the old one's last segments are gone).
#[inline(always)]
fn enter_return(
    tables: &impl Tables,
    settings: &Settings,
    home: Home,
    position: u32,
    now: u32,
    is_pressed: bool,
) -> Option<u32> {
    // The last empty word, and the last one whose session has made room.
    let (mut empty, mut given_up, mut old) = (u32::MAX, u32::MAX, 0);
    let mut i = 0;
    while i < PLACES {
        let candidate = home.position(i);
        let word = at(tables.returns(candidate / WAYS), candidate)?.load();
        let entry = IndexEntry::from_word(word);
        if entry.tag == home.tag {
            if !gives_way(tables, settings, entry.peer, now, is_pressed) {
                return None;
            }
            (given_up, old) = (forget(settings, candidate), word);
        } else if word == 0 {
            empty = forget(settings, candidate);
        }
        i += 1;
    }
    let place = if given_up == u32::MAX { empty } else { given_up };
    if place == u32::MAX {
        return None;
    }
    let entry = at(tables.returns(place / WAYS), place)?;
    let word = IndexEntry { tag: home.tag, peer: position }.word();
    if !entry.replace(old, word) {
        return None;
    }
    // Another CPU may have entered the same tuple in another way meanwhile; then at least one of both sees it here.
    let mut i = 0;
    while i < PLACES {
        let other = home.position(i);
        if other != place && IndexEntry::from_word(at(tables.returns(other / WAYS), other)?.load()).tag == home.tag {
            let _was_ours = entry.replace(word, 0);
            return None;
        }
        i += 1;
    }
    Some(place)
}

/// Whether the session at `position` makes room for a new one on its tuple; it is free afterwards, though its words
/// still stand until its record is used again or swept.
#[inline(always)]
fn gives_way(tables: &impl Tables, settings: &Settings, position: u32, now: u32, is_pressed: bool) -> bool {
    let Some(line) = tables.session(position) else { return false };
    let word = line[word::STATE].load();
    let state = SessionState::from_word(word);
    if matches!(state.phase(), Phase::Free) {
        return true;
    }
    let is_over = is_pressed
        && matches!(state.phase(), Phase::Closing | Phase::Reset)
        && state.age(now).is_some_and(|age| age >= settings.reuse_ticks);
    if !is_over && !state.is_dead(now, settings) {
        return false;
    }
    let free = SessionState::new(Phase::Free, now, state.version().wrapping_add(1));
    line[word::STATE].replace(word, free.word())
}
