//! Sessions: the records that NAT keeps of its flows, found from either direction, and what packets do to them.
//!
//! A record is one cache line. Its position is that of its word in the flows' index (bucket times ways, plus way); the
//! returns' index has a word that names the position. Each tuple has two buckets where its word may stand, so that
//! the tables can be filled. A record's state word is the lock of all three: whoever replaces a free or dead state by
//! `Busy` owns the record and both words until it publishes another state. A reader compares the state before and
//! after it has read the rest. Nothing waits: who loses a race gives up, and the sender's retransmission gets through.
//!
//! Sessions die by silence, judged by whoever looks: a dead record is as good as a free one. The agent's sweep only
//! tidies, so a datapath without an agent goes on.

use lb_common::abi::Settings;
use lb_common::addr::{Address, Hop, Port, Protocol};
use lb_common::hash::{FlowHash, FlowKey, reduce};
use lb_common::limits::PORT_TRIES;
use lb_common::reason::{Direction, DropReason};
use lb_common::session::{IndexEntry, Phase, SessionBinding, SessionPorts, SessionState, word};

use crate::headers::TcpFlags;
use crate::index::{Home, PLACES, WAYS, at};
use crate::phase::next_phase;
use crate::tables::Tables;

/// A session, as it was when it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    /// Where its record is.
    pub position: u32,
    /// Its state.
    pub state: SessionState,
    /// The client.
    pub client: Address,
    /// The service's address.
    pub vip: Address,
    /// Where answers go.
    pub hop: Hop,
    /// Its ports.
    pub ports: SessionPorts,
    /// Service and backend.
    pub binding: SessionBinding,
}

/// What a new session is made of.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// The client's packet.
    pub flow: FlowKey,
    /// The client's packet's hash.
    pub hash: FlowHash,
    /// Where answers go.
    pub hop: Hop,
    /// The backend's address.
    pub backend: Address,
    /// The backend's port.
    pub backend_port: Port,
    /// The address that the backend sees; unspecified if it is the client's own.
    pub source: Address,
    /// Service and backend.
    pub binding: SessionBinding,
    /// How many ports have been tried before.
    pub attempt: u32,
}

/// The live session that the client's packet `flow` belongs to.
#[inline(always)]
pub fn find_forward(
    tables: &impl Tables,
    settings: &Settings,
    flow: &FlowKey,
    hash: FlowHash,
    now: u32,
) -> Option<Session> {
    let home = Home::new(hash, settings);
    let mut i = 0;
    while i < PLACES {
        let position = home.position(i);
        let entry = IndexEntry::from_word(at(tables.flows(position / WAYS), position)?.load());
        if entry.tag == home.tag
            && let Some(session) = read(tables, position)
            && session.client == flow.source
            && session.vip == flow.destination
            && session.ports.client == flow.source_port
            && session.ports.vip == flow.destination_port
            && session.binding.protocol == flow.protocol as u8
            && !session.state.is_dead(now, settings)
        {
            return Some(session);
        }
        i += 1;
    }
    None
}

/// The live session that the packet `flow`, perhaps a backend's answer, belongs to.
#[inline(always)]
pub fn find_return(tables: &impl Tables, settings: &Settings, flow: &FlowKey, now: u32) -> Option<Session> {
    let home = Home::new(flow.hash(&settings.hash_key), settings);
    let mut i = 0;
    while i < PLACES {
        let position = home.position(i);
        let entry = IndexEntry::from_word(at(tables.returns(position / WAYS), position)?.load());
        if entry.tag == home.tag
            && let Some(session) = read(tables, entry.peer)
            && session.ports.nat == flow.destination_port
            && session.binding.protocol == flow.protocol as u8
            && !session.state.is_dead(now, settings)
            && let Some(backend) = tables.backend(session.binding.backend)
            && backend.address == flow.source
            && backend.port == flow.source_port
            && flow.destination == (if session.binding.preserve { session.client } else { backend.source })
        {
            return Some(session);
        }
        i += 1;
    }
    None
}

/// The record at `position`, if nobody is writing it.
#[inline(always)]
fn read(tables: &impl Tables, position: u32) -> Option<Session> {
    let line = tables.session(position)?;
    let before = line[word::STATE].load();
    let session = Session {
        position,
        state: SessionState::from_word(before),
        client: Address::from_words([line[word::CLIENT].load(), line[word::CLIENT + 1].load()]),
        vip: Address::from_words([line[word::VIP].load(), line[word::VIP + 1].load()]),
        hop: Hop::from_word(line[word::HOP].load()),
        ports: SessionPorts::from_word(line[word::PORTS].load()),
        binding: SessionBinding::from_word(line[word::BINDING].load()),
    };
    let after = SessionState::from_word(line[word::STATE].load());
    let is_whole = session.state.is_settled() && after.is_settled() && after.version() == session.state.version();
    is_whole.then_some(session)
}

/// Notes a packet in its session's record.
#[inline(always)]
pub fn advance(tables: &impl Tables, session: &Session, direction: Direction, flags: TcpFlags, now: u32) {
    let Some(line) = tables.session(session.position) else { return };
    let mut tries = 0;
    while tries < 3 {
        let word = line[word::STATE].load();
        let state = SessionState::from_word(word);
        if !state.is_settled() || state.version() != session.state.version() {
            return;
        }
        let phase = next_phase(state.phase(), direction, session.binding.protocol, flags);
        let is_same = phase as u8 == state.phase() as u8;
        if is_same && (state.tick() == now || matches!(phase, Phase::Closing)) {
            return;
        }
        if line[word::STATE].replace(word, SessionState::new(phase, now, state.version()).word()) {
            return;
        }
        tries += 1;
    }
}

/// Remembers that the client's packets come from another next hop now.
#[inline(always)]
pub fn follow_hop(tables: &impl Tables, session: &Session, hop: Hop) {
    if hop != session.hop
        && let Some(line) = tables.session(session.position)
    {
        line[word::HOP].store(hop.word());
    }
}

/// Frees the session at `position` if its state is still `word`: its words in both indexes are empty afterwards.
#[inline(always)]
pub fn release(tables: &impl Tables, position: u32, word: u64, now: u32) -> bool {
    let Some(state) = claim(tables, position, word, now) else { return false };
    unlink(tables, position);
    if let Some(line) = tables.session(position) {
        line[word::STATE].publish(SessionState::new(Phase::Free, now, state.version()).word());
    }
    true
}

/// Makes the record at `position` ours if its state is still `word`; the state it has then.
#[inline(always)]
fn claim(tables: &impl Tables, position: u32, word: u64, now: u32) -> Option<SessionState> {
    let state = SessionState::from_word(word);
    let busy = SessionState::new(Phase::Busy, now, state.version().wrapping_add(1));
    tables.session(position)?[word::STATE].replace(word, busy.word()).then_some(busy)
}

/// Empties both words of a record that is ours.
#[inline(always)]
fn unlink(tables: &impl Tables, position: u32) {
    let Some(word) = at(tables.flows(position / WAYS), position) else { return };
    let entry = IndexEntry::from_word(word.load());
    if let Some(other) = at(tables.returns(entry.peer / WAYS), entry.peer) {
        let other_word = other.load();
        if IndexEntry::from_word(other_word).peer == position && other_word != 0 {
            let _was_ours = other.replace(other_word, 0);
        }
    }
    word.publish(0);
}

/// Makes a session for a flow that has none; the port that the backend sees.
#[inline(always)]
pub fn create(tables: &impl Tables, settings: &Settings, opening: &Opening, now: u32) -> Result<Port, DropReason> {
    let home = Home::new(opening.hash, settings);
    let position = tables.forget(find_room(tables, settings, home, now)?);
    let state = tables.session(position).ok_or(DropReason::Internal)?[word::STATE].load();
    if !SessionState::from_word(state).is_dead(now, settings) {
        return Err(DropReason::Contended);
    }
    let Some(state) = claim(tables, position, state, now) else { return Err(DropReason::Contended) };
    unlink(tables, position);
    let outcome = fill(tables, settings, opening, home, position, state, now);
    if outcome.is_err() {
        unlink(tables, position);
        if let Some(line) = tables.session(position) {
            line[word::STATE].publish(SessionState::new(Phase::Free, now, state.version()).word());
        }
    }
    outcome
}

/// The position of a record whose state is free, or dead, in one of the flow's two buckets.
#[inline(always)]
fn find_room(tables: &impl Tables, settings: &Settings, home: Home, now: u32) -> Result<u32, DropReason> {
    let is_dead = |position: u32| {
        let state = tables.session(position)?[word::STATE].load();
        Some(SessionState::from_word(state).is_dead(now, settings))
    };
    let mut i = 0;
    while i < PLACES {
        let position = home.position(i);
        let word = at(tables.flows(position / WAYS), position).ok_or(DropReason::Internal)?;
        if word.load() == 0 && is_dead(position) == Some(true) {
            return Ok(position);
        }
        i += 1;
    }
    // Without an agent nobody tidies: dead sessions still have their words.
    let mut i = 0;
    while i < PLACES {
        let position = home.position(i);
        if is_dead(position) == Some(true) {
            return Ok(position);
        }
        i += 1;
    }
    Err(DropReason::SessionsFull)
}

/// Writes the record at `position`, which is ours, and both words; the port that the backend sees.
#[inline(always)]
fn fill(
    tables: &impl Tables,
    settings: &Settings,
    opening: &Opening,
    home: Home,
    position: u32,
    state: SessionState,
    now: u32,
) -> Result<Port, DropReason> {
    let (nat, peer) = take_port(tables, settings, opening, position, now)?;
    let phase = if opening.binding.protocol == Protocol::Tcp as u8 { Phase::HalfOpen } else { Phase::UdpOneWay };
    let line = tables.session(position).ok_or(DropReason::Internal)?;
    let ([client_a, client_b], [vip_a, vip_b]) = (opening.flow.source.words(), opening.flow.destination.words());
    let ports = SessionPorts { client: opening.flow.source_port, vip: opening.flow.destination_port, nat };
    line[word::CLIENT].store(client_a);
    line[word::CLIENT + 1].store(client_b);
    line[word::VIP].store(vip_a);
    line[word::VIP + 1].store(vip_b);
    line[word::HOP].store(opening.hop.word());
    line[word::PORTS].store(ports.word());
    line[word::BINDING].store(opening.binding.word());
    let entry = at(tables.flows(position / WAYS), position).ok_or(DropReason::Internal)?;
    entry.publish(IndexEntry { tag: home.tag, peer }.word());
    if is_doubled(tables, home, position) {
        return Err(DropReason::Contended);
    }
    line[word::STATE].publish(SessionState::new(phase, now, state.version()).word());
    Ok(nat)
}

/// Whether another CPU is making a session for the same tuple at the same time: then both back out.
#[inline(always)]
fn is_doubled(tables: &impl Tables, home: Home, position: u32) -> bool {
    let mut i = 0;
    while i < PLACES {
        let other = home.position(i);
        if other != position
            && let Some(word) = at(tables.flows(other / WAYS), other)
            && IndexEntry::from_word(word.load()).tag == home.tag
            && let Some(line) = tables.session(other)
            && SessionState::from_word(line[word::STATE].load()).phase() as u8 == Phase::Busy as u8
        {
            return true;
        }
        i += 1;
    }
    false
}

/// Takes a port towards the backend whose tuple no live session has, and enters its word: the port, and where the word
/// stands.
#[inline(always)]
fn take_port(
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
    let (mut place, mut old) = (u32::MAX, 0);
    let mut i = 0;
    while i < PLACES {
        let candidate = home.position(i);
        let word = at(tables.returns(candidate / WAYS), candidate)?.load();
        let entry = IndexEntry::from_word(word);
        if entry.tag == home.tag {
            if !gives_way(tables, settings, entry.peer, now, is_pressed) {
                return None;
            }
            (place, old) = (candidate, word);
        } else if word == 0 && place == u32::MAX {
            place = candidate;
        }
        i += 1;
    }
    if place == u32::MAX {
        return None;
    }
    let place = tables.forget(place);
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
