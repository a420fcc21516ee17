//! Two CPUs open the same flows at the same moments: each flow gets one session, or none until it tries again.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::packets::{SYN, tcp};
use harness::world::{IFINDEX, World};
use lb_common::reason::{Direction, DropReason, Verdict};
use lb_common::session::{SessionState, word};
use lb_userspace::control::reconcile::Reconciler;
use lb_userspace::datapath::memory::MemoryDatapath;

use crate::cast::{VIP, web};

const FLOWS: usize = 20_000;

fn syn(number: usize) -> Vec<u8> {
    tcp(&format!("198.51.{}.7:{}", number / 200, 1_024 + number % 200), VIP).flags(SYN).bytes()
}

#[test]
fn a_flow_that_two_cpus_open_at_once_has_one_session() {
    let world = World::new().sessions(1 << 16).nat_ports(1_024, 60_000).service(web());
    let mut room = Reconciler::new(MemoryDatapath::new(world.sessions)).expect("memory");
    room.publish(&world.image()).expect("memory");
    let datapath = room.datapath();
    let arrived = AtomicUsize::new(0);
    let open_all = || {
        let mut verdicts = HashSet::new();
        let frames: Vec<Vec<u8>> = (0..FLOWS).map(syn).collect();
        for (number, mut frame) in frames.into_iter().enumerate() {
            arrived.fetch_add(1, Ordering::SeqCst);
            while arrived.load(Ordering::SeqCst) < 2 * (number + 1) {
                std::hint::spin_loop();
            }
            verdicts.insert(datapath.run(&mut frame, IFINDEX));
        }
        verdicts
    };
    let expected = [
        Verdict::Transmit(Direction::Forward),
        Verdict::Drop(DropReason::Contended),
        Verdict::Drop(DropReason::PortsExhausted),
    ];
    std::thread::scope(|scope| {
        for thread in [scope.spawn(open_all), scope.spawn(open_all)] {
            for verdict in thread.join().expect("a thread that forwards") {
                assert!(expected.contains(&verdict), "{verdict:?}");
            }
        }
    });
    let opened = sessions(datapath);
    assert!(opened.values().all(|count| *count == 1), "a flow has two sessions");
    // Whoever lost sends its SYN again.
    for number in 0..FLOWS {
        let verdict = datapath.run(&mut syn(number), IFINDEX);
        assert!(matches!(verdict, Verdict::Transmit(_)), "flow {number}: {verdict:?}");
    }
    let opened = sessions(datapath);
    assert!(opened.values().all(|count| *count == 1) && opened.len() == FLOWS, "{} flows", opened.len());
}

/// How many sessions each client's address and port has.
fn sessions(datapath: &MemoryDatapath) -> BTreeMap<[u64; 2], usize> {
    let live = datapath
        .sessions()
        .sessions
        .iter()
        .filter(|line| SessionState::from_word(line[word::STATE].load()).is_settled());
    live.fold(BTreeMap::new(), |mut counts, line| {
        *counts.entry([line[word::CLIENT + 1].load(), line[word::PORTS].load() & 0xffff]).or_default() += 1;
        counts
    })
}
