//! Verifies frames as they were on the wire: lengths and checksums of IPv4, TCP and UDP.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result, anyhow, ensure};
use etherparse::checksum::Sum16BitWords;
use etherparse::{EtherType, Ethernet2HeaderSlice, IpNumber, Ipv4HeaderSlice, TcpSlice, UdpSlice};

/// What two ends and a protocol name: one direction of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Flow {
    /// The protocol's number.
    pub protocol: u8,
    /// Who sent; port 0 where there are no ports.
    pub source: SocketAddrV4,
    /// To whom.
    pub destination: SocketAddrV4,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", protocol_name(self.protocol), self.source, self.destination)
    }
}

/// What a frame is, once it was found right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame {
    /// IPv4, of this flow.
    Ipv4(Flow),
    /// Something else, which nothing was asked about.
    Other,
}

/// Checks a frame that starts with its Ethernet header; the error says what is wrong with it.
///
/// Bytes past the IPv4 total length are padding and not looked at. A fragment's TCP or UDP header is not looked at either.
pub fn verify(frame: &[u8]) -> Result<Frame> {
    let ethernet =
        Ethernet2HeaderSlice::from_slice(frame).map_err(|_| anyhow!("{} bytes are no frame", frame.len()))?;
    if ethernet.ether_type() != EtherType::IPV4 {
        return Ok(Frame::Other);
    }
    let datagram = &frame[ethernet.slice().len()..];
    let ip = Ipv4HeaderSlice::from_slice(datagram).context("IPv4 header")?;
    let (header_length, total_length) = (ip.slice().len(), usize::from(ip.total_len()));
    let ends = || {
        let protocol = ip.protocol();
        format!("{} {} -> {}", protocol_name(protocol.0), ip.source_addr(), ip.destination_addr())
    };
    ensure!(total_length <= datagram.len(), "{}: IPv4 total length {total_length} in {} bytes", ends(), datagram.len());
    ensure!(total_length >= header_length, "{}: IPv4 total length {total_length} is less than its header's", ends());
    let expected = header_checksum(ip.slice());
    ensure!(
        ip.header_checksum() == expected,
        "{}: IPv4 header checksum {:#06x} should be {expected:#06x}",
        ends(),
        ip.header_checksum()
    );
    let payload = &datagram[header_length..total_length];
    let ports = match ip.protocol() {
        _ if ip.is_fragmenting_payload() => (0, 0),
        IpNumber::TCP => verify_tcp(&ip, payload).with_context(ends)?,
        IpNumber::UDP => verify_udp(&ip, payload).with_context(ends)?,
        _ => (0, 0),
    };
    Ok(Frame::Ipv4(Flow {
        protocol: ip.protocol().0,
        source: SocketAddrV4::new(ip.source_addr(), ports.0),
        destination: SocketAddrV4::new(ip.destination_addr(), ports.1),
    }))
}

/// Over the bytes as they are: a decoded header no longer has its reserved bit.
fn header_checksum(header: &[u8]) -> u16 {
    let (before, from) = header.split_at(10);
    Sum16BitWords::new().add_slice(before).add_slice(&from[2..]).ones_complement().to_be()
}

fn verify_tcp(ip: &Ipv4HeaderSlice, payload: &[u8]) -> Result<(u16, u16)> {
    let tcp = TcpSlice::from_slice(payload).context("TCP header")?;
    let expected = tcp.calc_checksum_ipv4(ip.source(), ip.destination()).context("TCP length")?;
    let ports = (tcp.source_port(), tcp.destination_port());
    ensure!(
        tcp.checksum() == expected,
        "TCP checksum {:#06x} of {} to {} should be {expected:#06x}",
        tcp.checksum(),
        ports.0,
        ports.1
    );
    Ok(ports)
}

fn verify_udp(ip: &Ipv4HeaderSlice, payload: &[u8]) -> Result<(u16, u16)> {
    let udp = UdpSlice::from_slice(payload).context("UDP header")?;
    ensure!(
        usize::from(udp.length()) == payload.len(),
        "UDP length {} in an IPv4 payload of {} bytes",
        udp.length(),
        payload.len()
    );
    let ports = (udp.source_port(), udp.destination_port());
    // Zero is how a sender says that it computed none.
    if udp.checksum() != 0 {
        let expected = udp
            .to_header()
            .calc_checksum_ipv4_raw(ip.source(), ip.destination(), udp.payload())
            .context("UDP length")?;
        ensure!(
            udp.checksum() == expected,
            "UDP checksum {:#06x} of {} to {} should be {expected:#06x}",
            udp.checksum(),
            ports.0,
            ports.1
        );
    }
    Ok(ports)
}

fn protocol_name(protocol: u8) -> String {
    IpNumber(protocol).keyword_str().unwrap_or("protocol").to_string()
}

/// True for flows from or to an address.
pub fn touches(flow: &Flow, address: Ipv4Addr) -> bool {
    *flow.source.ip() == address || *flow.destination.ip() == address
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const CLIENT: [u8; 4] = [10, 10, 0, 10];
    const VIP: [u8; 4] = [10, 10, 0, 100];

    fn tcp(payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2(MAC, MAC).ipv4(CLIENT, VIP, 64).tcp(40_000, 80, 7, 1_000).ack(9);
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).unwrap();
        frame
    }

    fn udp(payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2(MAC, MAC).ipv4(CLIENT, VIP, 64).udp(40_000, 53);
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).unwrap();
        frame
    }

    fn refused(frame: &[u8], because: &str) {
        let error = format!("{:#}", verify(frame).expect_err(because));
        assert!(error.contains(because), "{error:?} does not speak of {because:?}");
    }

    #[test]
    fn right_frames_are_told_by_flow() {
        for payload in [&b""[..], b"o", b"even", b"odd size"] {
            let flow = |protocol, port| {
                Frame::Ipv4(Flow {
                    protocol,
                    source: SocketAddrV4::new(CLIENT.into(), 40_000),
                    destination: SocketAddrV4::new(VIP.into(), port),
                })
            };
            assert_eq!(verify(&tcp(payload)).unwrap(), flow(6, 80));
            assert_eq!(verify(&udp(payload)).unwrap(), flow(17, 53));
        }
    }

    #[test]
    fn what_is_not_ipv4_is_not_judged() {
        let arp = [&MAC[..], &MAC, &[8, 6], &[0; 28]].concat();
        assert_eq!(verify(&arp).unwrap(), Frame::Other);
    }

    #[test]
    fn padding_and_an_absent_udp_checksum_are_right() {
        let mut padded = tcp(b"");
        padded.resize(60, 0);
        assert!(verify(&padded).is_ok());
        let mut unsummed = udp(b"payload");
        unsummed[40..42].fill(0);
        assert!(verify(&unsummed).is_ok());
    }

    #[test]
    fn any_flipped_bit_of_headers_or_payload_is_found() {
        for whole in [tcp(b"some payload"), udp(b"some payload")] {
            for at in 14..whole.len() {
                for bit in 0..8 {
                    let mut broken = whole.clone();
                    broken[at] ^= 1 << bit;
                    assert!(verify(&broken).is_err(), "bit {bit} of byte {at} of {} bytes", whole.len());
                }
            }
        }
    }

    #[test]
    fn wrong_lengths_are_named() {
        let whole = tcp(b"payload");
        refused(&whole[..whole.len() - 1], "IPv4 total length");
        refused(&whole[..10], "no frame");
        refused(&whole[..20], "IPv4 header");
        let mut longer = udp(b"payload");
        longer[38..40].copy_from_slice(&14_u16.to_be_bytes());
        refused(&longer, "UDP length");
    }

    #[test]
    fn wrong_checksums_are_named_with_both_ends() {
        let mut broken = tcp(b"payload");
        broken[50] ^= 0xff;
        refused(&broken, "TCP checksum");
        refused(&broken, "10.10.0.10");
        let mut broken = udp(b"payload");
        broken[40] ^= 0xff;
        refused(&broken, "UDP checksum");
        let mut broken = udp(b"payload");
        broken[22] -= 1;
        refused(&broken, "IPv4 header checksum");
    }

    #[test]
    fn a_fragment_is_judged_by_its_ip_header_alone() {
        let mut header = etherparse::Ipv4Header::new(8, 64, IpNumber::UDP, CLIENT, VIP).unwrap();
        header.more_fragments = true;
        header.header_checksum = header.calc_header_checksum();
        let frame = [&MAC[..], &MAC, &[8, 0], &header.to_bytes(), &[0xff; 8]].concat();
        let Frame::Ipv4(flow) = verify(&frame).unwrap() else { panic!("it is IPv4") };
        assert_eq!(flow.source.port(), 0);
        assert!(touches(&flow, CLIENT.into()) && !touches(&flow, [10, 20, 0, 11].into()));
    }
}
