//! Who takes part in most rows, and the frames that they exchange.

use harness::packets::{ACK, Frame, SYN, tcp, udp};
use harness::world::{Backend, Service, World};

use crate::check::{Expect, Row, back, forward};

/// The TCP service, with id 1.
pub const VIP: &str = "192.0.2.1:80";
/// The UDP service, with id 2.
pub const UDP_VIP: &str = "192.0.2.1:53";
/// A client.
pub const CLIENT: &str = "198.51.100.7:50123";
/// Backend 1, of the TCP service.
pub const FIRST: &str = "10.0.0.2:8080";
/// Backend 2, of the TCP service.
pub const SECOND: &str = "10.0.0.3:8081";
/// Backend 3, of the UDP service.
pub const UDP_FIRST: &str = "10.0.0.2:5353";
/// Backend 4, of the UDP service.
pub const UDP_SECOND: &str = "10.0.0.3:5354";
/// The balancer's address and only port towards backends.
pub const NAT: &str = "10.0.0.1:40000";

/// The TCP service with backend 1.
pub fn web() -> Service {
    Service::tcp(1, VIP).backend(Backend::new(1, FIRST))
}

/// The TCP service with backends 1 and 2, of which 1 has every slot.
pub fn web_of_two() -> Service {
    web().backend(Backend::new(2, SECOND)).primary(1)
}

/// The UDP service with backend 3.
pub fn dns() -> Service {
    Service::udp(2, UDP_VIP).backend(Backend::new(3, UDP_FIRST))
}

/// The UDP service with backends 3 and 4, of which 3 has every slot.
pub fn dns_of_two() -> Service {
    dns().backend(Backend::new(4, UDP_SECOND)).primary(3)
}

/// Both services, one backend each.
pub fn world() -> World {
    World::new().service(web()).service(dns())
}

/// Both services, two backends each.
pub fn world_of_two() -> World {
    World::new().service(web_of_two()).service(dns_of_two())
}

/// A client's packet to the TCP service.
pub fn request(flags: u8) -> Frame {
    tcp(CLIENT, VIP).flags(flags)
}

/// A client's datagram to the UDP service.
pub fn query() -> Frame {
    udp(CLIENT, UDP_VIP).payload("query")
}

/// Backend 1's answer.
pub fn answer(flags: u8) -> Frame {
    tcp(FIRST, NAT).flags(flags)
}

/// Backend 3's answer.
pub fn reply() -> Frame {
    udp(UDP_FIRST, NAT).payload("a longer reply")
}

/// `frame` goes to backend 1.
pub fn to_first(frame: &Frame) -> Expect {
    forward(1, 1, frame.clone().between(NAT, FIRST).leaving())
}

/// `frame` goes to backend 2.
pub fn to_second(frame: &Frame) -> Expect {
    forward(1, 2, frame.clone().between(NAT, SECOND).leaving())
}

/// `frame` goes to backend 3.
pub fn to_udp_first(frame: &Frame) -> Expect {
    forward(2, 3, frame.clone().between(NAT, UDP_FIRST).leaving())
}

/// `frame` goes to backend 4.
pub fn to_udp_second(frame: &Frame) -> Expect {
    forward(2, 4, frame.clone().between(NAT, UDP_SECOND).leaving())
}

/// Backend 1's `frame` goes to the client.
pub fn to_client(frame: &Frame) -> Expect {
    back(1, 1, frame.clone().between(VIP, CLIENT).leaving())
}

/// Backend 3's `frame` goes to the client.
pub fn to_udp_client(frame: &Frame) -> Expect {
    back(2, 3, frame.clone().between(UDP_VIP, CLIENT).leaving())
}

/// What rows say often.
pub trait Story: Sized {
    /// The client's `frame` goes to backend 1.
    fn goes(self, frame: &Frame) -> Self;
    /// Backend 1's `frame` goes to the client.
    fn comes_back(self, frame: &Frame) -> Self;
    /// The client's SYN goes to backend 1.
    fn opened(self) -> Self;
    /// Client and backend 1 have a connection.
    fn established(self) -> Self;
    /// The client's datagram goes to backend 3.
    fn asked(self) -> Self;
}

impl Story for Row {
    fn goes(self, frame: &Frame) -> Self {
        self.send(frame, to_first(frame))
    }

    fn comes_back(self, frame: &Frame) -> Self {
        self.send(frame, to_client(frame))
    }

    fn opened(self) -> Self {
        self.send(&request(SYN), to_first(&request(SYN)).begins())
    }

    fn established(self) -> Self {
        self.opened().comes_back(&answer(SYN | ACK)).goes(&request(ACK))
    }

    fn asked(self) -> Self {
        self.send(&query(), to_udp_first(&query()).begins())
    }
}
