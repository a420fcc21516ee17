//! Everything that can be shown, gathered from what is desired, what the maps hold and what was observed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use lb_common::abi::{BACKEND_LEAVING, BackendRecord, Policy, SERVICE_PRESERVE, ServiceRecord, TrafficStats};
use lb_common::addr::{Address, Hop, Protocol};
use lb_common::reason::{Counter, Direction, DropReason, PassReason, Verdict};

use super::core::Core;
use crate::api::types::{
    BackendView, InterfaceView, Origin, ServiceView, SessionsView, Snapshot, TrafficView, VerdictView,
};
use crate::config::{AdminState, AttachMode, Backend, Service, ServiceName, SourceMode};
use crate::control::image::Image;
use crate::datapath::{Datapath, DatapathError, SessionCount, Traffic};
use crate::health::{Health, HealthView};
use crate::network::NetworkView;

/// The only forwarding mode of this version.
const MODE: &str = "nat";

/// The instance as it is now; sessions are those of the last sweep.
pub(super) fn snapshot(core: &Core) -> Result<Snapshot, DatapathError> {
    let datapath = core.reconciler.datapath();
    let services: Vec<u16> = core.names.services.keys().copied().collect();
    let backends: Vec<u16> = core.names.backends.keys().copied().collect();
    let gathered = Gathered {
        core,
        image: core.reconciler.image(),
        traffic: datapath.traffic(&services, &backends)?,
        health: core.health_view.borrow().clone(),
        network: core.network_view.borrow().clone(),
    };
    let counters = datapath.counters()?;
    let (open, closing) = core
        .sweep
        .sessions
        .values()
        .fold((0, 0), |(open, closing), count| (open + count.open, closing + count.closing));
    Ok(Snapshot {
        schema: 1,
        instance: core.instance.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: core.revision,
        uptime_seconds: core.started.elapsed().as_secs(),
        interfaces: gathered.interfaces(),
        services: gathered.services(),
        sessions: SessionsView { open, closing, capacity: u64::from(datapath.capacity()) },
        verdicts: verdicts(&counters),
        warnings: gathered.warnings(),
    })
}

fn verdicts(counters: &[u64]) -> Vec<VerdictView> {
    let view = |kind: &str, reason: &str, verdict: Verdict| VerdictView {
        verdict: kind.to_owned(),
        reason: reason.to_owned(),
        packets: counters.get(Counter::from(verdict).index() as usize).copied().unwrap_or(0),
    };
    let passed = PassReason::ALL.into_iter().map(|reason| view("pass", reason.name(), Verdict::Pass(reason)));
    let dropped = DropReason::ALL.into_iter().map(|reason| view("drop", reason.name(), Verdict::Drop(reason)));
    let transmitted = Direction::ALL.into_iter().map(|way| view("transmit", way.name(), Verdict::Transmit(way)));
    transmitted.chain(passed).chain(dropped).collect()
}

struct Gathered<'a> {
    core: &'a Core,
    image: &'a Image,
    traffic: Traffic,
    health: Arc<HealthView>,
    network: Arc<NetworkView>,
}

impl Gathered<'_> {
    fn interfaces(&self) -> Vec<InterfaceView> {
        let attached = |ifindex: &u32| self.core.links.get(ifindex).and_then(|link| link.xdp.map(|xdp| (link, xdp)));
        let devices = self.core.devices.values().filter_map(|device| attached(&device.link.ifindex));
        devices
            .map(|(link, xdp)| InterfaceView {
                name: link.name.clone(),
                ifindex: link.ifindex,
                mode: if xdp.is_native { AttachMode::Native } else { AttachMode::Generic },
                program_id: xdp.program_id,
            })
            .collect()
    }

    /// Desired services, then those that are being removed.
    fn services(&self) -> Vec<ServiceView> {
        let desired = self.core.effective.services.iter().map(|service| self.service(service));
        let is_desired = |name: &ServiceName| self.core.effective.services.iter().any(|service| service.name == *name);
        let leaving = (self.core.names.services.iter())
            .filter(|(_, name)| !is_desired(name))
            .filter_map(|(id, name)| {
                self.image.services.values().find(|record| record.id == *id).map(|record| (record, name))
            })
            .filter_map(|(record, name)| self.leaving_service(record, name));
        desired.chain(leaving).collect()
    }

    fn service(&self, service: &Service) -> ServiceView {
        let id = self.image.services.get(&service.key()).map(|record| record.id);
        let backends = service.backends.iter().map(|backend| self.backend(service, backend));
        let is_runtime = self.core.overrides.is_runtime(&service.name);
        ServiceView {
            name: service.name.clone(),
            vip: service.vip,
            port: service.port,
            protocol: service.protocol.name().to_owned(),
            policy: service.policy.name().to_owned(),
            mode: MODE.to_owned(),
            source: service.source,
            health: service.health,
            origin: if is_runtime { Origin::Runtime } else { Origin::File },
            backends: backends.chain(self.leaving_backends(&service.name)).collect(),
            traffic: traffic(id.and_then(|id| self.traffic.services.get(&id))),
        }
    }

    fn leaving_service(&self, record: &ServiceRecord, name: &ServiceName) -> Option<ServiceView> {
        let IpAddr::V4(vip) = record.vip.to_ip() else { return None };
        Some(ServiceView {
            name: name.clone(),
            vip,
            port: record.port.number(),
            protocol: Protocol::from_number(record.protocol)?.name().to_owned(),
            policy: Policy::from_number(record.policy)?.name().to_owned(),
            mode: MODE.to_owned(),
            source: if record.flags & SERVICE_PRESERVE == 0 { SourceMode::Balancer } else { SourceMode::Preserve },
            health: None,
            origin: Origin::Runtime,
            backends: self.leaving_backends(name).collect(),
            traffic: traffic(self.traffic.services.get(&record.id)),
        })
    }

    fn backend(&self, service: &Service, backend: &Backend) -> BackendView {
        let found = self
            .records(&service.name)
            .find(|(_, address, record)| *address == backend.address && record.flags & BACKEND_LEAVING == 0);
        let status = self.health.get(&(service.name.clone(), backend.address));
        let is_runtime = self.core.overrides.is_runtime_backend(&service.name, backend.address);
        let mut view = self.applied(backend.address, found.map(|(id, _, record)| (id, record)));
        view.weight = backend.weight;
        view.state = backend.state;
        view.origin = if is_runtime { Origin::Runtime } else { Origin::File };
        if let (Some(_), Some(status)) = (service.health, status) {
            view.health = status.health;
            view.health_detail.clone_from(&status.detail);
            view.health_seconds = status.since.elapsed().as_secs();
        } else if service.health.is_some() {
            view.health = Health::Unknown;
        }
        view
    }

    fn leaving_backends(&self, service: &ServiceName) -> impl Iterator<Item = BackendView> {
        let leaving = self.records(service).filter(|(_, _, record)| record.flags & BACKEND_LEAVING != 0);
        leaving.map(|(id, address, record)| BackendView {
            leaving: true,
            state: AdminState::Draining,
            weight: u16::try_from(record.weight).unwrap_or(u16::MAX),
            ..self.applied(address, Some((id, record)))
        })
    }

    /// Records of a service's backends: id, address, record.
    fn records(&self, service: &ServiceName) -> impl Iterator<Item = (u16, SocketAddrV4, &BackendRecord)> {
        let named = self.core.names.backends.iter().filter(move |(_, (name, _))| name == service);
        named.filter_map(|(id, (_, address))| self.image.backends.get(id).map(|record| (*id, *address, record)))
    }

    /// What the datapath knows of a backend.
    fn applied(&self, address: SocketAddrV4, found: Option<(u16, &BackendRecord)>) -> BackendView {
        let record = found.map(|(_, record)| *record).unwrap_or_default();
        let sessions = found.and_then(|(id, _)| self.core.sweep.sessions.get(&id)).copied().unwrap_or_default();
        let SessionCount { open, closing } = sessions;
        BackendView {
            address,
            weight: 0,
            state: AdminState::Active,
            leaving: false,
            health: Health::Healthy,
            health_detail: None,
            health_seconds: 0,
            next_hop: mac(record.hop),
            source: source(record.source),
            eligible: record.is_eligible(),
            origin: Origin::Runtime,
            sessions_open: open,
            sessions_closing: closing,
            traffic: traffic(found.and_then(|(id, _)| self.traffic.backends.get(&id))),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> =
            self.core.failure.iter().chain(&self.core.notes).chain(&self.core.problems).cloned().collect();
        for device in self.core.devices.values() {
            let name = &device.link.name;
            match self.core.links.get(&device.link.ifindex) {
                None => {
                    warnings.push(format!("interface \"{name}\": it is gone; make it again and start the agent again"));
                }
                Some(link) if link.xdp.is_none() => {
                    warnings
                        .push(format!("interface \"{name}\": no XDP program is on it any more; start the agent again"));
                }
                Some(link) => {
                    if !link.up {
                        warnings.push(format!("interface \"{name}\": it is down (see: ip link show {name})"));
                    }
                    if link.xdp.is_some_and(|xdp| !xdp.is_native) {
                        warnings.push(format!(
                            "interface \"{name}\": generic mode: every packet goes through the host's stack first"
                        ));
                    }
                }
            }
        }
        let mut unreachable: BTreeMap<Ipv4Addr, &str> = BTreeMap::new();
        for backend in self.core.effective.services.iter().flat_map(|service| &service.backends) {
            if let Some(problem) =
                self.network.routes.get(backend.address.ip()).and_then(|route| route.problem.as_deref())
            {
                unreachable.insert(*backend.address.ip(), problem);
            }
        }
        warnings.extend(unreachable.iter().map(|(address, problem)| format!("backend {address}: {problem}")));
        warnings
    }
}

fn mac(hop: Hop) -> Option<String> {
    let parts: Vec<String> = hop.mac().iter().map(|byte| format!("{byte:02x}")).collect();
    hop.is_known().then(|| parts.join(":"))
}

fn source(address: Address) -> Option<Ipv4Addr> {
    match address.to_ip() {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    }
}

fn traffic(stats: Option<&TrafficStats>) -> TrafficView {
    let stats = stats.copied().unwrap_or_default();
    TrafficView {
        flows: stats.flows,
        forward_packets: stats.forward_packets,
        forward_bytes: stats.forward_bytes,
        return_packets: stats.return_packets,
        return_bytes: stats.return_bytes,
    }
}
