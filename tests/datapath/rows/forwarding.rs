//! Both directions of TCP and UDP: the whole frame that leaves, byte for byte.

use harness::packets::{ACK, FIN, Frame, PSH, RST, SYN, tcp};
use harness::world::{Backend, World, timeout};
use lb_common::reason::{DropReason, PassReason};
use lb_common::session::Phase;

use crate::cast::{
    FIRST, NAT, Story, VIP, answer, dns, query, reply, request, to_client, to_first, to_udp_client, to_udp_first, web,
    world,
};
use crate::check::{Row, back, check, dropped, forward, pass};

pub fn rows() -> Vec<Row> {
    [tcp_rows(), udp_rows(), no_session(), hops()].into_iter().flatten().collect()
}

#[test]
fn frames_go_to_the_backend_and_back() {
    check(rows());
}

fn row(name: &str) -> Row {
    Row::new(name, world())
}

fn tcp_rows() -> Vec<Row> {
    let opening = |name: &str, frame: Frame| {
        let to_backend = to_first(&frame).begins();
        row(name).send(&frame, to_backend)
    };
    let (get, page) = (request(PSH | ACK).payload("GET /"), answer(PSH | ACK).payload(vec![b'x'; 1_400]));
    vec![
        row("a SYN").opened(),
        row("a SYN that is repeated is the same flow").opened().goes(&request(SYN)).goes(&request(SYN)),
        row("a handshake").established(),
        row("a request and its answer").established().goes(&get).comes_back(&page).goes(&request(ACK)),
        row("many packets each way").established().goes(&get).goes(&get).comes_back(&page).comes_back(&page).goes(&get),
        row("the backend's SYN-ACK is repeated").opened().comes_back(&answer(SYN | ACK)).comes_back(&answer(SYN | ACK)),
        row("a refusal").opened().comes_back(&answer(RST | ACK)),
        row("flags that no one opens with, within a connection")
            .established()
            .goes(&request(0))
            .goes(&request(SYN | FIN)),
        opening("a SYN with data", request(SYN).payload("fast open")),
        opening("a SYN with the options that clients send", {
            request(SYN).tcp_options(&[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7])
        }),
        opening("a SYN that negotiates ECN", request(SYN | 0xc0)),
        opening("don't fragment is no fragment", request(SYN).fragment(0x4000)),
        opening("neither is the reserved bit", request(SYN).fragment(0x8000)),
        row("the lowest and the highest ports")
            .send(&tcp("198.51.100.7:0", VIP).flags(SYN), forward(1, 1, tcp(NAT, FIRST).flags(SYN).leaving()).begins()),
        Row::new("NAT port 65,535", World::new().nat_ports(65_535, 1).service(web()))
            .send(&request(SYN), forward(1, 1, request(SYN).between("10.0.0.1:65535", FIRST).leaving()).begins())
            .send(&tcp(FIRST, "10.0.0.1:65535").flags(SYN | ACK), to_client(&answer(SYN | ACK))),
    ]
}

fn udp_rows() -> Vec<Row> {
    vec![
        row("a datagram").asked(),
        row("a datagram and its reply").asked().send(&reply(), to_udp_client(&reply())),
        row("a second datagram is the same flow").asked().send(&query(), to_udp_first(&query())),
        row("several replies").asked().send(&reply(), to_udp_client(&reply())).send(&reply(), to_udp_client(&reply())),
        row("TCP and UDP of one client do not meet")
            .opened()
            .asked()
            .comes_back(&answer(SYN | ACK))
            .send(&reply(), to_udp_client(&reply())),
    ]
}

fn no_session() -> Vec<Row> {
    let none = || dropped(DropReason::NoSession);
    let kinds = [
        ("an ACK", ACK),
        ("data", PSH | ACK),
        ("a FIN", FIN | ACK),
        ("a RST", RST),
        ("a SYN-ACK", SYN | ACK),
        ("SYN and FIN", SYN | FIN),
        ("SYN and RST", SYN | RST),
        ("no flag at all", 0),
        ("every flag", 0xff),
    ];
    let mut rows: Vec<Row> = kinds
        .into_iter()
        .map(|(name, flags)| row(&format!("{name} out of nowhere")).send(&request(flags), none()).opened())
        .collect();
    rows.push(
        row("another client's port has no session")
            .established()
            .send(&tcp("198.51.100.7:50124", VIP).flags(ACK), none()),
    );
    rows.push(
        row("another client has no session").established().send(&tcp("198.51.100.8:50123", VIP).flags(ACK), none()),
    );
    rows
}

fn hops() -> Vec<Row> {
    let router = [2, 7, 7, 7, 7, 7];
    let moved = |frame: Frame| frame.macs(router, harness::packets::BALANCER_MAC);
    let back_through_router =
        answer(ACK).between(VIP, crate::cast::CLIENT).leaving().macs(harness::packets::BALANCER_MAC, router);
    let elsewhere =
        |name: &str| Row::new(name, World::new().device(2, [2, 0, 0, 0, 0, 2]).service(web()).service(dns()));
    let far = |service: harness::world::Service| World::new().device(2, [2, 0, 0, 0, 0, 2]).service(service);
    let other_interface = || dropped(DropReason::OtherInterface);
    let unknown = || dropped(DropReason::NextHopUnknown);
    vec![
        row("answers follow the client's last hop")
            .established()
            .send(&moved(request(ACK)), to_first(&request(ACK)))
            .send(&answer(ACK), back(1, 1, back_through_router)),
        elsewhere("a backend behind another interface")
            .world(far(web().backend(Backend::new(1, FIRST).through(2))))
            .send(&request(SYN), other_interface())
            .send(&request(SYN), other_interface()),
        elsewhere("a backend that moves behind another interface")
            .established()
            .world(far(web().backend(Backend::new(1, FIRST).through(2))))
            .send(&request(ACK), other_interface())
            .comes_back(&answer(ACK)),
        row("a backend whose MAC is not known takes no new flow")
            .world(World::new().service(web().backend(Backend::new(1, FIRST).without_hop())))
            .send(&request(SYN), dropped(DropReason::NoBackend)),
        row("a backend whose MAC is not known any more")
            .established()
            .world(World::new().service(web().backend(Backend::new(1, FIRST).without_hop())))
            .send(&request(ACK), unknown())
            .send(&request(SYN), unknown())
            .comes_back(&answer(ACK)),
        row("a UDP backend whose MAC is not known any more")
            .asked()
            .world(World::new().service(dns().backend(Backend::new(3, crate::cast::UDP_FIRST).without_hop())))
            .send(&query(), unknown()),
        row("what the other side sends to a connection that is over is not ours")
            .established()
            .clock(1_000 + timeout(Phase::Established) + 1)
            .send(&answer(ACK), pass(PassReason::NotOurs)),
    ]
}
