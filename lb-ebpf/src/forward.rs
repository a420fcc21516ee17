//! The packet's story: parse, find the service, select, rewrite, count the verdict.

use lb_common::abi::{DeviceRecord, SETTING_PRESERVE, ServiceRecord, Settings};
use lb_common::addr::Hop;
use lb_common::hash::service_bucket;
use lb_common::limits::{DEVICE_PROBES, PORT_TRIES, SERVICE_BUCKETS, SERVICE_PROBES, SERVICE_WAYS, device_index};
use lb_common::reason::{DropReason, PassReason, Verdict};

use crate::frame::Frame;
use crate::packet::Packet;
use crate::parse::parse;
use crate::rewrite::rewrite;
use crate::select::{Attempt, Route, place_flow, select_known, select_new, select_return};
use crate::session;
use crate::tables::{Tables, forget};

#[expect(clippy::cast_possible_truncation, reason = "four")]
const WAYS: u32 = SERVICE_WAYS as u32;

/// How far one program gets with a frame.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Decided, written and counted.
    Done(Verdict),
    /// Ours, untouched, not counted: the packet opens a flow, so [`open`] takes over.
    Opens(Attempt),
}

/// The first program: every packet but those that open a flow.
///
/// Opening is a program of its own, reached by a tail call: it needs a stack of its own, and the packets of established
/// flows do not carry its code along.
#[inline(always)]
pub fn forward(frame: &mut impl Frame, tables: &impl Tables) -> Progress {
    let verdict = match decide_known(frame, tables) {
        Ok(Some((packet, route, mac))) => send(frame, tables, &packet, &route, mac),
        Ok(None) => return Progress::Opens(Attempt::FIRST),
        Err(verdict) => verdict,
    };
    tables.count(verdict);
    Progress::Done(verdict)
}

/// The second program: packets that open a flow.
///
/// It tries one NAT port. If that is taken it asks to be called again, to try the next one towards the same backend: a
/// loop in here would be more than the verifier follows.
#[inline(always)]
pub fn open(frame: &mut impl Frame, tables: &impl Tables, attempt: Attempt) -> Progress {
    let verdict = match decide_new(frame, tables, attempt) {
        Ok(Opened::Goes((packet, route, mac))) => send(frame, tables, &packet, &route, mac),
        Ok(Opened::PortTaken(next)) => return Progress::Opens(next),
        Err(verdict) => verdict,
    };
    tables.count(verdict);
    Progress::Done(verdict)
}

/// Both programs, as the host runs them.
pub fn run(frame: &mut impl Frame, tables: &impl Tables) -> Verdict {
    let mut progress = forward(frame, tables);
    loop {
        match progress {
            Progress::Done(verdict) => return verdict,
            Progress::Opens(attempt) => progress = open(frame, tables, attempt),
        }
    }
}

/// The packet, where it goes, and the MAC that it leaves with.
type Decision = (Packet, Route, [u8; 6]);

#[inline(always)]
fn decide_known(frame: &impl Frame, tables: &impl Tables) -> Result<Option<Decision>, Verdict> {
    let packet = parse(frame).map_err(Verdict::Pass)?;
    let settings = tables.settings().ok_or(Verdict::Pass(PassReason::NotOurs))?;
    let route = if let Some(service) = find_service(tables, settings, &packet) {
        let device = find_device(frame, tables, &packet)?;
        check(&packet)?;
        match select_known(tables, settings, service, device, &packet).map_err(Verdict::Drop)? {
            Some(route) => route,
            None => return Ok(None),
        }
    } else {
        let session = find_answered(tables, settings, &packet).ok_or(Verdict::Pass(PassReason::NotOurs))?;
        find_device(frame, tables, &packet)?;
        check(&packet)?;
        select_return(tables, &session, &packet).map_err(Verdict::Drop)?
    };
    let mac = leaving_mac(frame, tables, &packet, &route)?;
    Ok(Some((packet, route, mac)))
}

/// What one attempt to open a flow comes to.
enum Opened {
    /// The flow is open, and its first packet goes on.
    Goes(Decision),
    /// The NAT port is another flow's.
    PortTaken(Attempt),
}

#[inline(always)]
fn decide_new(frame: &impl Frame, tables: &impl Tables, attempt: Attempt) -> Result<Opened, Verdict> {
    // Nothing here fails that did not fail in the first program, unless the agent changed a map in between.
    let packet = parse(frame).map_err(Verdict::Pass)?;
    let settings = tables.settings().ok_or(Verdict::Pass(PassReason::NotOurs))?;
    let service = find_service(tables, settings, &packet).ok_or(Verdict::Pass(PassReason::NotOurs))?;
    let device = find_device(frame, tables, &packet)?;
    let attempt = place_flow(tables, settings, service, &packet, attempt).map_err(Verdict::Drop)?;
    match select_new(tables, settings, service, device, &packet, attempt) {
        Ok(route) => {
            let mac = leaving_mac(frame, tables, &packet, &route)?;
            Ok(Opened::Goes((packet, route, mac)))
        }
        Err(DropReason::PortsExhausted) if attempt.number < PORT_TRIES - 1 => {
            Ok(Opened::PortTaken(Attempt { number: attempt.number + 1, ..attempt }))
        }
        Err(reason) => Err(Verdict::Drop(reason)),
    }
}

/// Counts the packet for its service and backend, and writes it.
#[inline(always)]
fn send(frame: &mut impl Frame, tables: &impl Tables, packet: &Packet, route: &Route, mac: [u8; 6]) -> Verdict {
    tables.count_traffic(route.service, route.backend, route.direction, packet.length, route.begins);
    rewrite(frame, packet, route, mac)
}

/// The MAC that a packet on `route` leaves with: it leaves by the device it came in on, or not at all.
#[inline(always)]
fn leaving_mac(frame: &impl Frame, tables: &impl Tables, packet: &Packet, route: &Route) -> Result<[u8; 6], Verdict> {
    if !route.hop.is_known() {
        return Err(Verdict::Drop(DropReason::NextHopUnknown));
    }
    let device = find_device(frame, tables, packet)?;
    if route.hop.device() != device.mac.device() {
        return Err(Verdict::Drop(DropReason::OtherInterface));
    }
    Ok(device.mac.mac())
}

/// What makes a packet that is ours impossible to forward, whatever its flow.
#[inline(always)]
fn check(packet: &Packet) -> Result<(), Verdict> {
    if packet.is_damaged {
        return Err(Verdict::Drop(DropReason::BadLength));
    }
    if packet.ttl <= 1 {
        return Err(Verdict::Drop(DropReason::TtlExceeded));
    }
    Ok(())
}

/// The service that the packet is sent to. A lookup goes on to the next bucket only past one that is full.
#[inline(always)]
fn find_service<'t>(tables: &'t impl Tables, settings: &Settings, packet: &Packet) -> Option<&'t ServiceRecord> {
    let flow = &packet.flow;
    let start = service_bucket(flow.destination, flow.destination_port, flow.protocol, SERVICE_BUCKETS);
    let mut probe = 0;
    while probe < SERVICE_PROBES {
        let bucket = tables.service_bucket((start + probe) % SERVICE_BUCKETS)?;
        let mut is_full = true;
        let mut way = 0;
        while way < WAYS {
            let service = &bucket.ways[way as usize];
            if service.vip == flow.destination
                && service.port == flow.destination_port
                && service.protocol == flow.protocol as u8
            {
                return Some(&bucket.ways[forget(settings, way) as usize % SERVICE_WAYS]);
            }
            is_full &= service.protocol != 0;
            way += 1;
        }
        if !is_full {
            return None;
        }
        probe += 1;
    }
    None
}

/// The session that the packet answers. Only packets to the NAT range can, unless some service preserves addresses.
#[inline(always)]
fn find_answered(tables: &impl Tables, settings: &Settings, packet: &Packet) -> Option<session::Session> {
    let offset = packet.flow.destination_port.number().wrapping_sub(settings.nat_port_first);
    if offset >= settings.nat_port_count && settings.flags & SETTING_PRESERVE == 0 {
        return None;
    }
    session::find_return(tables, settings, &packet.flow, tables.now())
}

/// The record of the device that the frame came in on, if the frame is addressed to it.
#[inline(always)]
fn find_device<'t, F: Frame, T: Tables>(
    frame: &F,
    tables: &'t T,
    packet: &Packet,
) -> Result<&'t DeviceRecord, Verdict> {
    let ifindex = frame.ingress();
    let mut probe = 0;
    while probe < DEVICE_PROBES {
        let Some(device) = tables.device(device_index(ifindex, probe)) else { break };
        if device.ifindex == ifindex {
            if packet.to == Hop::new(device.mac.mac(), 0) {
                return Ok(device);
            }
            break;
        }
        probe += 1;
    }
    Err(Verdict::Pass(PassReason::OtherHost))
}
