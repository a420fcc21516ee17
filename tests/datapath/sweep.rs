//! The sweep: what it counts, what it frees, what it leaves alone; also while packets flow.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::packets::{ACK, FIN, Frame, RST, SYN, tcp};
use harness::world::{IFINDEX, REUSE, World, timeout};
use lb_common::abi::Settings;
use lb_common::reason::Verdict;
use lb_common::session::{IndexEntry, Phase, SessionState, word};
use lb_ebpf::word::Word;
use lb_userspace::control::reconcile::Reconciler;
use lb_userspace::datapath::memory::MemoryDatapath;
use lb_userspace::datapath::sweep::{Sessions, sweep};
use lb_userspace::datapath::{Datapath, SessionCount, Sweep};

use crate::cast::{FIRST, NAT, VIP, answer, query, request, world};
use crate::traffic::{Changing, Traffic, ends};

const BEGIN: u32 = 1_000;

/// What is wrong with session maps that have just been swept.
pub fn dangling(lines: &Sessions<'_>, now: u32, settings: &Settings) -> Vec<String> {
    let entry = |word: &Word| Some(word.load()).filter(|word| *word != 0).map(IndexEntry::from_word);
    let flows: Vec<Option<IndexEntry>> = lines.flows.iter().flatten().map(entry).collect();
    let returns: Vec<Option<IndexEntry>> = lines.returns.iter().flatten().map(entry).collect();
    let states: Vec<SessionState> =
        lines.sessions.iter().map(|line| SessionState::from_word(line[word::STATE].load())).collect();
    let mut faults = Vec::new();
    for (position, (state, flow)) in states.iter().zip(&flows).enumerate() {
        let back = flow.and_then(|flow| returns[flow.peer as usize]);
        let is_linked = back.is_some_and(|back| back.peer as usize == position);
        if state.is_settled() && !state.is_dead(now, settings) {
            if !is_linked {
                faults.push(format!("session {position} ({state:?}) lives, its words {flow:?} and {back:?}"));
            }
        } else if flow.is_some() || state.phase() != Phase::Free {
            faults.push(format!("session {position} ({state:?}) is not there, its word {flow:?} is"));
        }
    }
    for (position, back) in returns.iter().enumerate() {
        let named = back.and_then(|back| flows.get(back.peer as usize).copied().flatten());
        if back.is_some() && named.is_none_or(|flow| flow.peer as usize != position) {
            faults.push(format!("return word {position} is {back:?}, and the flow says {named:?}"));
        }
    }
    faults
}

/// A datapath in memory in some world.
struct Room(Reconciler<MemoryDatapath>, u32);

impl Room {
    fn new(world: &World) -> Self {
        let mut room = Self(Reconciler::new(MemoryDatapath::new(world.sessions)).expect("memory"), BEGIN);
        room.0.publish(&world.image()).expect("memory");
        room.clock(BEGIN);
        room
    }

    fn clock(&mut self, now: u32) {
        self.1 = now;
        self.0.datapath().set_inputs(now, 0);
    }

    fn send(&self, frame: &Frame) {
        let verdict = self.0.datapath().run(&mut frame.bytes(), IFINDEX);
        assert!(matches!(verdict, Verdict::Transmit(_)), "{verdict:?} of {frame:?}");
    }

    fn lines(&self) -> Sessions<'_> {
        self.0.datapath().sessions()
    }

    fn sweep(&mut self, purge: &[u16]) -> Sweep {
        let swept = self.0.datapath_mut().sweep(&purge.iter().copied().collect()).expect("memory");
        assert_eq!(dangling(&self.lines(), self.1, self.0.datapath().settings()), [""; 0]);
        swept
    }

    /// The position of the only session that is there.
    fn only(&self) -> usize {
        let mut lines = self.lines().flows.iter().flatten().enumerate().filter(|(_, word)| word.load() != 0);
        let (position, _) = lines.next().expect("a session");
        assert!(lines.next().is_none());
        position
    }

    fn is_empty(&self) -> bool {
        let lines = self.lines();
        let words = lines.flows.iter().chain(lines.returns).flatten().all(|word| word.load() == 0);
        words
            && lines
                .sessions
                .iter()
                .all(|line| SessionState::from_word(line[word::STATE].load()).phase() == Phase::Free)
    }
}

fn swept(freed: u64, sessions: &[(u16, u64, u64)]) -> Sweep {
    let count = |(id, open, closing): &(u16, u64, u64)| (*id, SessionCount { open: *open, closing: *closing });
    Sweep { sessions: sessions.iter().map(count).collect(), freed }
}

#[test]
fn it_counts_open_and_closing_sessions_of_each_backend() {
    let mut room = Room::new(&world());
    assert_eq!(room.sweep(&[]), swept(0, &[]));
    room.send(&request(SYN));
    room.send(&query());
    assert_eq!(room.sweep(&[]), swept(0, &[(1, 1, 0), (3, 1, 0)]));
    for frame in [answer(SYN | ACK), request(FIN | ACK), answer(ACK)] {
        room.send(&frame);
        assert_eq!(room.sweep(&[]), swept(0, &[(1, 1, 0), (3, 1, 0)]));
    }
    room.send(&answer(FIN | ACK));
    assert_eq!(room.sweep(&[]), swept(0, &[(1, 0, 1), (3, 1, 0)]));
    room.send(&request(RST));
    assert_eq!(room.sweep(&[]), swept(0, &[(1, 0, 1), (3, 1, 0)]));
}

#[test]
fn it_frees_what_is_dead_and_nothing_sooner() {
    let mut room = Room::new(&world());
    room.send(&request(SYN));
    room.clock(BEGIN + timeout(Phase::HalfOpen));
    assert_eq!(room.sweep(&[]), swept(0, &[(1, 1, 0)]));
    room.clock(BEGIN + timeout(Phase::HalfOpen) + 1);
    assert_eq!(room.sweep(&[]), swept(1, &[]));
    assert!(room.is_empty());
    assert_eq!(room.sweep(&[]), swept(0, &[]));
    room.send(&request(SYN));
}

#[test]
fn it_frees_the_sessions_of_purged_backends_alone() {
    let mut room = Room::new(&world());
    room.send(&request(SYN));
    room.send(&query());
    assert_eq!(room.sweep(&[3, 9]), swept(1, &[(1, 1, 0)]));
    room.send(&answer(SYN | ACK));
    room.send(&query());
    assert_eq!(room.sweep(&[1, 3]), swept(2, &[]));
    assert!(room.is_empty());
}

#[test]
fn it_leaves_a_session_that_is_being_written_to_its_writer() {
    let mut room = Room::new(&world());
    room.send(&request(SYN));
    let position = room.only();
    let state = &room.lines().sessions[position][word::STATE];
    state.store(SessionState::new(Phase::Busy, BEGIN, 7).word());
    let untouched = |room: &Room| room.only() == position;
    let purge: BTreeSet<u16> = [1].into();
    let settings = *room.0.datapath().settings();
    assert_eq!(sweep(&room.lines(), BEGIN + timeout(Phase::Busy), &settings, &purge), swept(0, &[]));
    assert!(untouched(&room));
    // Its writer is gone.
    room.clock(BEGIN + timeout(Phase::Busy) + 1);
    assert_eq!(room.sweep(&[]), swept(1, &[]));
    assert!(room.is_empty());
}

#[test]
fn it_clears_what_a_session_that_gave_way_left_behind() {
    let mut room = Room::new(&world());
    for frame in [request(SYN), answer(SYN | ACK), request(RST)] {
        room.send(&frame);
    }
    room.clock(BEGIN + REUSE);
    room.send(&tcp("198.51.100.8:1", VIP).flags(SYN));
    let words = |room: &Room| room.lines().flows.iter().flatten().filter(|word| word.load() != 0).count();
    assert_eq!(words(&room), 2);
    assert_eq!(room.sweep(&[]), swept(0, &[(1, 1, 0)]));
    assert_eq!(words(&room), 1);
    room.send(&tcp(FIRST, NAT).flags(SYN | ACK));
}

#[test]
fn it_clears_return_words_that_nobody_owns() {
    let mut room = Room::new(&world());
    room.send(&request(SYN));
    let session = u32::try_from(room.only()).expect("a position");
    let busy = (session + 1) % 1_024;
    let lines = room.lines();
    lines.sessions[busy as usize][word::STATE].store(SessionState::new(Phase::Busy, BEGIN, 1).word());
    let free: Vec<&Word> = lines.returns.iter().flatten().filter(|word| word.load() == 0).take(4).collect();
    let named = [session, (session + 2) % 1_024, u32::MAX, busy];
    for (word, peer) in free.iter().zip(named) {
        word.store(IndexEntry { tag: 1, peer }.word());
    }
    let settings = *room.0.datapath().settings();
    assert_eq!(sweep(&lines, BEGIN, &settings, &BTreeSet::new()), swept(0, &[(1, 1, 0)]));
    let left: Vec<bool> = free.iter().map(|word| word.load() != 0).collect();
    assert_eq!(left, [false, false, false, true], "the session that is being written may name its word yet");
    room.clock(BEGIN + 1);
    room.send(&answer(SYN | ACK));
    room.clock(BEGIN + timeout(Phase::Busy) + 1);
    assert_eq!(room.sweep(&[]), swept(1, &[(1, 1, 0)]));
}

#[test]
fn random_traffic_leaves_nothing_that_a_sweep_does_not_clear() {
    for seed in 0..24 {
        let mut traffic = Traffic::new(seed);
        let mut changing = Changing::new(64);
        let mut room = Room::new(&changing.world());
        for number in 1..=600 {
            let mut frame = traffic.frame();
            if let Verdict::Transmit(_) = room.0.datapath().run(&mut frame, IFINDEX) {
                traffic.note(frame);
            }
            if traffic.random.chance(100) {
                room.clock(room.1.wrapping_add(u32::try_from(traffic.random.below(40)).expect("small")));
            }
            if number % 50 == 0 {
                let live = room.sweep(&[u16::try_from(traffic.random.below(20)).expect("small")]);
                changing.change(&mut traffic.random);
                room.0.publish(&changing.world().image()).expect("memory");
                // Nothing is dead right after a sweep, and a sweep changes nothing that lives.
                assert_eq!(room.sweep(&[]), Sweep { freed: 0, ..live }, "seed {seed}");
            }
        }
        room.clock(room.1.wrapping_add(100_000));
        room.sweep(&[]);
        assert!(room.is_empty(), "seed {seed}");
    }
}

/// Two threads forward, each with one connection that never falls silent, while a third sweeps and purges.
#[test]
fn it_works_while_packets_flow() {
    let world = Changing::new(256).world();
    let mut room = Room::new(&world);
    let datapath = room.0.datapath();
    let settings = *datapath.settings();
    let is_over = AtomicBool::new(false);
    let now = Word::new(BEGIN.into());
    let tick = |by: u64| {
        let now = u32::try_from(now.fetch_add(by) + by).expect("a few ticks");
        datapath.set_inputs(now, now.wrapping_mul(0x9e37_79b9));
    };
    let forward = |seed: u64| {
        let mut traffic = Traffic::new(seed);
        let open = tcp(&format!("203.0.113.{seed}:7"), VIP).flags(SYN);
        // The other thread may have the same bucket's port for a moment.
        let mut leaving = open.bytes();
        while !matches!(datapath.run(&mut leaving, IFINDEX), Verdict::Transmit(_)) {}
        let (balancer, backend) = ends(&leaving);
        let _established = datapath.run(&mut tcp(&backend, &balancer).flags(SYN | ACK).bytes(), IFINDEX);
        for number in 0..30_000 {
            let mut frame = traffic.frame();
            if let Verdict::Transmit(_) = datapath.run(&mut frame, IFINDEX) {
                traffic.note(frame);
            }
            if number % 40 == 0 {
                tick(1);
            }
            if number % 10 == 0 {
                let verdict = datapath.run(&mut open.clone().flags(ACK).bytes(), IFINDEX);
                assert!(matches!(verdict, Verdict::Transmit(_)), "thread {seed}, frame {number}: {verdict:?}");
            }
        }
    };
    let sweeps = std::thread::scope(|scope| {
        let threads = [1, 2].map(|seed| scope.spawn(move || forward(seed)));
        let sweeper = scope.spawn(|| {
            let mut sweeps = 0u64;
            while !is_over.load(Ordering::SeqCst) {
                let now = u32::try_from(now.load()).expect("a few ticks");
                // Of the random service's backends: their sessions move all the time.
                let _counts = sweep(&datapath.sessions(), now, &settings, &[7, 8].into());
                sweeps += 1;
            }
            sweeps
        });
        let ended = threads.map(std::thread::ScopedJoinHandle::join);
        is_over.store(true, Ordering::SeqCst);
        for thread in ended {
            thread.expect("a thread that forwards");
        }
        sweeper.join().expect("the sweeper")
    });
    assert!(sweeps > 10, "{sweeps} sweeps");
    let end = u32::try_from(now.load()).expect("a few ticks");
    room.clock(end);
    room.sweep(&[]);
    room.clock(end + 100_000);
    room.sweep(&[]);
    assert!(room.is_empty());
}
