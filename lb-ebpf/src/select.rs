//! Which session a packet belongs to, and so where it goes: decided here, written by `rewrite`.

use lb_common::abi::{BACKEND_DISABLED, BACKEND_UNHEALTHY, DeviceRecord, SERVICE_PRESERVE, ServiceRecord, Settings};
use lb_common::addr::{Address, Hop, Port, Protocol};
use lb_common::reason::{Direction, DropReason};
use lb_common::session::{Phase, SessionBinding};

use crate::packet::Packet;
use crate::place::place;
use crate::session::{self, Opening, Session};
use crate::tables::{Tables, forget};

/// What becomes of a packet that is ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// Which way it goes.
    pub direction: Direction,
    /// Its new sender.
    pub source: Address,
    /// Its new sender's port.
    pub source_port: Port,
    /// Its new receiver.
    pub destination: Address,
    /// Its new receiver's port.
    pub destination_port: Port,
    /// Its next hop.
    pub hop: Hop,
    /// The service's id.
    pub service: u16,
    /// The backend's id.
    pub backend: u16,
    /// Whether it begins a flow.
    pub begins: bool,
}

/// Where a client's packet to `service` goes if its flow has a session that it keeps; `None` if the flow is to be opened.
#[inline(always)]
pub fn select_known(
    tables: &impl Tables,
    settings: &Settings,
    service: &ServiceRecord,
    device: &DeviceRecord,
    packet: &Packet,
) -> Result<Option<Route>, DropReason> {
    let now = tables.now();
    let hash = packet.flow.hash(&settings.hash_key);
    let Some(session) = session::find_forward(tables, settings, &packet.flow, hash, now) else {
        return if opens(packet) { Ok(None) } else { Err(DropReason::NoSession) };
    };
    if !keeps_backend(tables, service, packet, &session)? {
        return Ok(None);
    }
    session::advance(tables, &session, Direction::Forward, packet.tcp_flags, now);
    session::follow_hop(tables, &session, Hop::new(packet.from.mac(), device.mac.device()));
    let (id, nat_port) = (session.binding.backend, session.ports.nat);
    forward_route(tables, packet, service, id, nat_port, session.binding.preserve, false).map(Some)
}

/// One of several attempts to open a flow, each with another NAT port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// How many there were before.
    pub number: u32,
    /// The backend that the flow was placed on; 0 before the first attempt.
    pub backend: u16,
}

impl Attempt {
    /// The first.
    pub const FIRST: Self = Self { number: 0, backend: 0 };
}

/// Makes way for a new flow and places it, unless an earlier attempt has.
#[inline(always)]
pub fn place_flow(
    tables: &impl Tables,
    settings: &Settings,
    service: &ServiceRecord,
    packet: &Packet,
    attempt: Attempt,
) -> Result<Attempt, DropReason> {
    if attempt.backend != 0 {
        return Ok(attempt);
    }
    let now = tables.now();
    let hash = packet.flow.hash(&settings.hash_key);
    // The position alone, forgotten, and the record read again: one way on from here for the verifier, not sixteen.
    let found = session::find_forward(tables, settings, &packet.flow, hash, now);
    let found = forget(settings, found.map_or(u32::MAX, |session| session.position));
    if found != u32::MAX {
        // Either another CPU was faster, or the session that the flow has must give way to a new one.
        let session = session::read(tables, found).ok_or(DropReason::Contended)?;
        let gives_way = !keeps_backend(tables, service, packet, &session)?;
        if !gives_way || !session::release(tables, found, session.state.word(), now) {
            return Err(DropReason::Contended);
        }
    }
    let backend = place(tables, service, hash).ok_or(DropReason::NoBackend)?;
    Ok(Attempt { backend, ..attempt })
}

/// Opens a flow that was placed: makes its session, and says where its first packet goes. With `PortsExhausted`, a
/// further attempt tries another port.
#[inline(always)]
pub fn select_new(
    tables: &impl Tables,
    settings: &Settings,
    service: &ServiceRecord,
    device: &DeviceRecord,
    packet: &Packet,
    attempt: Attempt,
) -> Result<Route, DropReason> {
    let hash = packet.flow.hash(&settings.hash_key);
    let backend = tables.backend(attempt.backend).ok_or(DropReason::Internal)?;
    let preserve = service.flags & SERVICE_PRESERVE != 0;
    let opening = Opening {
        flow: packet.flow,
        hash,
        hop: Hop::new(packet.from.mac(), device.mac.device()),
        backend: backend.address,
        backend_port: backend.port,
        source: backend.source,
        binding: SessionBinding {
            protocol: packet.flow.protocol as u8,
            preserve,
            backend: attempt.backend,
            service: service.id,
        },
        attempt: attempt.number,
    };
    let nat_port = session::create(tables, settings, &opening, tables.now())?;
    forward_route(tables, packet, service, attempt.backend, nat_port, preserve, true)
}

/// Whether the packet may open a flow.
#[inline(always)]
const fn opens(packet: &Packet) -> bool {
    matches!(packet.flow.protocol, Protocol::Udp) || packet.tcp_flags.opens()
}

/// The route to backend `id`.
#[inline(always)]
fn forward_route(
    tables: &impl Tables,
    packet: &Packet,
    service: &ServiceRecord,
    id: u16,
    nat_port: Port,
    preserve: bool,
    begins: bool,
) -> Result<Route, DropReason> {
    let backend = tables.backend(id).ok_or(DropReason::Internal)?;
    Ok(Route {
        direction: Direction::Forward,
        source: if preserve { packet.flow.source } else { backend.source },
        source_port: nat_port,
        destination: backend.address,
        destination_port: backend.port,
        hop: backend.hop,
        service: service.id,
        backend: id,
        begins,
    })
}

/// Where a backend's answer goes.
#[inline(always)]
pub fn select_return(tables: &impl Tables, session: &Session, packet: &Packet) -> Result<Route, DropReason> {
    let backend = tables.backend(session.binding.backend).ok_or(DropReason::Internal)?;
    if backend.flags & BACKEND_DISABLED != 0 {
        return Err(DropReason::BackendDisabled);
    }
    session::advance(tables, session, Direction::Return, packet.tcp_flags, tables.now());
    Ok(Route {
        direction: Direction::Return,
        source: session.vip,
        source_port: session.ports.vip,
        destination: session.client,
        destination_port: session.ports.client,
        hop: session.hop,
        service: session.binding.service,
        backend: session.binding.backend,
        begins: false,
    })
}

/// Whether a packet goes where its session says (`true`), or its flow is placed anew (`false`); dropped if neither.
#[inline(always)]
fn keeps_backend(
    tables: &impl Tables,
    service: &ServiceRecord,
    packet: &Packet,
    session: &Session,
) -> Result<bool, DropReason> {
    let backend = tables.backend(session.binding.backend).ok_or(DropReason::Internal)?;
    let is_gone = !backend.is_present() || backend.service != service.id || session.binding.service != service.id;
    let is_disabled = backend.flags & BACKEND_DISABLED != 0;
    let is_unhealthy = backend.flags & BACKEND_UNHEALTHY != 0;
    if matches!(packet.flow.protocol, Protocol::Udp) {
        // Nothing is lost by moving UDP away from a backend that does not answer, and everything by staying.
        return Ok(!is_gone && !is_disabled && !is_unhealthy);
    }
    if packet.tcp_flags.opens() {
        let is_over = matches!(session.state.phase(), Phase::Closing | Phase::Reset);
        let is_unanswered = matches!(session.state.phase(), Phase::HalfOpen);
        let must_move = is_gone || is_disabled || is_unhealthy && is_unanswered || is_over && !backend.is_eligible();
        return Ok(!must_move);
    }
    if is_gone {
        return Err(DropReason::BackendGone);
    }
    if is_disabled {
        return Err(DropReason::BackendDisabled);
    }
    Ok(true)
}
