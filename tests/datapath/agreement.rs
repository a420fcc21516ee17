//! The host's run of the pipeline against the kernel's: the same random frames, the same changes of the world, the same
//! clock and dice; the same verdicts, bytes, counters and session maps.
//!
//! `WEIR_SEED` replaces the seed, `WEIR_FRAMES` the number of frames.

use std::collections::BTreeSet;
use std::str::FromStr;

use harness::packets::{checksum_faults, show};
use harness::world::World;
use lb_userspace::datapath::sweep::sweep;

use crate::kernel::kernel;
use crate::sides::{Host, Side, verdicts};
use crate::sweep::dangling;
use crate::traffic::{Changing, Traffic, ids};

const SESSIONS: u32 = 64;
const TRANSMIT: u32 = 3;

fn setting<T: FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Both datapaths, and what happens to them.
struct Trial {
    sides: Vec<Box<dyn Side>>,
    traffic: Traffic,
    changing: Changing,
    world: World,
    now: u32,
    transmitted: usize,
}

impl Trial {
    fn new(sides: Vec<Box<dyn Side>>, seed: u64) -> Self {
        let changing = Changing::new(SESSIONS);
        let world = changing.world();
        let mut trial =
            Self { sides, traffic: Traffic::new(seed), changing, world, now: u32::MAX - 3_000, transmitted: 0 };
        trial.publish();
        trial
    }

    fn publish(&mut self) {
        let image = self.world.image();
        self.sides.iter_mut().for_each(|side| side.publish(&image));
    }

    /// One frame on both, and now and then something else before it.
    fn step(&mut self, number: usize) {
        let random = &mut self.traffic.random;
        if random.chance(12) {
            self.changing.change(random);
            self.world = self.changing.world();
            self.publish();
        }
        let random = &mut self.traffic.random;
        self.now = self.now.wrapping_add(match random.below(200) {
            0 => 120,
            1..=2 => 12,
            3..=20 => 1,
            _ => 0,
        });
        let dice = random.word();
        let frame = self.traffic.frame();
        let outcomes: Vec<(u32, Vec<u8>)> = (self.sides.iter_mut())
            .map(|side| {
                side.set_inputs(self.now, dice);
                side.run(&frame)
            })
            .collect();
        for (side, outcome) in self.sides.iter().zip(&outcomes) {
            assert!(
                *outcome == outcomes[0],
                "frame {number}, now {}, dice {dice:#x}:\n{}\nhost: action {}, {}\n{}: action {}, {}",
                self.now,
                show(&frame),
                outcomes[0].0,
                show(&outcomes[0].1),
                side.name(),
                outcome.0,
                show(&outcome.1),
            );
        }
        let (action, output) = &outcomes[0];
        if *action == TRANSMIT {
            self.transmitted += 1;
            if checksum_faults(&frame).is_empty() {
                assert_eq!(checksum_faults(output), [""; 0], "frame {number}:\n{}", show(output));
            }
            self.traffic.note(output.clone());
        } else {
            assert_eq!(*output, frame, "frame {number} was changed and not transmitted");
        }
    }

    fn compare_counters(&self, number: usize) {
        let host = self.sides[0].counters();
        for side in &self.sides[1..] {
            for ((verdict, host), other) in verdicts().into_iter().zip(&host).zip(side.counters()) {
                assert_eq!(other, *host, "after frame {number}: {verdict:?} in {}", side.name());
            }
        }
    }

    fn compare_sessions(&self, number: usize) {
        let words = |side: &dyn Side| -> Vec<u64> {
            let lines = side.sessions();
            [lines.flows, lines.returns, lines.sessions]
                .into_iter()
                .flatten()
                .flatten()
                .map(lb_ebpf::word::Word::load)
                .collect()
        };
        let host = words(&*self.sides[0]);
        for side in &self.sides[1..] {
            let other = words(&**side);
            let first = host.iter().zip(&other).position(|(host, other)| host != other);
            assert_eq!(
                first,
                None,
                "after frame {number}: first word of the session maps that {} has otherwise",
                side.name()
            );
        }
    }

    /// Sweeps both alike; nothing may dangle afterwards.
    fn sweep(&self, number: usize) {
        let settings = self.world.image().settings.expect("worlds have settings");
        let purge: BTreeSet<u16> = [u16::try_from(1 + number % 18).expect("small")].into();
        let sweeps: Vec<_> =
            self.sides.iter().map(|side| sweep(&side.sessions(), self.now, &settings, &purge)).collect();
        for swept in &sweeps {
            assert_eq!(*swept, sweeps[0], "after frame {number}");
        }
        assert_eq!(dangling(&self.sides[0].sessions(), self.now, &settings), [""; 0], "after frame {number}");
    }
}

#[test]
fn host_and_kernel_agree_on_random_traffic() {
    let (seed, frames) = (setting("WEIR_SEED", 0x5eed_1e55_u64), setting("WEIR_FRAMES", 20_000_usize));
    println!("WEIR_SEED={seed} WEIR_FRAMES={frames}");
    let mut sides: Vec<Box<dyn Side>> = vec![Box::new(Host::new(SESSIONS))];
    if let Some(kernel) = kernel(SESSIONS) {
        sides.push(Box::new(kernel));
    }
    let mut trial = Trial::new(sides, seed);
    for number in 1..=frames {
        trial.step(number);
        if number % 100 == 0 {
            trial.compare_counters(number);
            trial.compare_sessions(number);
        }
        if number % 1_000 == 0 {
            trial.sweep(number);
        }
    }
    trial.compare_counters(frames);
    trial.compare_sessions(frames);
    let (services, backends) = ids();
    let host = trial.sides[0].traffic(&services, &backends);
    for side in &trial.sides {
        assert_eq!(side.traffic(&services, &backends), host, "{}", side.name());
    }
    let reached: Vec<String> = verdicts()
        .into_iter()
        .zip(trial.sides[0].counters())
        .map(|(verdict, count)| format!("{} {count}", harness::packets::show_verdict(verdict)))
        .collect();
    println!("{}", reached.join(", "));
    assert!(trial.transmitted * 2 >= frames, "only {} of {frames} frames reached the rewrite", trial.transmitted);
}
