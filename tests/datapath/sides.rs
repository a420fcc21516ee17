//! The two datapaths that must agree, behind one face: the host's run of the pipeline, and the kernel's.

use lb_common::reason::{Counter, Direction, DropReason, PassReason, Verdict};
use lb_userspace::control::image::Image;
use lb_userspace::control::reconcile::Reconciler;
use lb_userspace::datapath::memory::MemoryDatapath;
use lb_userspace::datapath::sweep::Sessions;
use lb_userspace::datapath::{Datapath, Traffic};

use harness::world::IFINDEX;

/// One of the two.
pub trait Side {
    /// `host` or `kernel`.
    fn name(&self) -> &'static str;
    /// Brings the maps to `image`.
    fn publish(&mut self, image: &Image);
    /// Sets clock and dice.
    fn set_inputs(&mut self, now: u32, random: u32);
    /// Whether the side takes such a frame at all.
    fn takes(&self, frame: &[u8]) -> bool;
    /// Runs a frame: the XDP action, and the frame afterwards.
    fn run(&mut self, frame: &[u8]) -> (u32, Vec<u8>);
    /// The verdict counters.
    fn counters(&self) -> Vec<u64>;
    /// What went through these services and backends.
    fn traffic(&self, services: &[u16], backends: &[u16]) -> Traffic;
    /// The session maps.
    fn sessions(&self) -> Sessions<'_>;
}

/// What the kernel is told for a verdict.
pub const fn action(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Drop(_) => 1,
        Verdict::Pass(_) => 2,
        Verdict::Transmit(_) => 3,
    }
}

/// Every verdict, by its counter.
pub fn verdicts() -> Vec<Verdict> {
    let passes = PassReason::ALL.into_iter().map(Verdict::Pass);
    let drops = DropReason::ALL.into_iter().map(Verdict::Drop);
    passes.chain(drops).chain(Direction::ALL.into_iter().map(Verdict::Transmit)).collect()
}

/// The pipeline in memory.
pub struct Host(Reconciler<MemoryDatapath>);

impl Host {
    /// With room for so many sessions.
    pub fn new(sessions: u32) -> Self {
        Self(Reconciler::new(MemoryDatapath::new(sessions)).expect("memory can be read"))
    }
}

impl Side for Host {
    fn name(&self) -> &'static str {
        "host"
    }

    fn publish(&mut self, image: &Image) {
        self.0.publish(image).expect("memory takes every image of a test");
    }

    fn set_inputs(&mut self, now: u32, random: u32) {
        self.0.datapath().set_inputs(now, random);
    }

    fn takes(&self, _: &[u8]) -> bool {
        true
    }

    fn run(&mut self, frame: &[u8]) -> (u32, Vec<u8>) {
        let mut frame = frame.to_vec();
        let before = self.counters();
        let verdict = self.0.datapath().run(&mut frame, IFINDEX);
        let counter = Counter::from(verdict).index() as usize;
        assert_eq!(self.counters()[counter], before[counter] + 1, "the host returned another verdict than it counted");
        (action(verdict), frame)
    }

    fn counters(&self) -> Vec<u64> {
        self.0.datapath().counters().expect("memory can be read").to_vec()
    }

    fn traffic(&self, services: &[u16], backends: &[u16]) -> Traffic {
        self.0.datapath().traffic(services, backends).expect("memory can be read")
    }

    fn sessions(&self) -> Sessions<'_> {
        self.0.datapath().sessions()
    }
}
