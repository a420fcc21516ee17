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
use crate::select::{Route, select_known, select_new, select_return};
use crate::session;
use crate::tables::Tables;

/// How far one program gets with a frame.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Decided, written and counted.
    Done(Verdict),
    /// Ours, untouched, not counted: the packet opens a flow, so [`open`] takes over.
    Opens,
}

/// The first program: every packet but those that open a flow.
///
/// Opening is a program of its own, reached by a tail call: it needs a stack of its own, and the packets of established
/// flows do not carry its code along.
#[inline(always)]
pub fn forward(frame: &mut impl Frame, tables: &impl Tables) -> Progress {
    let verdict = match decide_known(frame, tables) {
        Ok(Some((packet, route, mac))) => send(frame, tables, &packet, &route, mac),
        Ok(None) => return Progress::Opens,
        Err(verdict) => verdict,
    };
    tables.count(verdict);
    Progress::Done(verdict)
}

/// The second program: packets that open a flow.
///
/// It tries one NAT port. If that is taken it asks to be called again with the next `attempt`: a loop in here would be
/// more than the verifier follows.
#[inline(always)]
pub fn open(frame: &mut impl Frame, tables: &impl Tables, attempt: u32) -> Progress {
    let verdict = match decide_new(frame, tables, attempt) {
        Ok((packet, route, mac)) => send(frame, tables, &packet, &route, mac),
        Err(Verdict::Drop(DropReason::PortsExhausted)) if attempt < PORT_TRIES - 1 => return Progress::Opens,
        Err(verdict) => verdict,
    };
    tables.count(verdict);
    Progress::Done(verdict)
}

/// Both programs, as the host runs them.
pub fn run(frame: &mut impl Frame, tables: &impl Tables) -> Verdict {
    let mut progress = forward(frame, tables);
    let mut attempt = 0;
    loop {
        match progress {
            Progress::Done(verdict) => return verdict,
            Progress::Opens => progress = open(frame, tables, attempt),
        }
        attempt += 1;
    }
}

/// The packet, where it goes, and the MAC that it leaves with.
type Decision = (Packet, Route, [u8; 6]);

#[inline(always)]
fn decide_known(frame: &impl Frame, tables: &impl Tables) -> Result<Option<Decision>, Verdict> {
    let packet = parse(frame).map_err(Verdict::Pass)?;
    let settings = tables.settings().ok_or(Verdict::Pass(PassReason::NotOurs))?;
    let route = if let Some(service) = find_service(tables, &packet) {
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

#[inline(always)]
fn decide_new(frame: &impl Frame, tables: &impl Tables, attempt: u32) -> Result<Decision, Verdict> {
    // Nothing here fails that did not fail in the first program, unless the agent changed a map in between.
    let packet = parse(frame).map_err(Verdict::Pass)?;
    let settings = tables.settings().ok_or(Verdict::Pass(PassReason::NotOurs))?;
    let service = find_service(tables, &packet).ok_or(Verdict::Pass(PassReason::NotOurs))?;
    let device = find_device(frame, tables, &packet)?;
    let route = select_new(tables, settings, service, device, &packet, attempt).map_err(Verdict::Drop)?;
    let mac = leaving_mac(frame, tables, &packet, &route)?;
    Ok((packet, route, mac))
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
fn find_service<'t>(tables: &'t impl Tables, packet: &Packet) -> Option<&'t ServiceRecord> {
    let flow = &packet.flow;
    let start = service_bucket(flow.destination, flow.destination_port, flow.protocol, SERVICE_BUCKETS);
    let mut probe = 0;
    while probe < SERVICE_PROBES {
        let bucket = tables.service_bucket((start + probe) % SERVICE_BUCKETS)?;
        let mut is_full = true;
        let mut way = 0;
        while way < SERVICE_WAYS {
            let service = &bucket.ways[way];
            if service.vip == flow.destination
                && service.port == flow.destination_port
                && service.protocol == flow.protocol as u8
            {
                return Some(service);
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
