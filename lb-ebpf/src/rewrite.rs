//! NAT: writes a decided route into the frame. The only module that changes a frame; nothing passes after it.

use lb_common::addr::Protocol;
use lb_common::reason::{DropReason, Verdict};
use network_types::ip::Ipv4Hdr;
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

use crate::checksum::Change;
use crate::frame::{Frame, header_mut};
use crate::headers::{ETHERNET, Ethernet, TRANSPORT};
use crate::packet::Packet;
use crate::select::Route;

/// Sends the frame on its way: addresses, ports, checksums, TTL, MACs. `source_mac` is that of the device it leaves by.
#[inline(always)]
pub fn rewrite(frame: &mut impl Frame, packet: &Packet, route: &Route, source_mac: [u8; 6]) -> Verdict {
    let addresses = Change::none()
        .word32(packet.flow.source.v4_word(), route.source.v4_word())
        .word32(packet.flow.destination.v4_word(), route.destination.v4_word());
    let ports = addresses
        .word16(packet.flow.source_port.wire(), route.source_port.wire())
        .word16(packet.flow.destination_port.wire(), route.destination_port.wire());
    // The transport header first: it is the last in the frame, so once its bounds have been checked nothing can fail
    // half way.
    let written = match packet.flow.protocol {
        Protocol::Tcp => header_mut::<TcpHdr>(frame, TRANSPORT).map(|tcp| {
            tcp.source = route.source_port.wire().to_ne_bytes();
            tcp.dest = route.destination_port.wire().to_ne_bytes();
            tcp.check = ports.apply(tcp.check);
        }),
        Protocol::Udp => header_mut::<UdpHdr>(frame, TRANSPORT).map(|udp| {
            udp.src = route.source_port.wire().to_ne_bytes();
            udp.dst = route.destination_port.wire().to_ne_bytes();
            udp.check = ports.apply_udp(udp.check);
        }),
    };
    if written.is_none() {
        return Verdict::Drop(DropReason::Internal);
    }
    let Some(ip) = header_mut::<Ipv4Hdr>(frame, ETHERNET) else {
        return Verdict::Drop(DropReason::Internal);
    };
    let ttl = packet.ttl.wrapping_sub(1);
    ip.check = addresses
        .word16(u16::from_ne_bytes([packet.ttl, ip.proto]), u16::from_ne_bytes([ttl, ip.proto]))
        .apply(ip.check);
    ip.ttl = ttl;
    ip.src_addr = route.source.v4_word().to_ne_bytes();
    ip.dst_addr = route.destination.v4_word().to_ne_bytes();
    let Some(ethernet) = header_mut::<Ethernet>(frame, 0) else {
        return Verdict::Drop(DropReason::Internal);
    };
    ethernet.destination = route.hop.mac();
    ethernet.source = source_mac;
    Verdict::Transmit(route.direction)
}
