//! At the limits: no room for another session, no port towards the backend.

use harness::packets::{ACK, FIN, Frame, RST, SYN, tcp, udp};
use harness::world::{REUSE, Service, World, timeout};
use lb_common::reason::{DropReason, PassReason};
use lb_common::session::Phase;

use crate::cast::{FIRST, NAT, Story, UDP_FIRST, UDP_VIP, VIP, answer, dns, request, to_first, web, web_of_two, world};
use crate::check::{Expect, Row, check, dropped, forward, pass};

pub fn rows() -> Vec<Row> {
    [sessions(), ports()].into_iter().flatten().collect()
}

#[test]
fn limits_refuse_new_flows_and_leave_old_ones_alone() {
    check(rows());
}

const BEGIN: u32 = 1_000;

/// Room for one bucket of sessions, and more ports than that.
fn narrow() -> World {
    World::new().sessions(8).nat_ports(10_000, 20_000).service(web()).service(dns())
}

fn query(number: u16) -> Frame {
    udp(&format!("198.51.100.7:{}", 50_000 + number), UDP_VIP)
}

fn asks(frame: &Frame) -> Expect {
    forward(2, 3, frame.clone().between("10.0.0.1:1", UDP_FIRST).leaving()).any_port()
}

fn filled(name: &str) -> Row {
    (0..8).fold(Row::new(name, narrow()), |row, number| row.send(&query(number), asks(&query(number)).begins()))
}

fn sessions() -> Vec<Row> {
    let full = || dropped(DropReason::SessionsFull);
    let last = BEGIN + timeout(Phase::UdpOneWay);
    vec![
        filled("one flow more than there is room for")
            .send(&query(8), full())
            .send(&request(SYN), full())
            .send(&query(0), asks(&query(0)))
            .send(&query(7), asks(&query(7))),
        filled("room is there again once sessions are dead, without anybody's sweep")
            .clock(last)
            .send(&query(8), full())
            .clock(last + 1)
            .send(&query(8), asks(&query(8)).begins())
            .send(&query(0), asks(&query(0)).begins())
            .send(
                &request(SYN),
                forward(1, 1, request(SYN).between("10.0.0.1:1", FIRST).leaving()).any_port().begins(),
            ),
        filled("what has no session is refused for that, full or not")
            .send(&request(ACK), dropped(DropReason::NoSession))
            .send(&tcp(FIRST, "10.0.0.1:10001").flags(ACK), pass(PassReason::NotOurs)),
    ]
}

fn second(flags: u8) -> Frame {
    tcp("198.51.100.8:50123", VIP).flags(flags)
}

fn ports() -> Vec<Row> {
    let exhausted = || dropped(DropReason::PortsExhausted);
    let closed = |name: &str| {
        let row = Row::new(name, world()).established();
        row.goes(&request(FIN | ACK)).comes_back(&answer(FIN | ACK)).goes(&request(ACK))
    };
    let second_opens = |row: Row| row.send(&second(SYN), to_first(&second(SYN)).begins());
    let second_answered = answer(SYN | ACK).between(VIP, "198.51.100.8:50123").leaving();
    let end = timeout(Phase::Established);
    vec![
        Row::new("one flow more than there are ports", world())
            .opened()
            .send(&second(SYN), exhausted())
            .send(&second(ACK), dropped(DropReason::NoSession))
            .goes(&request(ACK)),
        Row::new("one UDP flow more than there are ports", world())
            .asked()
            .send(&udp("198.51.100.8:1", UDP_VIP), exhausted()),
        Row::new("the port is free towards another backend", World::new().service(web_of_two()))
            .opened()
            .world(World::new().service(web_of_two().primary(2)))
            .send(&second(SYN), crate::cast::to_second(&second(SYN)).begins()),
        closed("a closed session's port is not taken at once").clock(BEGIN + REUSE - 1).send(&second(SYN), exhausted()),
        second_opens(closed("a closed session's port is taken in need").clock(BEGIN + REUSE))
            .send(&answer(SYN | ACK), crate::check::back(1, 1, second_answered.clone()))
            .send(&request(ACK), dropped(DropReason::NoSession)),
        second_opens(Row::new("so is a reset one's", world()).established().goes(&request(RST)).clock(BEGIN + REUSE)),
        Row::new("a half-closed session keeps its port", world())
            .established()
            .goes(&request(FIN | ACK))
            .clock(BEGIN + REUSE)
            .send(&second(SYN), exhausted()),
        second_opens(Row::new("a dead session's port is free", world()).established().clock(BEGIN + end + 1))
            .send(&answer(SYN | ACK), crate::check::back(1, 1, second_answered)),
        Row::new("no NAT port at all while every service preserves, and none is needed", {
            World::new()
                .nat_ports(40_000, 0)
                .service(Service::tcp(1, VIP).backend(harness::world::Backend::new(1, FIRST)).preserve())
        })
        .send(&request(SYN), forward(1, 1, request(SYN).between(crate::cast::CLIENT, FIRST).leaving()).begins())
        .send(&tcp(FIRST, NAT).flags(ACK), pass(PassReason::NotOurs)),
    ]
}
