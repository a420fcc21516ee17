//! Frames that are not ours go up to the host, whatever is wrong with them.

use etherparse::PacketBuilder;
use harness::packets::{ACK, BALANCER_MAC, RST, SYN, tcp, udp};
use harness::world::{IFINDEX, World};
use lb_common::reason::PassReason;

use crate::cast::{CLIENT, FIRST, NAT, Story, UDP_VIP, VIP, answer, query, request, web, world};
use crate::check::{Row, check, pass};

const CLIENT_MAC: [u8; 6] = [2, 1, 198, 51, 100, 7];

pub fn rows() -> Vec<Row> {
    [not_ipv4(), not_tcp_or_udp(), not_for_this_station(), not_a_service(), not_an_answer()]
        .into_iter()
        .flatten()
        .collect()
}

#[test]
fn what_is_not_ours_is_passed_up() {
    check(rows());
}

fn not_ipv4() -> Vec<Row> {
    let not_ip = |name: &str, ether_type: u16| {
        let frame = request(SYN).ether_type(ether_type);
        Row::new(name, world()).send(&frame, pass(PassReason::NotIp))
    };
    let tagged = |name: &str, tag_type: u16| {
        let frame = request(SYN).tag(tag_type, 5);
        Row::new(name, world()).send(&frame, pass(PassReason::Vlan))
    };
    let malformed = |name: &str, version: u8, ihl: u8| {
        let frame = request(SYN).version(version).ihl(ihl);
        Row::new(name, world()).send(&frame, pass(PassReason::Malformed))
    };
    let mut ipv6 = Vec::new();
    PacketBuilder::ethernet2(CLIENT_MAC, BALANCER_MAC)
        .ipv6([0x20; 16], [0x30; 16], 64)
        .tcp(50_123, 80, 1, 512)
        .write(&mut ipv6, b"data")
        .expect("a vector takes it");
    vec![
        not_ip("ARP", 0x0806),
        not_ip("LLDP", 0x88cc),
        not_ip("a length in place of a type, as in 802.3", 0x0028),
        Row::new("IPv6", world()).raw(ipv6, pass(PassReason::Ipv6)),
        tagged("802.1Q", 0x8100),
        tagged("802.1ad", 0x88a8),
        tagged("the old QinQ type", 0x9100),
        Row::new("two tags", world()).send(&query().tag(0x8100, 5).tag(0x88a8, 6), pass(PassReason::Vlan)),
        malformed("IP version 6 in an IPv4 frame", 6, 5),
        malformed("IP version 0", 0, 5),
        malformed("IP header length below 20", 4, 4),
        malformed("IP header length 0", 4, 0),
    ]
}

fn not_tcp_or_udp() -> Vec<Row> {
    let other = |name: &str, number: u8| {
        let frame = request(SYN).protocol(number);
        Row::new(name, world()).send(&frame, pass(PassReason::NotTcpUdp))
    };
    let fragment = |name: &str, field: u16| {
        let row = Row::new(name, world()).send(&request(SYN).fragment(field), pass(PassReason::Fragment));
        row.send(&query().fragment(field), pass(PassReason::Fragment))
    };
    let options = |name: &str, length: usize| {
        let frame = request(SYN).ip_options(&vec![1; length]);
        Row::new(name, world()).send(&frame, pass(PassReason::IpOptions))
    };
    vec![
        other("ICMP", 1),
        other("IGMP", 2),
        other("IP in IP", 4),
        other("GRE", 47),
        other("SCTP", 132),
        options("IP options", 4),
        options("as many IP options as fit", 40),
        fragment("first fragment", 0x2000),
        fragment("fragment in the middle", 0x2010),
        fragment("last fragment", 0x0010),
        fragment("last fragment at the highest offset", 0x1fff),
    ]
}

fn not_for_this_station() -> Vec<Row> {
    let sent_to = |name: &str, to: [u8; 6]| {
        let frame = request(SYN).macs(CLIENT_MAC, to);
        Row::new(name, world()).send(&frame, pass(PassReason::OtherHost))
    };
    let answer = answer(ACK).macs([2, 1, 10, 0, 0, 2], [2, 9, 9, 9, 9, 9]);
    vec![
        sent_to("another station's MAC", [2, 9, 9, 9, 9, 9]),
        sent_to("one bit of the MAC differs", [2, 0, 0, 0, 0, 3]),
        sent_to("broadcast", [0xff; 6]),
        sent_to("multicast", [1, 0, 0x5e, 0, 0, 1]),
        Row::new("an answer to another station's MAC", world())
            .established()
            .send(&answer, pass(PassReason::OtherHost)),
        Row::new("an interface that is not in the device table", world().no_device())
            .send(&request(SYN), pass(PassReason::OtherHost))
            .send(&query(), pass(PassReason::OtherHost)),
        Row::new("only another interface is in the device table", world().no_device().device(7, BALANCER_MAC))
            .send(&request(SYN), pass(PassReason::OtherHost)),
        Row::new("another interface with the same place in the device table", {
            world().no_device().device(IFINDEX + 63, BALANCER_MAC)
        })
        .send(&request(SYN), pass(PassReason::OtherHost)),
    ]
}

fn not_a_service() -> Vec<Row> {
    let not_ours = || pass(PassReason::NotOurs);
    vec![
        Row::new("no service at all", World::new()).send(&request(SYN), not_ours()).send(&query(), not_ours()),
        Row::new("another port of the VIP", world()).send(&tcp(CLIENT, "192.0.2.1:81").flags(SYN), not_ours()),
        Row::new("the service's port at another address", world())
            .send(&tcp(CLIENT, "192.0.2.2:80").flags(SYN), not_ours()),
        Row::new("the other protocol", world())
            .send(&udp(CLIENT, VIP), not_ours())
            .send(&tcp(CLIENT, UDP_VIP).flags(SYN), not_ours()),
        Row::new("from the VIP rather than to it", world()).send(&tcp(VIP, CLIENT).flags(SYN), not_ours()),
        Row::new("broken, but not ours", world())
            .send(&tcp(CLIENT, "192.0.2.9:80").total_length(9), not_ours())
            .send(&tcp(CLIENT, "192.0.2.9:80").data_offset(0), not_ours())
            .send(&udp(CLIENT, "192.0.2.9:80").udp_length(3).ttl(0), not_ours()),
        Row::new("a service that was removed", world())
            .established()
            .world(World::new())
            .send(&request(ACK), not_ours())
            .send(&answer(ACK), not_ours()),
    ]
}

fn not_an_answer() -> Vec<Row> {
    let not_ours = || pass(PassReason::NotOurs);
    let after = |name: &str| Row::new(name, world()).established();
    vec![
        Row::new("a backend speaks to a NAT port that no session has", world()).send(&answer(SYN | ACK), not_ours()),
        after("the right backend, to a port outside the NAT range")
            .send(&tcp(FIRST, "10.0.0.1:39999").flags(ACK), not_ours()),
        after("the right backend, to a port after the NAT range")
            .send(&tcp(FIRST, "10.0.0.1:40001").flags(ACK), not_ours()),
        after("another port of the backend").send(&tcp("10.0.0.2:8082", NAT).flags(ACK), not_ours()),
        after("another host to the port in use").send(&tcp("10.0.0.9:8080", NAT).flags(RST), not_ours()),
        after("the backend to the VIP with the NAT port").send(&tcp(FIRST, "192.0.2.1:40000").flags(ACK), not_ours()),
        after("the other protocol's answer").send(&udp(FIRST, NAT), not_ours()),
        Row::new(
            "in a world that only preserves, the balancer's ports are nobody's",
            World::new().service(web().preserve()),
        )
        .send(&answer(ACK), not_ours()),
    ]
}
