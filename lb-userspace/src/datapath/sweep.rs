//! Sweeps the session tables: counts what lives, frees what is dead or purged, clears words that lead nowhere.
//!
//! Works while packets flow. Every change follows the datapath's own protocol (`lb_ebpf::session`): whoever replaces a
//! record's state by `Busy` owns the record and both words, and whoever loses a race looks again. A record that is
//! being written is left alone, unless its writer has been silent for longer than `Busy` may last.

use std::collections::BTreeSet;

use lb_common::abi::Settings;
use lb_common::session::{IndexEntry, Phase, SessionState, word};
use lb_ebpf::index::{WAYS, at};
use lb_ebpf::session::{read, release};
use lb_ebpf::tables::{Line, SessionTables};

use super::Sweep;

/// How often a sweep looks at a record that packets change while it looks. Each of them takes a tick's change to fail.
const TRIES: u32 = 8;

/// The session records and their indexes, wherever they lie.
#[derive(Clone, Copy)]
pub struct Sessions<'a> {
    /// Buckets of the index by clients' packets.
    pub flows: &'a [Line],
    /// Buckets of the index by backends' packets.
    pub returns: &'a [Line],
    /// The records; one for each word of `flows`.
    pub sessions: &'a [Line],
}

impl SessionTables for Sessions<'_> {
    fn flows(&self, bucket: u32) -> Option<&Line> {
        self.flows.get(bucket as usize)
    }

    fn returns(&self, bucket: u32) -> Option<&Line> {
        self.returns.get(bucket as usize)
    }

    fn session(&self, position: u32) -> Option<&Line> {
        self.sessions.get(position as usize)
    }
}

impl Sessions<'_> {
    fn state(&self, position: u32) -> Option<SessionState> {
        self.session(position).map(|line| SessionState::from_word(line[word::STATE].load()))
    }

    /// What the word at `position` of the flows' index says; `None` if it is empty.
    fn flow(&self, position: u32) -> Option<IndexEntry> {
        let word = at(self.flows(position / WAYS), position)?.load();
        (word != 0).then(|| IndexEntry::from_word(word))
    }
}

/// Frees dead sessions and those of the backends in `purge`, and counts the rest; `now` in ticks.
///
/// `freed` counts sessions, not words: one that gave way to a newer flow on its tuple was freed by the datapath, and
/// only its words are cleared here.
pub fn sweep(lines: &Sessions<'_>, now: u32, settings: &Settings, purge: &BTreeSet<u16>) -> Sweep {
    let mut sweep = Sweep::default();
    for position in positions(lines.sessions.len()) {
        visit(lines, position, now, settings, purge, &mut sweep);
    }
    for position in positions(lines.returns.len().saturating_mul(WAYS as usize)) {
        clear_if_orphan(lines, position);
    }
    sweep
}

fn positions(length: usize) -> std::ops::Range<u32> {
    0..u32::try_from(length).unwrap_or(u32::MAX)
}

/// Counts or frees the session at `position`.
fn visit(lines: &Sessions<'_>, position: u32, now: u32, settings: &Settings, purge: &BTreeSet<u16>, sweep: &mut Sweep) {
    for _ in 0..TRIES {
        let Some(state) = lines.state(position) else { return };
        if state.phase() == Phase::Free {
            if lines.flow(position).is_none() || release(lines, position, state.word(), now) {
                return;
            }
        } else if state.is_dead(now, settings) {
            if release(lines, position, state.word(), now) {
                sweep.freed += 1;
                return;
            }
        } else {
            // Being written: its writer is in the middle of a packet.
            let Some(session) = read(lines, position) else { return };
            if !purge.contains(&session.binding.backend) {
                let count = sweep.sessions.entry(session.binding.backend).or_default();
                if session.state.phase().is_open() {
                    count.open += 1;
                } else {
                    count.closing += 1;
                }
                return;
            }
            if release(lines, position, session.state.word(), now) {
                sweep.freed += 1;
                return;
            }
        }
    }
}

/// Empties the word at `position` of the returns' index if the session that it names does not name it.
///
/// A session that is being made enters this word first and names it before it leaves `Busy`; so if its state is another
/// after the word was read, and the name is missing still, it never comes.
fn clear_if_orphan(lines: &Sessions<'_>, position: u32) {
    let Some(word) = at(lines.returns(position / WAYS), position) else { return };
    let content = word.load();
    if content == 0 {
        return;
    }
    let session = IndexEntry::from_word(content).peer;
    let before = lines.state(session);
    if before.is_some_and(|state| state.phase() == Phase::Busy) {
        return;
    }
    let is_named = lines.flow(session).is_some_and(|entry| entry.peer == position);
    let is_same = before.map(SessionState::version) == lines.state(session).map(SessionState::version);
    if !is_named && is_same {
        let _was_still_there = word.replace(content, 0);
    }
}
