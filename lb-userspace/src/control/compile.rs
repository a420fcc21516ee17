//! Compiles the desired image: what the maps should hold, from the config, from what was observed and from what they
//! hold now.
//!
//! Who stands where:
//! * A service's lookup table holds every desired member with weight, whatever its state: health, draining and next
//!   hops are bits of its record, so tables change only with the set of members and their weights, alike on all nodes.
//! * A ring holds the members that take new flows now.
//! * A backend that is not desired any more stays, *leaving*, until its sessions have ended, its time is up or the
//!   operator cuts it. Its service stays with it, also when that is not desired either, but with no table and no ring:
//!   packets are matched by service first, so its connections go on while new ones find no backend.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use lb_common::abi::{
    BACKEND_DISABLED, BACKEND_DRAINING, BACKEND_LEAVING, BACKEND_PRESENT, BACKEND_UNHEALTHY, BackendRecord,
    DeviceRecord, SERVICE_PRESERVE, ServiceRecord,
};
use lb_common::addr::{Address, Hop, Port};
use lb_common::hash::HashKey;
use lb_common::limits::{BACKENDS_MAX, SERVICES_MAX, SLOTS};

use super::ids::{BackendKey, Ids};
use super::image::Image;
use super::ledger::Ledger;
use super::maglev::{self, Member};
use super::{ring, settings};
use crate::config::{AdminState, Backend, Config, Service, ServiceName, SourceMode};
use crate::health::Health;
use crate::network::Route;

/// What the agent knows about the world at one moment.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Now: time since any fixed moment, by a clock that never goes back.
    pub now: Duration,
    /// The flow hash's secret.
    pub hash_key: HashKey,
    /// Jiffies in a second.
    pub hz: u32,
    /// Devices that the program is attached to, by device index.
    pub devices: BTreeMap<u16, DeviceRecord>,
    /// How backends' addresses are reached; absent while there is no answer yet.
    pub routes: BTreeMap<Ipv4Addr, Route>,
    /// What probes say; absent before the first.
    pub health: BTreeMap<(ServiceName, SocketAddrV4), Health>,
    /// Ids of backends that are to go now if they are not desired, whatever sessions they have.
    pub cut: BTreeSet<u16>,
}

/// The desired image, and what belongs to it.
#[derive(Debug)]
pub struct Compiled {
    /// What the maps should hold.
    pub image: Image,
    /// Who is behind the ids in it.
    pub names: Names,
    /// What could not be had, in sentences.
    pub problems: Vec<String>,
}

/// Who is behind the ids of an image.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Names {
    /// Services by id, those that are being removed too.
    pub services: BTreeMap<u16, ServiceName>,
    /// Backends by id, leaving ones too. One address can have two ids in a service while its source changes.
    pub backends: BTreeMap<u16, (ServiceName, SocketAddrV4)>,
}

/// Compiles. Publish the result before the next sweep begins: backends leave from the moment of `observed.now` on.
pub fn compile(desired: &Config, observed: &Observed, applied: &Image, ledger: &mut Ledger) -> Compiled {
    ledger.note_image(applied, observed.now);
    let ids = Ids::restore(applied, ledger.service_ids(), ledger.quarantine());
    let output = Compiled {
        image: Image { devices: observed.devices.clone(), ..Image::default() },
        names: Names::default(),
        problems: Vec::new(),
    };
    let latest = latest_records(applied);
    let mut compiler = Compiler { desired, observed, applied, latest, ledger, ids, output };
    for service in &desired.services {
        compiler.service(service);
    }
    compiler.keep_leaving();
    let Compiler { ledger, mut output, .. } = compiler;
    output.image.settings = Some(settings::compile(desired, &output.image, observed.hash_key, observed.hz));
    ledger.forget(&output.image);
    output
}

struct Compiler<'a> {
    desired: &'a Config,
    observed: &'a Observed,
    applied: &'a Image,
    latest: BTreeMap<(u16, Address, Port), &'a BackendRecord>,
    ledger: &'a mut Ledger,
    ids: Ids,
    output: Compiled,
}

/// What is applied by service id, address and port, whatever the source; rather what stays than what leaves.
fn latest_records(applied: &Image) -> BTreeMap<(u16, Address, Port), &BackendRecord> {
    let (leaving, staying): (Vec<&BackendRecord>, Vec<&BackendRecord>) =
        applied.backends.values().partition(|record| record.flags & BACKEND_LEAVING != 0);
    leaving.into_iter().chain(staying).map(|r| ((r.service, r.address, r.port), r)).collect()
}

impl Compiler<'_> {
    fn service(&mut self, service: &Service) {
        let key = service.key();
        let Some(id) = self.ids.service(key) else {
            let name = &service.name;
            let problem = format!("service \"{name}\": all {SERVICES_MAX} service ids are in use; remove a service");
            return self.output.problems.push(problem);
        };
        self.ledger.note_service(id, service);
        self.output.names.services.insert(id, service.name.clone());

        let members: Vec<(Member, bool)> =
            service.backends.iter().filter_map(|backend| self.backend(service, id, backend)).collect();
        let weighty: Vec<Member> = members.iter().map(|(member, _)| *member).filter(|m| m.weight > 0).collect();
        let has_table = !weighty.is_empty();
        if has_table {
            let build = |(key, members): &(HashKey, Vec<Member>)| maglev::build(members, SLOTS, key);
            let from = (self.observed.hash_key, weighty);
            let table = self.ledger.tables.get(id, from, self.applied.tables.get(&id), build);
            self.output.image.tables.insert(id, table);
        }
        let takers: Vec<(u16, u16)> =
            members.iter().filter(|(_, eligible)| *eligible).map(|(member, _)| (member.id, member.weight)).collect();
        let mut ring_length = 0;
        if !takers.is_empty() {
            let ring = self.ledger.rings.get(id, takers, self.applied.rings.get(&id), |takers| ring::build(takers));
            ring_length = u16::try_from(ring.len()).unwrap_or(u16::MAX);
            self.output.image.rings.insert(id, ring);
        }
        let record = ServiceRecord {
            vip: key.vip,
            port: key.port,
            protocol: key.protocol as u8,
            policy: service.policy as u8,
            id,
            ring_length,
            flags: if service.source == SourceMode::Preserve { SERVICE_PRESERVE } else { 0 },
            slots: if has_table { SLOTS } else { 0 },
        };
        self.output.image.services.insert(key, record);
    }

    /// Writes a desired backend's record; says who it is in tables and rings, and whether it takes new flows.
    fn backend(&mut self, service: &Service, service_id: u16, backend: &Backend) -> Option<(Member, bool)> {
        let (address, port) = (Address::from(*backend.address.ip()), Port::new(backend.address.port()));
        let previous = self.latest.get(&(service_id, address, port)).copied();
        let source = self.source(service, backend, previous);
        let key = BackendKey { service: service_id, address, port, source };
        self.keep_id_of_unused(service, key);
        let Some(id) = self.ids.backend(key) else {
            self.output.problems.push(format!(
                "service \"{}\": backend {}: all {BACKENDS_MAX} backend ids are in use; remove backends, or wait until \
                 the sessions of removed ones have ended",
                service.name, backend.address
            ));
            return None;
        };
        let applied = self.applied.backends.get(&id).or(previous);

        let mut flags = BACKEND_PRESENT;
        match backend.state {
            AdminState::Active if backend.weight > 0 => {}
            AdminState::Active | AdminState::Draining => flags |= BACKEND_DRAINING,
            AdminState::Disabled => flags |= BACKEND_DISABLED,
        }
        if !self.is_healthy(service, backend, applied) {
            flags |= BACKEND_UNHEALTHY;
        }
        let mut hop = self.hop(*backend.address.ip(), applied);
        if service.source == SourceMode::Balancer && source == Address::UNSPECIFIED {
            // No new flows before its source is known. One that has a next hop has flows that preserve.
            flags |= BACKEND_DRAINING;
            hop = if applied.is_some_and(|record| record.hop.is_known()) { hop } else { Hop::UNKNOWN };
        }
        let weight = backend.weight.into();
        let record = BackendRecord {
            address,
            source,
            hop,
            port,
            service: service_id,
            flags,
            weight,
            ..BackendRecord::default()
        };
        self.output.image.backends.insert(id, record);
        self.output.names.backends.insert(id, (service.name.clone(), backend.address));
        Some((Member { address, port, id, weight: backend.weight }, record.is_eligible()))
    }

    /// The balancer's address towards the backend; unspecified where it is the client's, or while nobody knows it.
    fn source(&self, service: &Service, backend: &Backend, previous: Option<&BackendRecord>) -> Address {
        if service.source == SourceMode::Preserve {
            return Address::UNSPECIFIED;
        }
        let routed = || self.observed.routes.get(backend.address.ip()).and_then(|route| route.source);
        match self.desired.nat.source.or_else(routed) {
            Some(source) => source.into(),
            None => previous.map_or(Address::UNSPECIFIED, |record| record.source),
        }
    }

    /// A backend whose source was not known had no next hop either, so no session names it: it is the same one still
    /// when the source becomes known.
    fn keep_id_of_unused(&mut self, service: &Service, key: BackendKey) {
        let sourceless = BackendKey { source: Address::UNSPECIFIED, ..key };
        if service.source == SourceMode::Preserve || key == sourceless || self.ids.known_backend(&key).is_some() {
            return;
        }
        let unused = |id: u16| self.applied.backends.get(&id).is_some_and(|record| !record.hop.is_known());
        if self.ids.known_backend(&sourceless).is_some_and(unused) {
            self.ids.rename_backend(&sourceless, key);
        }
    }

    /// Whether probes let it take new flows. Before the first one has ended, what an earlier agent left stands, so that
    /// a restart stops no traffic; a backend that had left starts anew.
    fn is_healthy(&self, service: &Service, backend: &Backend, applied: Option<&BackendRecord>) -> bool {
        if service.health.is_none() {
            return true;
        }
        match self.observed.health.get(&(service.name.clone(), backend.address)) {
            Some(Health::Healthy) => true,
            Some(Health::Unhealthy) => false,
            Some(Health::Unknown) | None => {
                applied.is_some_and(|record| record.flags & (BACKEND_UNHEALTHY | BACKEND_LEAVING) == 0)
            }
        }
    }

    /// The next hop. While there is no answer yet the applied one stands, unless its device is another one now.
    fn hop(&self, address: Ipv4Addr, applied: Option<&BackendRecord>) -> Hop {
        let device = |hop: Hop| self.observed.devices.get(&hop.device());
        let (hop, stands) = match (self.observed.routes.get(&address), applied) {
            (Some(route), _) => (route.hop, device(route.hop).is_some()),
            (None, Some(record)) => {
                let known = self.applied.devices.get(&record.hop.device());
                (record.hop, known.is_some() && known == device(record.hop))
            }
            (None, None) => (Hop::UNKNOWN, false),
        };
        if stands { hop } else { Hop::UNKNOWN }
    }

    /// Keeps the applied backends that are not desired any more and may not go yet, and their services.
    fn keep_leaving(&mut self) {
        let services: BTreeMap<u16, _> = self.applied.services.iter().map(|(key, s)| (s.id, (key, s))).collect();
        for (id, record) in &self.applied.backends {
            if self.output.image.backends.contains_key(id) {
                continue;
            }
            // No record of the service: what a crash left behind. No packet comes to it.
            let Some((key, service)) = services.get(&record.service).copied() else { continue };
            let began_before = record.flags & BACKEND_LEAVING != 0;
            if record.flags & BACKEND_DISABLED != 0
                || self.observed.cut.contains(id)
                || self.ledger.may_go(*id, record.service, began_before, self.observed.now)
            {
                continue;
            }
            let name = self.ledger.service_name(record.service, key);
            self.output.names.services.entry(record.service).or_insert_with(|| name.clone());
            let desert = ServiceRecord { ring_length: 0, slots: 0, ..*service };
            self.output.image.services.entry(*key).or_insert(desert);
            let mut leaving = BackendRecord { flags: record.flags | BACKEND_LEAVING, ..*record };
            if let IpAddr::V4(ip) = record.address.to_ip() {
                leaving.hop = self.hop(ip, Some(record));
                self.output.names.backends.insert(*id, (name, SocketAddrV4::new(ip, record.port.number())));
            }
            self.output.image.backends.insert(*id, leaving);
        }
    }
}
