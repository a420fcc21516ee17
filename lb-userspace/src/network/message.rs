//! Netlink messages, read into what the mirror keeps.

use std::io;
use std::net::Ipv4Addr;

use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, LinkXdp, XdpAttached};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Attachment, Link};

/// The interface and the address on it that a neighbour entry is about.
pub(super) type NeighbourKey = (u32, Ipv4Addr);

/// A neighbour entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Neighbour {
    pub mac: Option<[u8; 6]>,
    pub state: NeighbourState,
}

impl Neighbour {
    /// The MAC, as long as the kernel would itself send to it.
    pub fn usable_mac(&self) -> Option<[u8; 6]> {
        use NeighbourState::{Delay, Permanent, Probe, Reachable, Stale};
        self.mac.filter(|_| matches!(self.state, Reachable | Stale | Delay | Probe | Permanent))
    }
}

/// The kernel's answer to "how do I get there".
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Lookup {
    /// Through an interface.
    Leaves { ifindex: u32, gateway: Option<Ipv4Addr>, source: Option<Ipv4Addr> },
    /// Not at all, as a sentence.
    Nowhere(String),
}

/// A change that the kernel has told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Event {
    Link(Link),
    LinkGone(u32),
    Neighbour(NeighbourKey, Neighbour),
    NeighbourGone(NeighbourKey),
    /// Routes to addresses within a prefix may be others now.
    Routes {
        prefix: Ipv4Addr,
        length: u8,
    },
    /// Any route may be another now.
    AllRoutes,
    /// Notifications were lost.
    Overrun,
}

/// Reads a notification; `None` if it does not concern us.
pub(super) fn event(message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<Event> {
    use RouteNetlinkMessage as M;
    let inner = match &message.payload {
        NetlinkPayload::InnerMessage(inner) => inner,
        NetlinkPayload::Overrun(_) => return Some(Event::Overrun),
        _ => return None,
    };
    match inner {
        // A bridge reports its ports' links under its own family: with the same index, but without all attributes.
        M::NewLink(m) if m.header.interface_family == AddressFamily::Unspec => Some(Event::Link(link(m))),
        M::DelLink(m) if m.header.interface_family == AddressFamily::Unspec => Some(Event::LinkGone(m.header.index)),
        M::NewNeighbour(m) => neighbour(m).map(|(key, neighbour)| Event::Neighbour(key, neighbour)),
        M::DelNeighbour(m) => neighbour(m).map(|(key, _)| Event::NeighbourGone(key)),
        M::NewRoute(m) | M::DelRoute(m) if m.header.address_family == AddressFamily::Inet => Some(Event::Routes {
            prefix: m.attributes.iter().find_map(destination).unwrap_or(Ipv4Addr::UNSPECIFIED),
            length: m.header.destination_prefix_length,
        }),
        M::NewAddress(_) | M::DelAddress(_) | M::NewRule(_) | M::DelRule(_) => Some(Event::AllRoutes),
        _ => None,
    }
}

/// Reads an interface.
pub(super) fn link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        name: String::new(),
        ifindex: message.header.index,
        mac: [0; 6],
        mtu: 0,
        up: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::Running),
        xdp: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(address) => link.mac = address.as_slice().try_into().unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Xdp(attributes) => link.xdp = attachment(attributes),
            _ => {}
        }
    }
    link
}

/// Reads which XDP program is on an interface.
fn attachment(attributes: &[LinkXdp]) -> Option<Attachment> {
    let program_id = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) if *id != 0 => Some(*id),
        _ => None,
    })?;
    let is_native = attributes.iter().any(|attribute| matches!(attribute, LinkXdp::Attached(XdpAttached::Driver)));
    Some(Attachment { program_id, is_native })
}

/// Reads an IPv4 neighbour entry.
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<(NeighbourKey, Neighbour)> {
    if message.header.family != AddressFamily::Inet {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(*address),
        _ => None,
    })?;
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => mac.as_slice().try_into().ok(),
        _ => None,
    });
    Some(((message.header.ifindex, address), Neighbour { mac, state: message.header.state }))
}

/// Reads the answer to a route request for `target`.
pub(super) fn lookup(target: Ipv4Addr, message: &RouteMessage) -> Lookup {
    match message.header.kind {
        RouteType::Unicast => {}
        RouteType::Local => return Lookup::Nowhere(format!("{target} is this host's own address")),
        RouteType::Broadcast => return Lookup::Nowhere(format!("{target} is a broadcast address")),
        RouteType::Multicast => return Lookup::Nowhere(format!("{target} is a multicast address")),
        _ => return no_route(target),
    }
    let mut ifindex = None;
    let mut gateway = None;
    let mut source = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(*address),
            RouteAttribute::Via(_) => {
                return Lookup::Nowhere(format!(
                    "{target} goes through an IPv6 gateway, which weir cannot use for IPv4"
                ));
            }
            RouteAttribute::EncapType(_) => {
                return Lookup::Nowhere(format!(
                    "{target} goes through a tunnel of the routing table, which weir cannot use"
                ));
            }
            _ => {}
        }
    }
    ifindex.map_or_else(|| no_route(target), |ifindex| Lookup::Leaves { ifindex, gateway, source })
}

/// Reads the refusal of a route request for `target`; an error of the socket comes back.
pub(super) fn refused_lookup(target: Ipv4Addr, error: io::Error) -> Result<Lookup, io::Error> {
    match (error.raw_os_error(), error.kind()) {
        (Some(libc::ENETUNREACH | libc::EHOSTUNREACH), _) => Ok(no_route(target)),
        (Some(libc::EACCES), _) => Ok(no_route_since(target, "the routing table prohibits it")),
        (Some(libc::EINVAL), _) => Ok(no_route_since(target, "the routing table discards it")),
        // One target's trouble must not hide the others': the next refresh asks again.
        (Some(_), _) => Ok(no_route_since(target, &error)),
        (None, io::ErrorKind::TimedOut) => Ok(no_route_since(target, "the kernel gave no answer that can be read")),
        (None, _) => Err(error),
    }
}

fn no_route_since(target: Ipv4Addr, why: impl std::fmt::Display) -> Lookup {
    Lookup::Nowhere(format!("no route to {target}: {why}"))
}

fn no_route(target: Ipv4Addr) -> Lookup {
    Lookup::Nowhere(format!("no route to {target}"))
}

fn destination(attribute: &RouteAttribute) -> Option<Ipv4Addr> {
    match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
        _ => None,
    }
}
