//! What becomes of flows, old and new, when their backend drains, is disabled, falls ill or goes.

use harness::packets::{ACK, FIN, RST, SYN, tcp};
use harness::world::{Backend, Service, World};
use lb_common::abi::{BACKEND_DISABLED, BACKEND_DRAINING, BACKEND_LEAVING, BACKEND_UNHEALTHY};
use lb_common::reason::{DropReason, PassReason};

use crate::cast::{
    FIRST, NAT, Story, UDP_FIRST, UDP_SECOND, UDP_VIP, VIP, answer, dns, dns_of_two, query, reply, request, to_second,
    to_udp_client, to_udp_first, to_udp_second, web, web_of_two, world, world_of_two,
};
use crate::check::{Expect, Row, check, dropped, pass};

pub fn rows() -> Vec<Row> {
    [draining(), disabled(), unhealthy(), gone(), udp(), none()].into_iter().flatten().collect()
}

#[test]
fn flows_leave_a_backend_only_when_they_must() {
    check(rows());
}

fn row(name: &str) -> Row {
    Row::new(name, world_of_two())
}

/// The world of two, with backends 1 and 3 in that state.
fn with(flags: u32) -> World {
    let (first, udp_first) = (Backend::new(1, FIRST).flags(flags), Backend::new(3, UDP_FIRST).flags(flags));
    World::new().service(web_of_two().backend(first)).service(dns_of_two().backend(udp_first))
}

/// The world of two without backends 1 and 3.
fn without() -> World {
    let tcp = Service::tcp(1, VIP).backend(Backend::new(2, crate::cast::SECOND));
    World::new().service(tcp).service(Service::udp(2, UDP_VIP).backend(Backend::new(4, UDP_SECOND)))
}

/// The client's SYN opens a flow to backend 2.
fn moves(row: Row) -> Row {
    row.send(&request(SYN), to_second(&request(SYN)).begins())
}

fn no_backend() -> Expect {
    dropped(DropReason::NoBackend)
}

fn draining() -> Vec<Row> {
    vec![
        row("a draining backend keeps its connections")
            .established()
            .world(with(BACKEND_DRAINING))
            .goes(&request(ACK))
            .comes_back(&answer(ACK)),
        row("a leaving backend keeps its connections")
            .established()
            .world(with(BACKEND_DRAINING | BACKEND_LEAVING))
            .goes(&request(ACK))
            .comes_back(&answer(ACK)),
        row("a draining backend keeps a handshake").opened().world(with(BACKEND_DRAINING)).goes(&request(SYN)),
        moves(row("a draining backend takes no new connection").world(with(BACKEND_DRAINING))),
        moves(
            row("a closed tuple opens elsewhere when its backend drains")
                .established()
                .goes(&request(FIN | ACK))
                .comes_back(&answer(FIN | ACK))
                .world(with(BACKEND_DRAINING)),
        ),
        moves(
            row("a reset tuple opens elsewhere when its backend drains")
                .established()
                .goes(&request(RST))
                .world(with(BACKEND_DRAINING)),
        ),
        row("back from draining").world(with(BACKEND_DRAINING)).world(world_of_two()).opened(),
    ]
}

fn disabled() -> Vec<Row> {
    let cut = || dropped(DropReason::BackendDisabled);
    vec![
        row("a disabled backend loses its connections")
            .established()
            .world(with(BACKEND_DISABLED))
            .send(&request(ACK), cut())
            .send(&request(FIN | ACK), cut())
            .send(&answer(ACK), cut()),
        moves(row("a SYN moves away from a disabled backend").established().world(with(BACKEND_DISABLED)))
            .send(&answer(ACK), pass(PassReason::NotOurs)),
        moves(row("a handshake moves away from a disabled backend").opened().world(with(BACKEND_DISABLED))),
        row("connections go on when the backend is enabled again")
            .established()
            .world(with(BACKEND_DISABLED))
            .send(&request(ACK), cut())
            .world(world_of_two())
            .goes(&request(ACK)),
    ]
}

fn unhealthy() -> Vec<Row> {
    vec![
        row("an unhealthy backend keeps its connections")
            .established()
            .world(with(BACKEND_UNHEALTHY))
            .goes(&request(ACK))
            .comes_back(&answer(ACK))
            .goes(&request(SYN)),
        moves(row("an unhealthy backend takes no new connection").world(with(BACKEND_UNHEALTHY))),
        moves(row("an unanswered SYN moves away from an unhealthy backend").opened().world(with(BACKEND_UNHEALTHY)))
            .send(&request(ACK), to_second(&request(ACK))),
    ]
}

fn gone() -> Vec<Row> {
    vec![
        row("the backend was removed")
            .established()
            .world(without())
            .send(&request(ACK), dropped(DropReason::BackendGone))
            .send(&request(RST), dropped(DropReason::BackendGone))
            .send(&answer(ACK), pass(PassReason::NotOurs)),
        moves(row("a SYN moves away from a backend that was removed").established().world(without())),
        moves(row("a handshake moves away from a backend that was removed").opened().world(without())),
        row("the backend's id went to another service")
            .established()
            .world(without().service(Service::tcp(3, "192.0.2.3:80").backend(Backend::new(1, FIRST))))
            .send(&request(ACK), dropped(DropReason::BackendGone)),
        row("the service's address went to another service")
            .established()
            .world(World::new().service(Service::tcp(3, VIP).backend(Backend::new(5, FIRST))))
            .send(&request(ACK), dropped(DropReason::BackendGone)),
        row("another backend has its address by now, and its id stays")
            .established()
            .world(World::new().service(web().backend(Backend::new(1, "10.0.0.9:8080"))))
            .send(&answer(ACK), pass(PassReason::NotOurs))
            .send(&tcp("10.0.0.9:8080", NAT).flags(ACK), pass(PassReason::NotOurs)),
    ]
}

fn udp() -> Vec<Row> {
    let moved = |row: Row| row.send(&query(), to_udp_second(&query()).begins()).send(&query(), to_udp_second(&query()));
    vec![
        row("a draining backend keeps its datagrams")
            .asked()
            .world(with(BACKEND_DRAINING))
            .send(&query(), to_udp_first(&query()))
            .send(&reply(), to_udp_client(&reply())),
        moved(row("new datagrams avoid a draining backend").world(with(BACKEND_DRAINING))),
        moved(row("datagrams move away from a disabled backend").asked().world(with(BACKEND_DISABLED))),
        row("a disabled backend's datagrams")
            .asked()
            .world(with(BACKEND_DISABLED))
            .send(&reply(), dropped(DropReason::BackendDisabled)),
        moved(row("datagrams move away from an unhealthy backend").asked().world(with(BACKEND_UNHEALTHY))),
        row("an unhealthy backend's datagrams still arrive")
            .asked()
            .world(with(BACKEND_UNHEALTHY))
            .send(&reply(), to_udp_client(&reply())),
        moved(row("datagrams move away from a backend that was removed").asked().world(without())),
        row("datagrams have nowhere to move")
            .asked()
            .world(World::new().service(dns().backend(Backend::new(3, UDP_FIRST).flags(BACKEND_UNHEALTHY))))
            .send(&query(), no_backend()),
    ]
}

fn none() -> Vec<Row> {
    let lone = |flags: u32| World::new().service(web().backend(Backend::new(1, FIRST).flags(flags)));
    let all_refuse = |name: &str, flags: u32| Row::new(name, lone(flags)).send(&request(SYN), no_backend());
    vec![
        Row::new("a service without backends", World::new().service(Service::tcp(1, VIP)))
            .send(&request(SYN), no_backend())
            .send(&request(ACK), dropped(DropReason::NoSession)),
        Row::new("a UDP service without backends", World::new().service(Service::udp(2, UDP_VIP)))
            .send(&query(), no_backend()),
        all_refuse("every backend drains", BACKEND_DRAINING),
        all_refuse("every backend is disabled", BACKEND_DISABLED),
        all_refuse("every backend is unhealthy", BACKEND_UNHEALTHY),
        all_refuse("every backend leaves", BACKEND_LEAVING),
        Row::new("the last backend drains, and its connection goes on", world())
            .established()
            .world(lone(BACKEND_DRAINING))
            .goes(&request(ACK))
            .send(&tcp("198.51.100.7:50124", VIP).flags(SYN), no_backend()),
        Row::new("a SYN on a closed tuple with nowhere to go", world())
            .established()
            .goes(&request(RST))
            .world(lone(BACKEND_DRAINING))
            .send(&request(SYN), no_backend()),
    ]
}
