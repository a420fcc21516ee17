//! A story's stage: a config, a world to observe, and an agent's control room over maps in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use lb_common::abi::{DeviceRecord, Policy};
use lb_common::addr::{Hop, Protocol};
use lb_common::hash::HashKey;
use lb_userspace::config::{AdminState, Backend, Config, HealthCheck, Nat, Service, ServiceName, SourceMode, Timeouts};
use lb_userspace::control::compile::{Compiled, Names, Observed, compile};
use lb_userspace::control::image::Image;
use lb_userspace::control::ledger::Ledger;
use lb_userspace::control::reconcile::{PublishError, Reconciler};
use lb_userspace::datapath::Datapath;
use lb_userspace::health::Health;
use lb_userspace::network::Route;

use crate::dump::assert_dump;
use crate::memory::Memory;

/// See the module. Time is what the story says it is.
pub struct Story {
    pub config: Config,
    pub observed: Observed,
    pub ledger: Ledger,
    pub reconciler: Reconciler<Memory>,
    pub names: Names,
}

impl Story {
    /// An agent just started over empty maps, with one device and the balancer's address 10.0.0.254.
    pub fn new(services: impl IntoIterator<Item = Service>) -> Self {
        let device = DeviceRecord { ifindex: 7, reserved: 0, mac: Hop::new([2, 0, 0, 0, 0, 0xfe], 1) };
        let observed = Observed {
            now: Duration::from_secs(100),
            hash_key: HashKey(std::array::from_fn(|i| 0x9e37_79b9_7f4a_7c15u64.rotate_left(u32::try_from(i).unwrap()))),
            hz: 250,
            devices: [(1, device)].into(),
            routes: BTreeMap::new(),
            health: BTreeMap::new(),
            cut: BTreeSet::new(),
        };
        let mut story = Self {
            config: config(services),
            observed,
            ledger: Ledger::default(),
            reconciler: Reconciler::new(Memory::default()).unwrap(),
            names: Names::default(),
        };
        (1..=9).for_each(|last| story.route(last, true));
        story
    }

    pub fn compile(&mut self) -> Compiled {
        compile(&self.config, &self.observed, self.reconciler.image(), &mut self.ledger)
    }

    /// Compiles and publishes.
    pub fn publish(&mut self) -> Result<usize, PublishError> {
        let compiled = self.compile();
        assert_eq!(compiled.problems, [""; 0]);
        self.names = compiled.names;
        self.reconciler.publish(&compiled.image)
    }

    /// Compiles and publishes; what was known and what is in the maps is the same then. Returns the number of steps.
    #[track_caller]
    pub fn settle(&mut self) -> usize {
        let steps = self.publish().unwrap();
        assert_eq!(*self.reconciler.image(), self.reconciler.datapath().read().unwrap());
        steps
    }

    /// Settles, and compares what the maps hold.
    #[track_caller]
    pub fn becomes(&mut self, expected: &str) {
        self.settle();
        assert_dump(self.reconciler.image(), expected);
    }

    /// A second passes, in which the sessions are swept.
    pub fn sweep(&mut self) {
        self.observed.now += Duration::from_millis(500);
        let purge = self.ledger.purge(self.reconciler.image());
        let sweep = self.memory().sweep(&purge).unwrap();
        self.ledger.note_sweep(&sweep, self.observed.now);
        self.observed.now += Duration::from_millis(500);
    }

    /// The agent ends and another one starts over the same maps: it has swept, and observed nothing yet.
    pub fn restart(&mut self) {
        let memory = self.memory().clone();
        self.reconciler = Reconciler::new(memory).unwrap();
        self.ledger = Ledger::default();
        self.observed.routes.clear();
        self.observed.health.clear();
        self.sweep();
    }

    pub fn memory(&mut self) -> &mut Memory {
        self.reconciler.datapath_mut()
    }

    pub fn image(&self) -> &Image {
        self.reconciler.image()
    }

    pub fn service(&mut self, name: &str) -> &mut Service {
        self.config.services.iter_mut().find(|service| service.name.0 == name).unwrap()
    }

    /// The backend 10.0.0.`last` of service "web".
    pub fn backend(&mut self, last: u8) -> &mut Backend {
        self.service("web").backends.iter_mut().find(|backend| backend.address.ip().octets()[3] == last).unwrap()
    }

    pub fn remove_backend(&mut self, last: u8) {
        self.service("web").backends.retain(|backend| backend.address.ip().octets()[3] != last);
    }

    /// What the kernel says about the way to 10.0.0.`last`.
    pub fn route(&mut self, last: u8, is_known: bool) {
        let hop = if is_known { Hop::new([2, 0, 0, 0, 0, last], 1) } else { Hop::UNKNOWN };
        let route = Route { hop, source: Some(Ipv4Addr::new(10, 0, 0, 254)), problem: None };
        self.observed.routes.insert(Ipv4Addr::new(10, 0, 0, last), route);
    }

    /// What probes say about 10.0.0.`last`:80 of service "web".
    pub fn probe(&mut self, last: u8, health: Health) {
        self.observed.health.insert((ServiceName("web".into()), address(last)), health);
    }
}

pub fn address(last: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), 80)
}

/// An active backend 10.0.0.`last`:80.
pub fn backend(last: u8, weight: u16) -> Backend {
    Backend { address: address(last), weight, state: AdminState::Active }
}

/// A service at 192.0.2.1 over TCP with backends of weight 1 and a drain timeout of a minute.
pub fn service(name: &str, port: u16, backends: &[u8]) -> Service {
    Service {
        name: ServiceName(name.into()),
        vip: Ipv4Addr::new(192, 0, 2, 1),
        port,
        protocol: Protocol::Tcp,
        policy: Policy::Maglev,
        source: SourceMode::Balancer,
        health: None,
        backends: backends.iter().map(|last| backend(*last, 1)).collect(),
        drain_timeout: Duration::from_mins(1),
    }
}

pub fn health_check() -> HealthCheck {
    let (interval, timeout) = (Duration::from_secs(2), Duration::from_secs(1));
    HealthCheck { interval, timeout, rise: 2, fall: 3, port: None }
}

fn config(services: impl IntoIterator<Item = Service>) -> Config {
    Config {
        interfaces: Vec::new(),
        nat: Nat { port_first: 61_000, port_last: 65_535, source: None },
        timeouts: Timeouts {
            half_open: Duration::from_secs(10),
            established: Duration::from_hours(1),
            half_closed: Duration::from_mins(2),
            closing: Duration::from_mins(1),
            udp_one_way: Duration::from_secs(30),
            udp_both_ways: Duration::from_mins(3),
        },
        sessions: 4_096,
        metrics: None,
        services: services.into_iter().collect(),
    }
}
