//! The decision from routes and neighbours to next hops, on messages as the kernel sends them.

use std::io;

use rtnetlink::packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::super::message::{self, event, lookup, refused_lookup};
use super::*;

const ETH0: u32 = 7;
const ETH1: u32 = 8;
const DEVICE: u16 = 3;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const TARGET: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

/// A mirror that is attached to eth0, knows eth1 too, and has looked [`TARGET`] up.
fn mirror(answer: Lookup) -> Mirror {
    let mut mirror = Mirror::new([(DEVICE, ETH0)]);
    mirror.set_targets(&BTreeSet::from([TARGET]));
    tell(&mut mirror, new_link(ETH0, "eth0", true));
    tell(&mut mirror, new_link(ETH1, "eth1", true));
    mirror.looked_up(TARGET, answer);
    mirror
}

fn tell(mirror: &mut Mirror, message: RouteNetlinkMessage) {
    mirror.apply(event(&NetlinkMessage::from(message)).expect("an event that concerns us"));
}

fn new_link(ifindex: u32, name: &str, up: bool) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    message.header.flags = if up { LinkFlags::Up | LinkFlags::Running } else { LinkFlags::Up };
    message.attributes = vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::Mtu(1500),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
    ];
    RouteNetlinkMessage::NewLink(message)
}

fn neighbour(ifindex: u32, address: Ipv4Addr, state: NeighbourState, mac: Option<[u8; 6]>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = ifindex;
    message.header.state = state;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address)));
    message.attributes.extend(mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.to_vec())));
    message
}

fn tell_neighbour(mirror: &mut Mirror, address: Ipv4Addr, state: NeighbourState, mac: Option<[u8; 6]>) {
    tell(mirror, RouteNetlinkMessage::NewNeighbour(neighbour(ETH0, address, state, mac)));
}

fn route_message(kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.kind = kind;
    message.attributes = attributes;
    message
}

fn through(ifindex: u32, gateway: Option<Ipv4Addr>) -> Lookup {
    let mut attributes = vec![RouteAttribute::Oif(ifindex), RouteAttribute::PrefSource(RouteAddress::Inet(SOURCE))];
    attributes.extend(gateway.map(|gateway| RouteAttribute::Gateway(RouteAddress::Inet(gateway))));
    lookup(TARGET, &route_message(RouteType::Unicast, attributes))
}

fn route(mirror: &mut Mirror) -> Route {
    mirror.take_view().expect("something changed").routes.remove(&TARGET).expect("looked up")
}

fn problem(mirror: &mut Mirror) -> String {
    let route = route(mirror);
    assert_eq!(route.hop, Hop::UNKNOWN);
    route.problem.expect("an unknown hop comes with its reason")
}

#[test]
fn a_neighbour_that_the_kernel_would_send_to_is_the_hop() {
    use NeighbourState::{Delay, Permanent, Probe, Reachable, Stale};
    for state in [Reachable, Stale, Delay, Probe, Permanent] {
        let mut mirror = mirror(through(ETH0, None));
        tell_neighbour(&mut mirror, TARGET, state, Some(MAC));
        assert_eq!(
            route(&mut mirror),
            Route { hop: Hop::new(MAC, DEVICE), source: Some(SOURCE), problem: None },
            "{state:?}"
        );
        assert!(mirror.unresolved().is_empty(), "{state:?}");
        assert_eq!(!mirror.stale().is_empty(), state == Stale, "{state:?}");
    }
}

#[test]
fn a_neighbour_that_does_not_answer_is_asked_for() {
    use NeighbourState::{Failed, Incomplete, None as Nothing};
    let mut absent = mirror(through(ETH0, None));
    assert_eq!(problem(&mut absent), "10.0.0.9 does not answer ARP on eth0");
    assert_eq!(absent.unresolved(), BTreeSet::from([(ETH0, TARGET)]));
    // A failed entry still names the MAC that it failed at.
    for (state, mac) in [(Failed, Some(MAC)), (Incomplete, None), (Nothing, None)] {
        let mut mirror = mirror(through(ETH0, None));
        tell_neighbour(&mut mirror, TARGET, state, mac);
        assert_eq!(problem(&mut mirror), "10.0.0.9 does not answer ARP on eth0", "{state:?}");
        assert_eq!(mirror.unresolved(), BTreeSet::from([(ETH0, TARGET)]), "{state:?}");
    }
}

#[test]
fn behind_a_gateway_the_gateway_is_the_hop() {
    let mut mirror = mirror(through(ETH0, Some(GATEWAY)));
    tell_neighbour(&mut mirror, TARGET, NeighbourState::Reachable, Some([2, 0, 0, 0, 0, 8]));
    assert_eq!(problem(&mut mirror), "gateway 10.0.0.1 does not answer ARP on eth0");
    assert_eq!(mirror.unresolved(), BTreeSet::from([(ETH0, GATEWAY)]));
    tell_neighbour(&mut mirror, GATEWAY, NeighbourState::Reachable, Some(MAC));
    assert_eq!(route(&mut mirror).hop, Hop::new(MAC, DEVICE));
}

#[test]
fn a_neighbour_of_the_same_address_on_another_interface_does_not_count() {
    let mut mirror = mirror(through(ETH0, None));
    let elsewhere = neighbour(ETH1, TARGET, NeighbourState::Reachable, Some(MAC));
    tell(&mut mirror, RouteNetlinkMessage::NewNeighbour(elsewhere));
    assert_eq!(problem(&mut mirror), "10.0.0.9 does not answer ARP on eth0");
}

#[test]
fn a_device_without_arp_is_named_as_the_cause() {
    let mut mirror = mirror(through(ETH0, None));
    tell_neighbour(&mut mirror, TARGET, NeighbourState::Noarp, Some(MAC));
    assert_eq!(problem(&mut mirror), "10.0.0.9 cannot be resolved: eth0 does not use ARP");
}

#[test]
fn an_interface_that_we_are_not_attached_to_is_named() {
    let mut mirror = mirror(through(ETH1, None));
    assert_eq!(problem(&mut mirror), "10.0.0.9 leaves through eth1, which weir is not attached to");
    assert!(mirror.unresolved().is_empty(), "nothing to ask for");
}

#[test]
fn a_link_without_carrier_has_no_hops() {
    let mut mirror = mirror(through(ETH0, None));
    tell_neighbour(&mut mirror, TARGET, NeighbourState::Permanent, Some(MAC));
    assert!(route(&mut mirror).hop.is_known());
    tell(&mut mirror, new_link(ETH0, "eth0", false));
    assert_eq!(problem(&mut mirror), "10.0.0.9 leaves through eth0, which is down");
    assert_eq!(mirror.outdated(), [TARGET], "its routes may have gone, which the kernel does not tell");
}

#[test]
fn addresses_that_no_backend_can_have_are_problems() {
    let answers = [
        (RouteType::Local, "10.0.0.9 is this host's own address"),
        (RouteType::Broadcast, "10.0.0.9 is a broadcast address"),
        (RouteType::Multicast, "10.0.0.9 is a multicast address"),
        (RouteType::BlackHole, "no route to 10.0.0.9"),
    ];
    for (kind, sentence) in answers {
        let answer = lookup(TARGET, &route_message(kind, vec![RouteAttribute::Oif(1)]));
        assert_eq!(problem(&mut mirror(answer)), sentence);
    }
    let via = RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().expect("an address")));
    let answer = lookup(TARGET, &route_message(RouteType::Unicast, vec![RouteAttribute::Oif(ETH0), via]));
    assert_eq!(problem(&mut mirror(answer)), "10.0.0.9 goes through an IPv6 gateway, which weir cannot use for IPv4");
}

#[test]
fn refusals_that_tell_of_the_route_are_told_from_others() {
    let refused = |code| refused_lookup(TARGET, io::Error::from_raw_os_error(code));
    let answers = [
        (libc::ENETUNREACH, "no route to 10.0.0.9"),
        (libc::EHOSTUNREACH, "no route to 10.0.0.9"),
        (libc::EACCES, "no route to 10.0.0.9: the routing table prohibits it"),
        (libc::EINVAL, "no route to 10.0.0.9: the routing table discards it"),
        (libc::ENOBUFS, "no route to 10.0.0.9: No buffer space available (os error 105)"),
    ];
    for (code, sentence) in answers {
        assert_eq!(problem(&mut mirror(refused(code).expect("tells of the route"))), sentence);
    }
    assert!(refused_lookup(TARGET, io::ErrorKind::UnexpectedEof.into()).is_err(), "the socket is gone");
}

#[test]
fn a_route_change_outdates_the_targets_within_its_prefix() {
    let mut mirror = mirror(through(ETH0, None));
    let mut change = |prefix: [u8; 4], length| {
        let mut message =
            route_message(RouteType::Unicast, vec![RouteAttribute::Destination(RouteAddress::Inet(prefix.into()))]);
        message.header.destination_prefix_length = length;
        tell(&mut mirror, RouteNetlinkMessage::NewRoute(message));
        let outdated = !mirror.outdated().is_empty();
        mirror.looked_up(TARGET, through(ETH0, None));
        outdated
    };
    for length in [1, 8, 24, 31, 32] {
        let mask = u32::MAX << (32 - length);
        assert!(change((u32::from(TARGET) & mask).to_be_bytes(), length), "/{length} around the target");
        assert!(
            !change(((u32::from(TARGET) & mask) ^ (1 << (32 - length))).to_be_bytes(), length),
            "/{length} beside it"
        );
    }
    assert!(change([0, 0, 0, 0], 0), "the default route");
}

#[test]
fn ageing_of_a_neighbour_does_not_change_the_view() {
    let mut mirror = mirror(through(ETH0, None));
    tell_neighbour(&mut mirror, TARGET, NeighbourState::Reachable, Some(MAC));
    assert!(mirror.take_view().is_some());
    tell_neighbour(&mut mirror, TARGET, NeighbourState::Stale, Some(MAC));
    assert_eq!(mirror.take_view(), None);
    assert_eq!(mirror.stale(), BTreeSet::from([(ETH0, TARGET)]));
    tell_neighbour(&mut mirror, TARGET, NeighbourState::Reachable, Some([2, 0, 0, 0, 0, 10]));
    assert_eq!(route(&mut mirror).hop, Hop::new([2, 0, 0, 0, 0, 10], DEVICE));
    let gone = neighbour(ETH0, TARGET, NeighbourState::Reachable, None);
    tell(&mut mirror, RouteNetlinkMessage::DelNeighbour(gone));
    assert!(!route(&mut mirror).hop.is_known());
}

#[test]
fn targets_that_stay_keep_what_is_known_of_them() {
    let mut mirror = mirror(through(ETH0, None));
    tell_neighbour(&mut mirror, TARGET, NeighbourState::Reachable, Some(MAC));
    let other = Ipv4Addr::new(10, 0, 0, 10);
    mirror.set_targets(&BTreeSet::from([TARGET, other]));
    assert_eq!(mirror.outdated(), [other]);
    let view = mirror.take_view().expect("targets changed");
    assert_eq!(view.routes.keys().collect::<Vec<_>>(), [&TARGET], "the other has not been looked up");
    mirror.set_targets(&BTreeSet::from([other]));
    assert!(mirror.take_view().expect("targets changed").routes.is_empty());
}

#[test]
fn an_overrun_and_messages_of_others_are_told_apart() {
    let overrun =
        NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::<RouteNetlinkMessage>::Overrun(Vec::new()));
    assert_eq!(event(&overrun), Some(Event::Overrun));
    let mut bridge_port = LinkMessage::default();
    bridge_port.header.interface_family = AddressFamily::Bridge;
    assert_eq!(event(&NetlinkMessage::from(RouteNetlinkMessage::DelLink(bridge_port))), None);
    let mut ipv6 = NeighbourMessage::default();
    ipv6.header.family = AddressFamily::Inet6;
    assert_eq!(message::neighbour(&ipv6), None);
}
