//! Random traffic that can be told again from its seed: clients, answers to what was transmitted, and mangled frames.

use std::collections::VecDeque;

use harness::packets::{ACK, FIN, Frame, IP, PSH, RST, SYN, TRANSPORT, tcp, udp};
use harness::world::{Backend, Service, World};
use lb_common::abi::{BACKEND_DISABLED, BACKEND_DRAINING, BACKEND_UNHEALTHY, Policy};

/// `SplitMix64` (Steele, Lea and Flood, OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed, the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 32 bits.
    pub fn word(&mut self) -> u32 {
        u32::try_from(self.bits() >> 32).expect("32 bits")
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.bits() % end as u64).expect("below a usize")
    }

    /// True in so many of a thousand cases.
    pub fn chance(&mut self, per_mille: usize) -> bool {
        self.below(1_000) < per_mille
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// The services: every policy, both protocols, with and without the clients' addresses.
const SERVICES: [(&str, bool, Policy, bool); 6] = [
    ("192.0.2.1:80", true, Policy::Maglev, false),
    ("192.0.2.1:81", true, Policy::RoundRobin, false),
    ("192.0.2.1:82", true, Policy::Random, false),
    ("192.0.2.1:53", false, Policy::Maglev, false),
    ("192.0.2.2:80", true, Policy::Maglev, true),
    ("192.0.2.2:53", false, Policy::RoundRobin, true),
];
/// Backends of each service.
const EACH: u16 = 3;

/// The ids of all services, and of all backends.
pub fn ids() -> (Vec<u16>, Vec<u16>) {
    let services = u16::try_from(SERVICES.len()).expect("six");
    ((1..=services).collect(), (1..=services * EACH).collect())
}

/// What can befall a backend.
#[derive(Clone, Copy, Debug)]
enum Condition {
    Well,
    Flags(u32),
    WithoutHop,
    Elsewhere,
    Gone,
}

/// A world that changes.
#[derive(Clone, Debug)]
pub struct Changing {
    sessions: u32,
    /// By backend id less one.
    conditions: Vec<Condition>,
}

impl Changing {
    /// Everybody is well.
    pub fn new(sessions: u32) -> Self {
        Self { sessions, conditions: vec![Condition::Well; SERVICES.len() * usize::from(EACH)] }
    }

    /// Something happens to one backend, and somebody else recovers.
    pub fn change(&mut self, random: &mut Random) {
        let (ill, well) = (random.below(self.conditions.len()), random.below(self.conditions.len()));
        self.conditions[ill] = match random.below(6) {
            0 | 1 => Condition::Flags(BACKEND_DRAINING),
            2 => Condition::Flags(BACKEND_DISABLED),
            3 => Condition::Flags(BACKEND_UNHEALTHY),
            4 => random.pick(&[Condition::WithoutHop, Condition::Elsewhere]),
            _ => Condition::Gone,
        };
        self.conditions[well] = Condition::Well;
    }

    /// The world as it is now.
    pub fn world(&self) -> World {
        let world = World::new().sessions(self.sessions).nat_ports(40_000, 96).device(2, [2, 0, 0, 0, 0, 2]);
        SERVICES.iter().zip(1..).fold(world, |world, ((vip, is_tcp, policy, preserve), id)| {
            let service = if *is_tcp { Service::tcp(id, vip) } else { Service::udp(id, vip) };
            let service = if *preserve { service.preserve() } else { service };
            world.service(self.with_backends(service.policy(*policy), id))
        })
    }

    fn with_backends(&self, service: Service, id: u16) -> Service {
        (1..=EACH).fold(service, |service, number| {
            let backend_id = (id - 1) * EACH + number;
            let backend = Backend::new(backend_id, &format!("10.0.{id}.{}:8{number}", number + 1)).weight(number);
            match self.conditions[usize::from(backend_id) - 1] {
                Condition::Well => service.backend(backend),
                Condition::Flags(flags) => service.backend(backend.flags(flags)),
                Condition::WithoutHop => service.backend(backend.without_hop()),
                Condition::Elsewhere => service.backend(backend.through(2)),
                Condition::Gone => service,
            }
        })
    }
}

/// Sender and receiver of a frame.
pub fn ends(frame: &[u8]) -> (String, String) {
    let end = |ip: usize, port: usize| {
        let (a, p) = (&frame[ip..ip + 4], &frame[port..port + 2]);
        format!("{}.{}.{}.{}:{}", a[0], a[1], a[2], a[3], u16::from_be_bytes([p[0], p[1]]))
    };
    (end(IP + 12, TRANSPORT), end(IP + 16, TRANSPORT + 2))
}

/// Makes one frame after another.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// What it draws from; also for the caller's use.
    pub random: Random,
    /// The last frames that were transmitted.
    transmitted: VecDeque<Vec<u8>>,
}

/// Frames that may still be answered.
const REMEMBERED: usize = 48;

impl Traffic {
    /// The same seed and the same transmissions, the same frames.
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), transmitted: VecDeque::new() }
    }

    /// Something was transmitted, and may be answered.
    pub fn note(&mut self, frame: Vec<u8>) {
        self.transmitted.push_back(frame);
        if self.transmitted.len() > REMEMBERED {
            self.transmitted.pop_front();
        }
    }

    /// The next frame.
    pub fn frame(&mut self) -> Vec<u8> {
        let answered = if self.random.chance(600) { self.answer() } else { None };
        let mut frame = answered.unwrap_or_else(|| self.request()).bytes();
        if self.random.chance(120) {
            self.mangle(&mut frame);
        }
        frame
    }

    fn request(&mut self) -> Frame {
        let client = format!("198.51.100.{}:{}", 1 + self.random.below(8), 50_000 + self.random.below(3));
        let (vip, is_tcp, ..) = self.random.pick(&SERVICES);
        let flags = self.random.pick(&[SYN, SYN, SYN, SYN, SYN, ACK, PSH | ACK, FIN | ACK, RST, SYN | ACK]);
        let frame = if is_tcp { tcp(&client, vip).flags(flags) } else { udp(&client, vip) };
        self.decorate(frame)
    }

    /// An answer to something that was transmitted, from whoever received it.
    fn answer(&mut self) -> Option<Frame> {
        let remembered = self.transmitted.len();
        let frame = self.transmitted.get(self.random.below(remembered.max(1)))?;
        let (to, from) = ends(frame);
        let is_tcp = frame[IP + 9] == 6;
        let flags = self.random.pick(&[SYN | ACK, ACK, ACK, ACK, PSH | ACK, PSH | ACK, FIN | ACK, FIN | ACK, RST]);
        let frame = if is_tcp { tcp(&from, &to).flags(flags) } else { udp(&from, &to) };
        Some(self.decorate(frame))
    }

    fn decorate(&mut self, frame: Frame) -> Frame {
        let payload: Vec<u8> = (0..self.random.below(40)).map(|_| self.random.bits().to_le_bytes()[0]).collect();
        let frame = frame.payload(payload);
        match self.random.below(20) {
            0 => frame.no_checksum(),
            1 => frame.checksum_off_by(3),
            2 => frame.padding(18),
            3 => frame.tcp_options(&[1, 1, 1, 0]),
            4 => frame.ttl(self.random.pick(&[0, 1, 2, 255])),
            5 => frame.macs([2, 7, 7, 7, 7, 7], harness::packets::BALANCER_MAC),
            _ => frame,
        }
    }

    fn mangle(&mut self, frame: &mut Vec<u8>) {
        let headers = frame.len().min(TRANSPORT + 20);
        match self.random.below(6) {
            0..=2 => {
                for _ in 0..=self.random.below(3) {
                    let (byte, bit) = (self.random.below(headers), self.random.below(8));
                    frame[byte] ^= 1 << bit;
                }
            }
            3 => frame.truncate(14 + self.random.below(frame.len() - 13)),
            4 => {
                let lie = self.random.word().to_le_bytes();
                let at = self.random.pick(&[IP + 2, IP + 2, TRANSPORT + 4, TRANSPORT + 12, IP]).min(frame.len() - 2);
                frame[at..at + 2].copy_from_slice(&[lie[0] & 1, lie[1]]);
            }
            _ => frame.extend([0xee; 7]),
        }
    }
}
