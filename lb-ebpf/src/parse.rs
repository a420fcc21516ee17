//! From a frame to a [`Packet`], or to the reason why the frame cannot be a service's. Never writes, never drops:
//! whether a frame is broken matters only once it is known to be ours.

use lb_common::addr::{Address, Hop, Port, Protocol};
use lb_common::hash::FlowKey;
use lb_common::reason::PassReason;
use network_types::ip::Ipv4Hdr;
use network_types::udp::UdpHdr;

use crate::frame::{Frame, header, length};
use crate::headers::{Carries, ETHERNET, Ethernet, IPV4, TCP, TRANSPORT, TcpFlags, UDP};
use crate::packet::Packet;

/// More fragments follow, or this is not the first (RFC 791 section 3.1).
const FRAGMENT_BITS: u16 = 0x3fff;

/// Reads the headers of an untagged IPv4 frame.
#[inline(always)]
pub fn parse(frame: &impl Frame) -> Result<Packet, PassReason> {
    let ethernet: &Ethernet = header(frame, 0).ok_or(PassReason::Malformed)?;
    match ethernet.carries() {
        Carries::Ipv4 => {}
        Carries::Ipv6 => return Err(PassReason::Ipv6),
        Carries::Vlan => return Err(PassReason::Vlan),
        Carries::Other => return Err(PassReason::NotIp),
    }
    let (to, from) = (Hop::new(ethernet.destination, 0), Hop::new(ethernet.source, 0));
    let ip: &Ipv4Hdr = header(frame, ETHERNET).ok_or(PassReason::Malformed)?;
    match ip.vihl {
        0x45 => {}
        0x46..=0x4f => return Err(PassReason::IpOptions),
        _ => return Err(PassReason::Malformed),
    }
    if u16::from_be_bytes(ip.frags) & FRAGMENT_BITS != 0 {
        return Err(PassReason::Fragment);
    }
    let protocol = Protocol::from_number(ip.proto).ok_or(PassReason::NotTcpUdp)?;
    let ports: &[u8; 4] = header(frame, TRANSPORT).ok_or(PassReason::Malformed)?;
    let flow = FlowKey {
        source: Address::from_v4_word(u32::from_ne_bytes(ip.src_addr)),
        destination: Address::from_v4_word(u32::from_ne_bytes(ip.dst_addr)),
        source_port: Port::from_wire(u16::from_ne_bytes([ports[0], ports[1]])),
        destination_port: Port::from_wire(u16::from_ne_bytes([ports[2], ports[3]])),
        protocol,
    };
    let total = u16::from_be_bytes(ip.tot_len);
    let fits = usize::from(total) + ETHERNET <= length(frame);
    let (tcp_flags, transport_fits) = match protocol {
        Protocol::Tcp => tcp(frame, total),
        Protocol::Udp => (TcpFlags::default(), udp_fits(frame, total)),
    };
    Ok(Packet { flow, tcp_flags, ttl: ip.ttl, length: total, is_damaged: !fits || !transport_fits, to, from })
}

/// The flags, and whether the header fits into an IP packet of `total` bytes.
#[inline(always)]
fn tcp(frame: &impl Frame, total: u16) -> (TcpFlags, bool) {
    let Some(bytes) = header::<[u8; TCP]>(frame, TRANSPORT) else {
        return (TcpFlags::default(), false);
    };
    let header_length = usize::from(bytes[12] >> 4) * 4;
    (TcpFlags::new(bytes[13]), header_length >= TCP && IPV4 + header_length <= usize::from(total))
}

/// Whether the datagram fits into an IP packet of `total` bytes (RFC 768: the length counts the header).
#[inline(always)]
fn udp_fits(frame: &impl Frame, total: u16) -> bool {
    let Some(udp) = header::<UdpHdr>(frame, TRANSPORT) else {
        return false;
    };
    let datagram = usize::from(u16::from_be_bytes(udp.len));
    datagram >= UDP && IPV4 + datagram <= usize::from(total)
}
