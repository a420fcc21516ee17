//! Builds frames, right ones and wrong ones, and says in words what is in a frame.
//!
//! A [`Frame`] comes out with correct lengths and checksums unless told otherwise. Checksums are etherparse's, so that
//! what the datapath writes is compared with an implementation that is not its own.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{IpNumber, NetSlice, SlicedPacket, TransportSlice};
use lb_common::reason::Verdict;

/// The balancer's MAC on its first device.
pub const BALANCER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// TCP flags: no more data from the sender.
pub const FIN: u8 = 1;
/// Synchronise sequence numbers.
pub const SYN: u8 = 1 << 1;
/// Reset the connection.
pub const RST: u8 = 1 << 2;
/// Push.
pub const PSH: u8 = 1 << 3;
/// The acknowledgement field counts.
pub const ACK: u8 = 1 << 4;

/// First byte of the IP header in an untagged frame.
pub const IP: usize = 14;
/// First byte of the transport header behind an IP header without options.
pub const TRANSPORT: usize = IP + 20;

const TCP_NUMBER: u8 = 6;
const UDP_NUMBER: u8 = 17;

/// The MAC that the station with this address has in every test.
pub fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [2, 1, a, b, c, d]
}

/// An IPv4 frame in the making.
#[must_use]
#[derive(Clone, Debug)]
pub struct Frame {
    to: [u8; 6],
    from: [u8; 6],
    tags: Vec<[u8; 4]>,
    ether_type: u16,
    version: u8,
    ihl: Option<u8>,
    total_length: Option<u16>,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    source: SocketAddrV4,
    destination: SocketAddrV4,
    ip_options: Vec<u8>,
    flags: u8,
    data_offset: Option<u8>,
    tcp_options: Vec<u8>,
    udp_length: Option<u16>,
    checksum: Checksum,
    payload: Vec<u8>,
    padding: usize,
}

/// What stands in the transport header's checksum field.
#[derive(Clone, Copy, Debug)]
enum Checksum {
    Correct,
    /// UDP's "none".
    Zero,
    /// Some other value: the datapath neither checks nor repairs one.
    Off(u16),
}

/// A TCP frame from `source` to `destination`, sent to the balancer's MAC: no payload, no flags.
pub fn tcp(source: &str, destination: &str) -> Frame {
    Frame::new(TCP_NUMBER, address(source), address(destination))
}

/// As [`tcp`], for UDP.
pub fn udp(source: &str, destination: &str) -> Frame {
    Frame::new(UDP_NUMBER, address(source), address(destination))
}

/// `192.0.2.1:80` as an address.
pub fn address(text: &str) -> SocketAddrV4 {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

impl Frame {
    fn new(protocol: u8, source: SocketAddrV4, destination: SocketAddrV4) -> Self {
        Self {
            to: BALANCER_MAC,
            from: mac_of(*source.ip()),
            tags: Vec::new(),
            ether_type: 0x0800,
            version: 4,
            ihl: None,
            total_length: None,
            fragment: 0x4000,
            ttl: 64,
            protocol,
            source,
            destination,
            ip_options: Vec::new(),
            flags: 0,
            data_offset: None,
            tcp_options: Vec::new(),
            udp_length: None,
            checksum: Checksum::Correct,
            payload: Vec::new(),
            padding: 0,
        }
    }

    /// Another receiver and sender on the wire.
    pub fn macs(self, from: [u8; 6], to: [u8; 6]) -> Self {
        Self { to, from, ..self }
    }

    /// As the balancer sends it on: to the station that has the destination's address.
    pub fn leaving(self) -> Self {
        let to = mac_of(*self.destination.ip());
        Self { from: BALANCER_MAC, to, ttl: self.ttl - 1, ..self }
    }

    /// Other transport ports and addresses, all else as it is.
    pub fn between(self, source: &str, destination: &str) -> Self {
        Self { source: address(source), destination: address(destination), ..self }
    }

    /// Another source port.
    pub fn source_port(mut self, port: u16) -> Self {
        self.source.set_port(port);
        self
    }

    /// TCP flags.
    pub fn flags(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    /// The data that the packet carries.
    pub fn payload(self, payload: impl Into<Vec<u8>>) -> Self {
        Self { payload: payload.into(), ..self }
    }

    /// Time to live.
    pub fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    /// A VLAN tag with that type, outside of those before.
    pub fn tag(mut self, tag_type: u16, id: u16) -> Self {
        let ([a, b], [c, d]) = (tag_type.to_be_bytes(), id.to_be_bytes());
        self.tags.insert(0, [a, b, c, d]);
        self
    }

    /// What the Ethernet header says it carries, while it is IPv4.
    pub fn ether_type(self, ether_type: u16) -> Self {
        Self { ether_type, ..self }
    }

    /// What the IP header says its version is.
    pub fn version(self, version: u8) -> Self {
        Self { version, ..self }
    }

    /// What the IP header says its own length is, in words.
    pub fn ihl(self, ihl: u8) -> Self {
        Self { ihl: Some(ihl), ..self }
    }

    /// What the IP header says its packet's length is.
    pub fn total_length(self, length: u16) -> Self {
        Self { total_length: Some(length), ..self }
    }

    /// The fragment field: flags and offset.
    pub fn fragment(self, field: u16) -> Self {
        Self { fragment: field, ..self }
    }

    /// What the IP header says it carries, while it is as built.
    pub fn protocol(self, number: u8) -> Self {
        Self { protocol: number, ..self }
    }

    /// IP options; their length is a multiple of four.
    pub fn ip_options(self, options: &[u8]) -> Self {
        Self { ip_options: options.to_vec(), ..self }
    }

    /// TCP options; their length is a multiple of four.
    pub fn tcp_options(self, options: &[u8]) -> Self {
        Self { tcp_options: options.to_vec(), ..self }
    }

    /// What the TCP header says its own length is, in words.
    pub fn data_offset(self, words: u8) -> Self {
        Self { data_offset: Some(words), ..self }
    }

    /// What the UDP header says its datagram's length is.
    pub fn udp_length(self, length: u16) -> Self {
        Self { udp_length: Some(length), ..self }
    }

    /// UDP without a checksum.
    pub fn no_checksum(self) -> Self {
        Self { checksum: Checksum::Zero, ..self }
    }

    /// A transport checksum that is wrong by `difference`, in one's complement arithmetic.
    pub fn checksum_off_by(self, difference: u16) -> Self {
        Self { checksum: Checksum::Off(difference), ..self }
    }

    /// Bytes behind the IP packet.
    pub fn padding(self, bytes: usize) -> Self {
        Self { padding: bytes, ..self }
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let transport = match self.protocol {
            UDP_NUMBER => self.udp_bytes(),
            _ => self.tcp_bytes(),
        };
        let ip_length = 20 + self.ip_options.len();
        let mut ip = vec![0; 20];
        let ihl = self.ihl.unwrap_or_else(|| u8::try_from(ip_length / 4).expect("options fit"));
        ip[0] = self.version << 4 | ihl;
        let total = self.total_length.unwrap_or_else(|| length(ip_length + transport.len()));
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        ip[4..6].copy_from_slice(&0x1234u16.to_be_bytes());
        ip[6..8].copy_from_slice(&self.fragment.to_be_bytes());
        (ip[8], ip[9]) = (self.ttl, self.protocol);
        ip[12..16].copy_from_slice(&self.source.ip().octets());
        ip[16..20].copy_from_slice(&self.destination.ip().octets());
        ip.extend(&self.ip_options);
        let sum = ones_complement(&[&ip]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut frame = [self.to, self.from].concat();
        frame.extend(self.tags.iter().flatten());
        frame.extend(self.ether_type.to_be_bytes());
        frame.extend(ip);
        frame.extend(transport);
        frame.resize(frame.len() + self.padding, 0xa5);
        frame
    }

    fn tcp_bytes(&self) -> Vec<u8> {
        let words = u8::try_from(5 + self.tcp_options.len() / 4).expect("options fit");
        let mut bytes = self.ports();
        bytes.extend(1_000u32.to_be_bytes());
        bytes.extend(0x0102_0304u32.to_be_bytes());
        bytes.extend([self.data_offset.unwrap_or(words) << 4, self.flags]);
        bytes.extend(512u16.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.tcp_options);
        bytes.extend(&self.payload);
        self.put_checksum(&mut bytes, 16);
        bytes
    }

    fn udp_bytes(&self) -> Vec<u8> {
        let mut bytes = self.ports();
        bytes.extend(self.udp_length.unwrap_or_else(|| length(8 + self.payload.len())).to_be_bytes());
        bytes.extend([0; 2]);
        bytes.extend(&self.payload);
        self.put_checksum(&mut bytes, 6);
        bytes
    }

    fn ports(&self) -> Vec<u8> {
        [self.source.port().to_be_bytes(), self.destination.port().to_be_bytes()].concat()
    }

    fn put_checksum(&self, transport: &mut [u8], at: usize) {
        let is_udp = self.protocol == UDP_NUMBER;
        let correct = match self.pseudo_checksum(transport) {
            0 if is_udp => 0xffff,
            sum => sum,
        };
        let field = match self.checksum {
            Checksum::Correct => correct,
            Checksum::Zero => 0,
            Checksum::Off(difference) => {
                let sum = u32::from(correct) + u32::from(difference);
                u16::try_from((sum & 0xffff) + (sum >> 16)).expect("16 bits and a carry")
            }
        };
        transport[at..at + 2].copy_from_slice(&field.to_be_bytes());
    }

    fn pseudo_checksum(&self, transport: &[u8]) -> u16 {
        let (source, destination) = (self.source.ip().octets(), self.destination.ip().octets());
        let rest = [[0, self.protocol], length(transport.len()).to_be_bytes()].concat();
        ones_complement(&[&source, &destination, &rest, transport])
    }
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("frames in tests are short")
}

/// The Internet checksum of parts that begin at even places, by etherparse.
fn ones_complement(parts: &[&[u8]]) -> u16 {
    let sum = parts.iter().fold(etherparse::checksum::Sum16BitWords::new(), |sum, part| sum.add_slice(part));
    sum.ones_complement().to_be()
}

/// What is wrong with the checksums of a frame, recomputed from scratch; nothing for one whose checksums are right.
pub fn checksum_faults(frame: &[u8]) -> Vec<String> {
    let packet = match SlicedPacket::from_ethernet(frame) {
        Ok(packet) => packet,
        Err(error) => return vec![format!("unreadable: {error}")],
    };
    let Some(NetSlice::Ipv4(ip)) = &packet.net else { return vec!["not IPv4".into()] };
    let mut faults = Vec::new();
    let mut compare = |what: &str, found: u16, right: u16| {
        if found != right {
            faults.push(format!("{what} checksum {found:#06x}, right would be {right:#06x}"));
        }
    };
    let header = ip.header();
    compare("IP", header.header_checksum(), header.to_header().calc_header_checksum());
    let unsure = "a packet too long for IPv4";
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let right = tcp.calc_checksum_ipv4(header.source(), header.destination()).expect(unsure);
            compare("TCP", tcp.checksum(), right);
        }
        Some(TransportSlice::Udp(udp)) if udp.checksum() != 0 => {
            let right = udp.to_header().calc_checksum_ipv4_raw(header.source(), header.destination(), udp.payload());
            compare("UDP", udp.checksum(), right.expect(unsure));
        }
        _ => {}
    }
    faults
}

/// A frame in words, and all its bytes.
pub fn show(frame: &[u8]) -> String {
    let mut text = format!("{} bytes", frame.len());
    let mac = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
    if let (Some(to), Some(from)) = (frame.get(0..6), frame.get(6..12)) {
        let _ = write!(text, ", {} > {}", mac(from), mac(to));
    }
    match SlicedPacket::from_ethernet(frame) {
        Ok(packet) => show_packet(&mut text, &packet),
        Err(error) => {
            let _ = write!(text, ", {error}");
        }
    }
    for (number, chunk) in frame.chunks(16).enumerate() {
        let bytes: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = write!(text, "\n    {:04x}  {}", number * 16, bytes.join(" "));
    }
    text
}

fn show_packet(text: &mut String, packet: &SlicedPacket<'_>) {
    let Some(NetSlice::Ipv4(ip)) = &packet.net else { return };
    let header = ip.header();
    let (from, to) = (header.source_addr(), header.destination_addr());
    let _ = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let flags = tcp.slice()[13];
            let names = [(SYN, "syn"), (ACK, "ack"), (FIN, "fin"), (RST, "rst"), (PSH, "psh")];
            let names: Vec<&str> =
                names.into_iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| name).collect();
            let (source, destination, names) = (tcp.source_port(), tcp.destination_port(), names.join("+"));
            write!(text, ", tcp {from}:{source} > {to}:{destination} [{names}] seq {}", tcp.sequence_number())
        }
        Some(TransportSlice::Udp(udp)) => {
            write!(text, ", udp {from}:{} > {to}:{}", udp.source_port(), udp.destination_port())
        }
        _ => write!(text, ", {:?} {from} > {to}", IpNumber(header.protocol().0)),
    };
    let _ = write!(text, ", ttl {}, total length {}", header.ttl(), header.total_len());
}

/// A verdict in words: `drop (no-backend)`.
pub fn show_verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Pass(reason) => format!("pass ({})", reason.name()),
        Verdict::Drop(reason) => format!("drop ({})", reason.name()),
        Verdict::Transmit(direction) => format!("transmit ({})", direction.name()),
    }
}
