//! Services whose backends see the clients' own addresses.

use harness::packets::{ACK, FIN, Frame, RST, SYN, tcp, udp};
use harness::world::{Backend, REUSE, Service, World};
use lb_common::abi::BACKEND_DISABLED;
use lb_common::reason::{DropReason, PassReason};

use crate::cast::{
    CLIENT, FIRST, Story, UDP_FIRST, UDP_VIP, VIP, dns, query, request, to_udp_client, to_udp_first, web,
};
use crate::check::{Expect, Row, back, check, dropped, forward, pass};

pub fn rows() -> Vec<Row> {
    vec![
        Row::new("TCP", world())
            .send(&request(SYN), to_first(&request(SYN)).begins())
            .send(&answer(SYN | ACK), to_client(&answer(SYN | ACK)))
            .send(&request(ACK).payload("odd"), to_first(&request(ACK).payload("odd")))
            .send(&answer(FIN | ACK), to_client(&answer(FIN | ACK))),
        Row::new("UDP", world())
            .send(&query(), forward(2, 3, query().between(CLIENT, UDP_FIRST).leaving()).begins())
            .send(&udp(UDP_FIRST, CLIENT), back(2, 3, udp(UDP_VIP, CLIENT).leaving())),
        Row::new("many clients need no port of ours", world())
            .send(&other(SYN), forward(1, 1, other(SYN).between("198.51.100.8:50123", FIRST).leaving()).begins())
            .send(&request(SYN), to_first(&request(SYN)).begins()),
        Row::new("what backends say to others is theirs", world())
            .send(&request(SYN), to_first(&request(SYN)).begins())
            .send(&tcp(FIRST, "198.51.100.8:50123").flags(ACK), pass(PassReason::NotOurs))
            .send(&tcp("10.0.0.9:8080", CLIENT).flags(ACK), pass(PassReason::NotOurs))
            .send(&udp(FIRST, CLIENT), pass(PassReason::NotOurs)),
        Row::new("beside a service that does not", World::new().service(web().preserve()).service(dns()))
            .send(&request(SYN), to_first(&request(SYN)).begins())
            .asked()
            .send(&answer(SYN | ACK), to_client(&answer(SYN | ACK)))
            .send(&crate::cast::reply(), to_udp_client(&crate::cast::reply()))
            .send(&query(), to_udp_first(&query())),
        Row::new("two services, one backend, one client's port", two_vips())
            .send(&request(SYN), to_first(&request(SYN)).begins())
            .send(&to_other_vip(SYN), dropped(DropReason::PortsExhausted))
            .send(&answer(SYN | ACK), to_client(&answer(SYN | ACK))),
        Row::new("two services, one backend, one client's port, used again after a while", two_vips())
            .send(&request(SYN), to_first(&request(SYN)).begins())
            .send(&request(RST), to_first(&request(RST)))
            .clock(1_000 + REUSE)
            .send(&to_other_vip(SYN), forward(3, 5, to_other_vip(SYN).between(CLIENT, FIRST).leaving()).begins())
            .send(&answer(SYN | ACK), back(3, 5, tcp("192.0.2.3:80", CLIENT).flags(SYN | ACK).leaving())),
        Row::new("a disabled backend", world())
            .send(&request(SYN), to_first(&request(SYN)).begins())
            .world(World::new().service(web().backend(Backend::new(1, FIRST).flags(BACKEND_DISABLED)).preserve()))
            .send(&answer(ACK), dropped(DropReason::BackendDisabled))
            .send(&request(ACK), dropped(DropReason::BackendDisabled)),
    ]
}

#[test]
fn preserved_addresses_stay() {
    check(rows());
}

fn world() -> World {
    World::new().service(web().preserve()).service(dns().preserve())
}

/// Two services with one backend machine.
fn two_vips() -> World {
    let other = Service::tcp(3, "192.0.2.3:80").backend(Backend::new(5, FIRST));
    World::new().service(web().preserve()).service(other.preserve())
}

fn to_other_vip(flags: u8) -> Frame {
    tcp(CLIENT, "192.0.2.3:80").flags(flags)
}

fn other(flags: u8) -> Frame {
    tcp("198.51.100.8:50123", VIP).flags(flags)
}

fn answer(flags: u8) -> Frame {
    tcp(FIRST, CLIENT).flags(flags)
}

fn to_first(frame: &Frame) -> Expect {
    forward(1, 1, frame.clone().between(CLIENT, FIRST).leaving())
}

fn to_client(frame: &Frame) -> Expect {
    back(1, 1, frame.clone().between(VIP, CLIENT).leaving())
}
