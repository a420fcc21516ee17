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
use lb_common::hash::{FlowHash, FlowKey};
use lb_common::limits::INDEX_WAYS;
use lb_common::reason::{Direction, DropReason};
use lb_common::session::{IndexEntry, Phase, SessionBinding, SessionPorts, SessionState, word};

use crate::headers::TcpFlags;
use crate::index::{Home, PLACES, WAYS, at};
use crate::phase::next_phase;
use crate::ports::take_port;
use crate::tables::{Line, SessionTables, Tables, forget};

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
            && let Some(session) = read(tables, forget(settings, position))
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

/// The record at `position`, if there is a session and nobody is writing it.
#[inline(always)]
pub fn read(tables: &impl SessionTables, position: u32) -> Option<Session> {
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
pub fn release(tables: &impl SessionTables, position: u32, word: u64, now: u32) -> bool {
    let Some(state) = claim(tables, position, word, now) else { return false };
    unlink(tables, position);
    if let Some(line) = tables.session(position) {
        line[word::STATE].publish(SessionState::new(Phase::Free, now, state.version()).word());
    }
    true
}

/// Makes the record at `position` ours if its state is still `word`; the state it has then.
#[inline(always)]
fn claim(tables: &impl SessionTables, position: u32, word: u64, now: u32) -> Option<SessionState> {
    let state = SessionState::from_word(word);
    let busy = SessionState::new(Phase::Busy, now, state.version().wrapping_add(1));
    tables.session(position)?[word::STATE].replace(word, busy.word()).then_some(busy)
}

/// Empties both words of a record that is ours.
#[inline(always)]
fn unlink(tables: &impl SessionTables, position: u32) {
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
    let position = forget(settings, find_room(tables, settings, home, now)?);
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

/// Words of its first bucket that are in use before a flow looks whether its second has fewer.
///
/// Filling first buckets up would refuse the first flow when the tables are 40 % full, taking the emptier one always
/// would put a third of all flows where a lookup needs another cache line. At 5 it is 70 %, with few in second buckets
/// as long as the tables are half empty.
const SPILL: u32 = 5;

/// How many words of a bucket are in use.
#[inline(always)]
fn used_words(line: &Line) -> u32 {
    let mut used = 0;
    let mut way = 0;
    while way < INDEX_WAYS {
        used += u32::from(line[way].load() != 0);
        way += 1;
    }
    used
}

/// The position of a record whose state is free, or dead, in one of the flow's two buckets.
#[inline(always)]
fn find_room(tables: &impl Tables, settings: &Settings, home: Home, now: u32) -> Result<u32, DropReason> {
    let is_dead = |position: u32| {
        let state = tables.session(position)?[word::STATE].load();
        Some(SessionState::from_word(state).is_dead(now, settings))
    };
    let (first, second) = (tables.flows(home.first), tables.flows(home.second));
    let used = used_words(first.ok_or(DropReason::Internal)?);
    let spills = used >= SPILL && used_words(second.ok_or(DropReason::Internal)?) < used;
    let start = forget(settings, if spills { WAYS } else { 0 });
    let mut i = 0;
    while i < PLACES {
        let position = home.position((start + i) % PLACES);
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
    if is_doubled(tables, settings, home, position, now) {
        return Err(DropReason::Contended);
    }
    line[word::STATE].publish(SessionState::new(phase, now, state.version()).word());
    Ok(nat)
}

/// Whether another CPU makes, or has just made, a session for the same tuple: then this one backs out. Of two that are
/// at it at once the later to enter its word sees the other's, whatever that one's state is by then. Equal tags are taken
/// for equal tuples here too.
#[inline(always)]
fn is_doubled(tables: &impl Tables, settings: &Settings, home: Home, position: u32, now: u32) -> bool {
    let mut i = 0;
    while i < PLACES {
        let other = home.position(i);
        if other != position
            && let Some(word) = at(tables.flows(other / WAYS), other)
            && IndexEntry::from_word(word.load()).tag == home.tag
            && let Some(line) = tables.session(other)
            && !SessionState::from_word(line[word::STATE].load()).is_dead(now, settings)
        {
            return true;
        }
        i += 1;
    }
    false
}
