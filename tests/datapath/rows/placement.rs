//! Which backend a new flow gets: each policy, and what happens when its first choice takes none.

use harness::packets::{ACK, Frame, SYN, tcp};
use harness::world::{Backend, Service, World, hash_key};
use lb_common::abi::{BACKEND_DISABLED, BACKEND_DRAINING, BACKEND_UNHEALTHY, Policy};
use lb_common::addr::{Port, Protocol};
use lb_common::hash::FlowKey;
use lb_common::limits::{PLACE_TRIES, SLOTS};
use lb_common::reason::DropReason;

use crate::cast::VIP;
use crate::check::{Expect, Row, check, dropped, forward};

pub fn rows() -> Vec<Row> {
    [round_robin(), maglev(), random()].into_iter().flatten().collect()
}

#[test]
fn new_flows_are_placed_by_policy() {
    check(rows());
}

const AT: [&str; 4] = ["", "10.0.0.2:8080", "10.0.0.3:8080", "10.0.0.4:8080"];

/// A world with room for many flows to one backend.
fn world(service: Service) -> World {
    World::new().nat_ports(20_000, 30_000).service(service)
}

/// Backends 1, 2, 3 with such weights and flags.
fn members(service: Service, members: [(u16, u32); 3]) -> Service {
    (1u16..).zip(members).fold(service, |service, (id, (weight, flags))| {
        service.backend(Backend::new(id, AT[usize::from(id)]).weight(weight).flags(flags))
    })
}

/// The `number`th client.
fn client(number: u16) -> Frame {
    tcp(&format!("198.51.100.9:{}", 1_024 + number), VIP).flags(SYN)
}

fn reaches(service: u16, backend: u16, frame: &Frame) -> Expect {
    let leaving = frame.clone().between("10.0.0.1:1", AT[usize::from(backend)]).leaving();
    forward(service, backend, leaving).any_port()
}

fn lands(frame: &Frame, backend: u16) -> Expect {
    reaches(1, backend, frame).begins()
}

/// Clients 0, 1, 2, ... get these backends of service 1.
fn sequence(row: Row, backends: &[u16]) -> Row {
    turns(row, 1, backends)
}

/// Clients 0, 1, 2, ... get these backends.
fn turns(row: Row, service: u16, backends: &[u16]) -> Row {
    (0..).zip(backends).fold(row, |row, (number, backend)| {
        row.send(&client(number), reaches(service, *backend, &client(number)).begins())
    })
}

/// A cursor starts at 0 once and never again, so each row has a service of its own.
fn round_robin() -> Vec<Row> {
    let with = |id, weights| members(Service::tcp(id, VIP).policy(Policy::RoundRobin), weights);
    let three = [(1, 0), (1, 0), (1, 0)];
    let row = |name: &str, service| Row::new(name, world(service));
    let (first, second) = (client(0), client(1));
    let tries = usize::try_from(PLACE_TRIES).expect("a few");
    let barren: Vec<u16> = std::iter::repeat_n(2, tries).chain([3]).collect();
    vec![
        turns(row("equal weights take turns", with(5, three)), 5, &[1, 2, 3, 1, 2, 3, 1, 2, 3, 1]),
        turns(
            row("weights 5, 1 and 1 interleave", with(6, [(5, 0), (1, 0), (1, 0)])),
            6,
            &[1, 1, 2, 1, 1, 3, 1, 1, 1, 2, 1, 1, 3, 1],
        ),
        turns(row("weight 0 takes no turn", with(7, [(1, 0), (0, 0), (1, 0)])), 7, &[1, 3, 1, 3]),
        turns(row("a draining one takes no turn", with(8, [(1, 0), (1, BACKEND_DRAINING), (1, 0)])), 8, &[1, 3, 1]),
        turns(
            row("an entry that takes no flow is passed over", {
                with(9, [(1, 0), (1, BACKEND_UNHEALTHY), (1, 0)]).ring(&[1, 2, 3])
            }),
            9,
            &[1, 3, 1, 3],
        ),
        row("a turn is a flow's, not a packet's", with(10, three))
            .send(&first, reaches(10, 1, &first).begins())
            .send(&first, reaches(10, 1, &first))
            .send(&first, reaches(10, 1, &first))
            .send(&second, reaches(10, 2, &second).begins()),
        row("after enough entries that take no flow the packet is dropped, and the next goes on from there", {
            with(11, [(1, 0), (1, BACKEND_DISABLED), (1, 0)]).ring(&barren)
        })
        .send(&first, dropped(DropReason::NoBackend))
        .send(&first, reaches(11, 3, &first).begins()),
    ]
}

/// The backend in the slot of `number`th client's flow.
fn slot_of(world: &World, number: u16) -> u16 {
    let flow = FlowKey {
        source: std::net::Ipv4Addr::new(198, 51, 100, 9).into(),
        destination: std::net::Ipv4Addr::new(192, 0, 2, 1).into(),
        source_port: Port::new(1_024 + number),
        destination_port: Port::new(80),
        protocol: Protocol::Tcp,
    };
    world.image().tables[&1][flow.hash(&hash_key()).slot(SLOTS) as usize]
}

fn maglev() -> Vec<Row> {
    let table = |weights| members(Service::tcp(1, VIP), weights);
    let three = world(table([(1, 0), (1, 0), (1, 0)]));
    let by_slot: Vec<u16> = (0..20).map(|number| slot_of(&three, number)).collect();
    assert!((1..=3).all(|id| by_slot.contains(&id)), "twenty clients and not three backends: {by_slot:?}");
    let again = by_slot[0];
    vec![
        sequence(Row::new("each flow has its slot", three.clone()), &by_slot),
        Row::new("a flow that opens anew finds the same backend", three.clone())
            .send(&client(0), lands(&client(0), again))
            .clock(100_000)
            .send(&client(0), lands(&client(0), again)),
        sequence(
            Row::new("the slot's backend is ill: the ring is asked", {
                world(table([(1, BACKEND_UNHEALTHY), (1, 0), (0, 0)]).primary(1))
            }),
            &[2, 2, 2],
        ),
        sequence(
            Row::new("the slot's backend drains, and so does the ring's first for a moment", {
                world(table([(1, BACKEND_DRAINING), (1, 0), (1, 0)]).primary(1).ring(&[1, 3]))
            }),
            &[3, 3, 3, 3],
        ),
        Row::new("nobody in table or ring takes flows", {
            world(table([(1, BACKEND_DRAINING), (1, BACKEND_DISABLED), (0, 0)]).primary(1).ring(&[1, 2]))
        })
        .send(&client(0), dropped(DropReason::NoBackend)),
        sequence(
            Row::new("weights 1 and 0", world(table([(1, 0), (0, BACKEND_DRAINING), (0, BACKEND_DRAINING)]))),
            &[1, 1, 1],
        ),
    ]
}

fn random() -> Vec<Row> {
    let dice = |weights| members(Service::tcp(1, VIP).policy(Policy::Random), weights);
    let three = world(dice([(1, 0), (1, 0), (1, 0)]));
    let table = three.image().tables[&1].clone();
    let throws = [0u32, 1 << 30, 0x5555_5555, 1 << 31, 0xc000_0000, u32::MAX, 0x1234_5678];
    let drawn = (0..).zip(throws).fold(Row::new("the dice choose the slot", three), |row, (number, throw)| {
        let slot = (u64::from(throw) * u64::from(SLOTS)) >> 32;
        let backend = table[usize::try_from(slot).expect("below the number of slots")];
        row.dice(throw).send(&client(number), lands(&client(number), backend))
    });
    let same_flow = client(0);
    let ack = same_flow.clone().flags(ACK);
    let stays = reaches(1, table[0], &ack);
    vec![
        drawn,
        Row::new("the dice are thrown once for a flow", world(dice([(1, 0), (1, 0), (1, 0)])))
            .send(&same_flow, lands(&same_flow, table[0]))
            .dice(1 << 31)
            .send(&ack, stays.clone())
            .dice(u32::MAX)
            .send(&ack, stays),
        sequence(
            Row::new("the slot that the dice chose takes no flow: the ring is asked", {
                world(dice([(1, BACKEND_UNHEALTHY), (1, 0), (0, 0)]).primary(1))
            }),
            &[2, 2],
        ),
    ]
}
