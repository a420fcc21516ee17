//! A row: a world, what happens in it, and what must come of each frame; and the one function that runs rows.

use std::collections::BTreeMap;

use harness::packets::{Frame, checksum_faults, show, show_verdict};
use harness::world::World;
use lb_common::abi::TrafficStats;
use lb_common::reason::{Direction, DropReason, PassReason, Verdict};
use lb_userspace::datapath::Traffic;

use crate::kernel::with_shared_kernel;
use crate::sides::{Host, Side, action, verdicts};

/// Ids whose traffic every row looks at; rows use no others.
const SERVICES: [u16; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
const BACKENDS: [u16; 6] = [1, 2, 3, 4, 5, 6];

/// See the module.
pub struct Row {
    name: String,
    world: World,
    acts: Vec<Act>,
}

enum Act {
    Clock(u32),
    Dice(u32),
    World(World),
    Frame(Vec<u8>, Box<Expect>),
}

/// What must come of a frame.
#[must_use]
#[derive(Clone, Debug)]
pub struct Expect {
    verdict: Verdict,
    /// Service and backend that it is counted for, the frame that leaves, whether its NAT port is up to the datapath.
    route: Option<(u16, u16, Frame, bool)>,
    begins: bool,
}

/// Passed up, unchanged.
pub fn pass(reason: PassReason) -> Expect {
    Expect { verdict: Verdict::Pass(reason), route: None, begins: false }
}

/// Dropped, unchanged.
pub fn dropped(reason: DropReason) -> Expect {
    Expect { verdict: Verdict::Drop(reason), route: None, begins: false }
}

/// Sent to backend `backend` of service `service`, as `frame`.
pub fn forward(service: u16, backend: u16, frame: Frame) -> Expect {
    let route = Some((service, backend, frame, false));
    Expect { verdict: Verdict::Transmit(Direction::Forward), route, begins: false }
}

/// Sent back to the client of backend `backend` of service `service`, as `frame`.
pub fn back(service: u16, backend: u16, frame: Frame) -> Expect {
    let route = Some((service, backend, frame, false));
    Expect { verdict: Verdict::Transmit(Direction::Return), route, begins: false }
}

impl Expect {
    /// It begins a flow.
    pub fn begins(self) -> Self {
        Self { begins: true, ..self }
    }

    /// The source port is any one: the datapath's choice among several.
    pub fn any_port(mut self) -> Self {
        self.route = self.route.map(|(service, backend, frame, _)| (service, backend, frame, true));
        self
    }

    /// The frame that must come out when `input` went in and `output` did come out.
    fn output(&self, input: &[u8], output: &[u8]) -> Vec<u8> {
        match &self.route {
            None => input.to_vec(),
            Some((_, _, frame, false)) => frame.bytes(),
            Some((_, _, frame, true)) => {
                let port = output.get(34..36).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
                frame.clone().source_port(port).bytes()
            }
        }
    }

    /// What must be added to what went through services and backends.
    fn traffic(&self, input: &[u8]) -> Traffic {
        let Some((service, backend, ..)) = &self.route else { return Traffic::default() };
        let bytes = u64::from(u16::from_be_bytes([input[16], input[17]]));
        let share = match self.verdict {
            Verdict::Transmit(Direction::Return) => {
                TrafficStats { return_packets: 1, return_bytes: bytes, ..TrafficStats::default() }
            }
            _ => TrafficStats {
                flows: self.begins.into(),
                forward_packets: 1,
                forward_bytes: bytes,
                ..TrafficStats::default()
            },
        };
        Traffic { services: [(*service, share)].into(), backends: [(*backend, share)].into() }
    }
}

impl Row {
    /// What it shows, and the world that it begins in; the clock is at 1,000 ticks, the dice show 0.
    pub fn new(name: impl Into<String>, world: World) -> Self {
        Self { name: name.into(), world, acts: Vec::new() }
    }

    /// Now, in ticks.
    pub fn clock(self, now: u32) -> Self {
        self.act(Act::Clock(now))
    }

    /// What the dice show from now on.
    pub fn dice(self, random: u32) -> Self {
        self.act(Act::Dice(random))
    }

    /// The world changes.
    pub fn world(self, world: World) -> Self {
        self.act(Act::World(world))
    }

    /// A frame comes in.
    pub fn send(self, frame: &Frame, expect: Expect) -> Self {
        self.raw(frame.bytes(), expect)
    }

    /// As [`Row::send`], with bytes of any kind.
    pub fn raw(self, frame: Vec<u8>, expect: Expect) -> Self {
        self.act(Act::Frame(frame, Box::new(expect)))
    }

    fn act(mut self, act: Act) -> Self {
        self.acts.push(act);
        self
    }

    /// The verdicts that its frames must get.
    pub fn verdicts(&self) -> impl Iterator<Item = Verdict> {
        self.acts.iter().filter_map(|act| match act {
            Act::Frame(_, expect) => Some(expect.verdict),
            _ => None,
        })
    }
}

/// Runs rows on the host and, where that may be, in the kernel.
pub fn check(rows: impl IntoIterator<Item = Row>) {
    for row in rows {
        play(&row, &mut Host::new(row.world.sessions));
        with_shared_kernel(row.world.sessions, |kernel| play(&row, kernel));
    }
}

fn play(row: &Row, side: &mut dyn Side) {
    let (mut now, mut random) = (1_000, 0);
    side.set_inputs(now, random);
    side.publish(&row.world.image());
    for (number, act) in (1..).zip(&row.acts) {
        match act {
            Act::World(world) => side.publish(&world.image()),
            Act::Clock(to) => now = *to,
            Act::Dice(to) => random = *to,
            Act::Frame(frame, expect) if side.takes(frame) => {
                let faults = observe(side, frame, expect);
                let (name, side) = (&row.name, side.name());
                assert!(faults.is_empty(), "row \"{name}\", act {number}, {side}:\n{}", faults.join("\n"));
            }
            Act::Frame(..) => {}
        }
        side.set_inputs(now, random);
    }
}

/// Runs one frame; what is not as it must be.
fn observe(side: &mut dyn Side, frame: &[u8], expect: &Expect) -> Vec<String> {
    let (counters, traffic) = (side.counters(), side.traffic(&SERVICES, &BACKENDS));
    let (action_taken, output) = side.run(frame);
    let mut faults = Vec::new();
    let counted: Vec<String> = (verdicts().into_iter().zip(counters).zip(side.counters()))
        .filter(|((_, before), after)| before != after)
        .map(|((verdict, before), after)| format!("{} x {}", show_verdict(verdict), after - before))
        .collect();
    let right = vec![format!("{} x 1", show_verdict(expect.verdict))];
    if counted != right {
        faults.push(format!("  counted {counted:?}, right is {right:?}\n  of {}", show(frame)));
    }
    if action_taken != action(expect.verdict) {
        faults.push(format!("  XDP action {action_taken}, right is {}", action(expect.verdict)));
    }
    let right = expect.output(frame, &output);
    if output != right {
        faults.push(format!("  the frame is  {}\n  and should be {}", show(&output), show(&right)));
    }
    let is_right = matches!(expect.verdict, Verdict::Transmit(_)) && checksum_faults(frame).is_empty();
    if is_right {
        faults.extend(checksum_faults(&output).into_iter().map(|fault| format!("  {fault}\n  in {}", show(&output))));
    }
    let (after, mut right) = (side.traffic(&SERVICES, &BACKENDS), traffic);
    let share = expect.traffic(frame);
    add(&mut right.services, &share.services);
    add(&mut right.backends, &share.backends);
    if after != right {
        faults.push(format!("  traffic is {after:?}\n  right is   {right:?}"));
    }
    faults
}

fn add(sums: &mut BTreeMap<u16, TrafficStats>, share: &BTreeMap<u16, TrafficStats>) {
    for (id, stats) in share {
        sums.entry(*id).or_default().add(stats);
    }
}
