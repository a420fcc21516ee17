//! Small worlds: services, backends and devices in a line or two each, as the [`Image`] that the datapath takes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};

use lb_common::ABI_VERSION;
use lb_common::abi::{
    BACKEND_PRESENT, BackendRecord, DeviceRecord, Policy, SERVICE_PRESERVE, SETTING_PRESERVE, ServiceKey,
    ServiceRecord, Settings,
};
use lb_common::addr::{Address, Hop, Port, Protocol};
use lb_common::hash::HashKey;
use lb_common::limits::{INDEX_WAYS, SLOTS, device_index};
use lb_common::session::{Phase, TIMEOUTS};
use lb_userspace::control::image::Image;
use lb_userspace::control::maglev::{self, Member};
use lb_userspace::control::ring;

use crate::packets::{BALANCER_MAC, address, mac_of};

/// The interface that worlds have unless told otherwise: loopback's index, which is what `BPF_PROG_TEST_RUN` says.
pub const IFINDEX: u32 = 1;
/// The balancer's own address towards backends.
pub const BALANCER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The first NAT port that worlds have unless told otherwise.
pub const NAT_PORT: u16 = 40_000;

/// How long a session may be silent, in ticks, by phase: all different, so that a test tells them apart.
pub const fn timeout(phase: Phase) -> u32 {
    match phase {
        Phase::Free => 0,
        Phase::Busy => 40,
        Phase::HalfOpen => 10,
        Phase::Established => 1_000,
        Phase::ClientClosed => 200,
        Phase::BackendClosed => 210,
        Phase::Closing => 60,
        Phase::Reset => 70,
        Phase::UdpOneWay => 30,
        Phase::UdpBothWays => 100,
    }
}

/// How old a closing session must be before its port may be taken, in ticks.
pub const REUSE: u32 = 8;

/// What the balancer is told about the world.
#[must_use]
#[derive(Clone, Debug)]
pub struct World {
    /// Sessions that the datapath has room for: a power of two, 8 or more.
    pub sessions: u32,
    devices: BTreeMap<u16, DeviceRecord>,
    nat_ports: (u16, u16),
    services: Vec<Service>,
}

/// A service with its backends.
#[must_use]
#[derive(Clone, Debug)]
pub struct Service {
    id: u16,
    vip: SocketAddrV4,
    protocol: Protocol,
    policy: Policy,
    preserve: bool,
    /// A lookup table in which every slot is that backend, in place of Maglev's.
    primary: Option<u16>,
    /// A ring in place of the one of the backends that take new flows.
    ring: Option<Vec<u16>>,
    backends: Vec<Backend>,
}

/// A backend of a service.
#[must_use]
#[derive(Clone, Debug)]
pub struct Backend {
    id: u16,
    address: SocketAddrV4,
    weight: u16,
    flags: u32,
    hop: Option<Hop>,
}

impl Default for World {
    fn default() -> Self {
        let world = Self { sessions: 1_024, devices: BTreeMap::new(), nat_ports: (NAT_PORT, 1), services: Vec::new() };
        world.device(IFINDEX, BALANCER_MAC)
    }
}

impl World {
    /// One device, one NAT port (so that every rewritten frame is known beforehand), no service.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another number of sessions.
    pub fn sessions(self, sessions: u32) -> Self {
        Self { sessions, ..self }
    }

    /// Another NAT port range.
    pub fn nat_ports(self, first: u16, count: u16) -> Self {
        Self { nat_ports: (first, count), ..self }
    }

    /// One more device.
    pub fn device(mut self, ifindex: u32, mac: [u8; 6]) -> Self {
        let index = device_of(ifindex);
        let record = DeviceRecord { ifindex, mac: Hop::new(mac, index), ..DeviceRecord::default() };
        self.devices.insert(index, record);
        self
    }

    /// No device at all.
    pub fn no_device(mut self) -> Self {
        self.devices.clear();
        self
    }

    /// One more service, or the one with that id changed.
    pub fn service(mut self, service: Service) -> Self {
        self.services.retain(|other| other.id != service.id);
        self.services.push(service);
        self
    }

    /// The ids of all services.
    pub fn service_ids(&self) -> Vec<u16> {
        self.services.iter().map(|service| service.id).collect()
    }

    /// The image that the datapath is to have.
    pub fn image(&self) -> Image {
        let mut image = Image { settings: Some(self.settings()), devices: self.devices.clone(), ..Image::default() };
        for service in &self.services {
            service.enter(&mut image);
        }
        image
    }

    fn settings(&self) -> Settings {
        let mut timeouts = [0; TIMEOUTS];
        for phase in Phase::ALL {
            timeouts[phase as usize] = timeout(phase);
        }
        let ways = u32::try_from(INDEX_WAYS).expect("eight");
        Settings {
            abi_version: ABI_VERSION,
            bucket_mask: self.sessions / ways - 1,
            nat_port_first: self.nat_ports.0,
            nat_port_count: if self.services.iter().all(|service| service.preserve) { 0 } else { self.nat_ports.1 },
            flags: if self.services.iter().any(|service| service.preserve) { SETTING_PRESERVE } else { 0 },
            timeouts,
            reuse_ticks: REUSE,
            zero: 0,
            hash_key: hash_key(),
        }
    }
}

/// A fixed secret, so that every run places alike.
pub fn hash_key() -> HashKey {
    let mut state = 7u64;
    HashKey(std::array::from_fn(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state ^ state >> 29
    }))
}

/// The device index of an interface that has no rival for its place.
pub fn device_of(ifindex: u32) -> u16 {
    u16::try_from(device_index(ifindex, 0)).expect("a few dozen devices")
}

impl Service {
    /// A TCP service; Maglev, with the balancer's own source address.
    pub fn tcp(id: u16, vip: &str) -> Self {
        Self {
            id,
            vip: address(vip),
            protocol: Protocol::Tcp,
            policy: Policy::Maglev,
            preserve: false,
            primary: None,
            ring: None,
            backends: Vec::new(),
        }
    }

    /// As [`Service::tcp`], for UDP.
    pub fn udp(id: u16, vip: &str) -> Self {
        Self { protocol: Protocol::Udp, ..Self::tcp(id, vip) }
    }

    /// Another policy.
    pub fn policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// Backends see the clients' own addresses.
    pub fn preserve(self) -> Self {
        Self { preserve: true, ..self }
    }

    /// Every slot of the lookup table is that backend.
    pub fn primary(self, backend: u16) -> Self {
        Self { primary: Some(backend), ..self }
    }

    /// That ring, as it may be for a moment while backends change.
    pub fn ring(self, ids: &[u16]) -> Self {
        Self { ring: Some(ids.to_vec()), ..self }
    }

    /// One more backend, or the one with that id changed.
    pub fn backend(mut self, backend: Backend) -> Self {
        match self.backends.iter_mut().find(|other| other.id == backend.id) {
            Some(other) => *other = backend,
            None => self.backends.push(backend),
        }
        self
    }

    /// Without that backend.
    pub fn without(mut self, backend: u16) -> Self {
        self.backends.retain(|other| other.id != backend);
        self
    }

    fn enter(&self, image: &mut Image) {
        let records: Vec<(u16, BackendRecord)> =
            self.backends.iter().map(|backend| (backend.id, backend.record(self))).collect();
        let takers: Vec<(u16, u16)> = (self.backends.iter().zip(&records))
            .filter(|(backend, (_, record))| record.is_eligible() && backend.weight > 0)
            .map(|(backend, (id, _))| (*id, backend.weight))
            .collect();
        let ring = self.ring.clone().unwrap_or_else(|| ring::build(&takers));
        let ring_length = u16::try_from(ring.len()).expect("a ring fits its map");
        if !ring.is_empty() {
            image.rings.insert(self.id, ring.into());
        }
        let table = self.table();
        let slots = table.as_ref().map_or(0, |_| SLOTS);
        image.tables.extend(table.map(|table| (self.id, table)));
        image.backends.extend(records);
        let (vip, port, protocol) = (Address::from(*self.vip.ip()), Port::new(self.vip.port()), self.protocol);
        let record = ServiceRecord {
            vip,
            port,
            protocol: protocol as u8,
            policy: self.policy as u8,
            id: self.id,
            ring_length,
            flags: if self.preserve { SERVICE_PRESERVE } else { 0 },
            slots,
        };
        image.services.insert(ServiceKey { vip, port, protocol }, record);
    }

    fn table(&self) -> Option<Arc<[u16]>> {
        if self.backends.is_empty() {
            return None;
        }
        if let Some(primary) = self.primary {
            return Some(vec![primary; SLOTS as usize].into());
        }
        let member = |backend: &Backend| Member {
            address: Address::from(*backend.address.ip()),
            port: Port::new(backend.address.port()),
            id: backend.id,
            weight: backend.weight,
        };
        Some(maglev_table(self.backends.iter().map(member).collect()))
    }
}

/// The table of these members. Hundreds of worlds have the same few, and a table takes a moment.
fn maglev_table(members: Vec<Member>) -> Arc<[u16]> {
    type Table = (Vec<Member>, Arc<[u16]>);
    static KNOWN: Mutex<Vec<Table>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, table)) = known.iter().find(|(those, _)| *those == members) {
        return table.clone();
    }
    let table: Arc<[u16]> = maglev::build(&members, SLOTS, &hash_key()).into();
    known.push((members, table.clone()));
    table
}

impl Backend {
    /// A backend of weight 1 that takes new flows and is reached through the first device.
    pub fn new(id: u16, at: &str) -> Self {
        let address = address(at);
        let hop = Some(Hop::new(mac_of(*address.ip()), device_of(IFINDEX)));
        Self { id, address, weight: 1, flags: 0, hop }
    }

    /// Another weight.
    pub fn weight(self, weight: u16) -> Self {
        Self { weight, ..self }
    }

    /// `BACKEND_*` bits besides "present".
    pub fn flags(self, flags: u32) -> Self {
        Self { flags, ..self }
    }

    /// Reached through another interface.
    pub fn through(mut self, ifindex: u32) -> Self {
        self.hop = Some(Hop::new(mac_of(*self.address.ip()), device_of(ifindex)));
        self
    }

    /// Nobody knows its MAC address.
    pub fn without_hop(self) -> Self {
        Self { hop: None, ..self }
    }

    fn record(&self, service: &Service) -> BackendRecord {
        BackendRecord {
            address: (*self.address.ip()).into(),
            source: if service.preserve { Address::UNSPECIFIED } else { BALANCER.into() },
            hop: self.hop.unwrap_or(Hop::UNKNOWN),
            port: Port::new(self.address.port()),
            service: service.id,
            flags: BACKEND_PRESENT | self.flags,
            weight: self.weight.into(),
            ..BackendRecord::default()
        }
    }
}
