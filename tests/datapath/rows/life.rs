//! A session's life: opening, closing, reset, expiry, and the tuple used again.

use harness::packets::{ACK, FIN, Frame, RST, SYN};
use harness::world::timeout;
use lb_common::reason::{DropReason, PassReason};
use lb_common::session::Phase;

use crate::cast::{Story, answer, query, reply, request, to_client, to_first, to_udp_client, to_udp_first, world};
use crate::check::{Row, check, dropped, pass};

pub fn rows() -> Vec<Row> {
    [endings(), reuse(), expiry(), clocks()].into_iter().flatten().collect()
}

#[test]
fn sessions_live_and_die_by_what_both_sides_say() {
    check(rows());
}

const BEGIN: u32 = 1_000;

fn row(name: &str) -> Row {
    Row::new(name, world())
}

fn closed(row: Row) -> Row {
    row.established().goes(&request(FIN | ACK)).comes_back(&answer(FIN | ACK)).goes(&request(ACK))
}

fn endings() -> Vec<Row> {
    vec![
        closed(row("both say goodbye, the client first")),
        row("the backend says goodbye first")
            .established()
            .comes_back(&answer(FIN | ACK))
            .goes(&request(ACK).payload("more"))
            .goes(&request(FIN | ACK))
            .comes_back(&answer(ACK)),
        row("data after the client's FIN")
            .established()
            .goes(&request(FIN | ACK))
            .comes_back(&answer(ACK).payload("rest")),
        closed(row("FINs are repeated")).goes(&request(FIN | ACK)).comes_back(&answer(FIN | ACK)),
        row("the client resets").established().goes(&request(RST)).comes_back(&answer(ACK)),
        row("the backend resets").established().comes_back(&answer(RST)).goes(&request(ACK)),
        row("a SYN in the middle reaches the backend, which answers for itself")
            .established()
            .goes(&request(SYN))
            .comes_back(&answer(ACK)),
    ]
}

fn reuse() -> Vec<Row> {
    vec![
        closed(row("a SYN on a closed tuple keeps its backend and port"))
            .goes(&request(SYN))
            .comes_back(&answer(SYN | ACK))
            .goes(&request(ACK)),
        row("a SYN on a reset tuple keeps its backend and port")
            .established()
            .goes(&request(RST))
            .goes(&request(SYN))
            .comes_back(&answer(SYN | ACK)),
        closed(row("a SYN on a closed tuple begins to expire as a SYN"))
            .goes(&request(SYN))
            .clock(BEGIN + timeout(Phase::HalfOpen) + 1)
            .opened(),
        row("once expired the tuple begins anew").established().clock(BEGIN + timeout(Phase::Established) + 1).opened(),
        row("a reset that nobody believed does not shorten the session")
            .established()
            .comes_back(&answer(RST))
            .comes_back(&answer(ACK))
            .clock(BEGIN + timeout(Phase::Reset) + 1)
            .goes(&request(ACK)),
    ]
}

type Way = fn(Row) -> Row;

/// A session that has come into a phase is there for exactly as long as the phase lasts.
fn expiry() -> Vec<Row> {
    let fin = FIN | ACK;
    let tcp: [(Phase, Way); 6] = [
        (Phase::HalfOpen, Story::opened),
        (Phase::Established, Story::established),
        (Phase::ClientClosed, |row| row.established().goes(&request(FIN | ACK))),
        (Phase::BackendClosed, |row| row.established().comes_back(&answer(FIN | ACK))),
        (Phase::Closing, |row| row.established().comes_back(&answer(FIN | ACK)).goes(&request(FIN | ACK))),
        (Phase::Reset, |row| row.established().goes(&request(RST | ACK))),
    ];
    let mut rows = Vec::new();
    for (phase, story) in tcp {
        let last = BEGIN + timeout(phase);
        let (client, backend) = (request(fin), answer(fin));
        let alive = |name: &str| story(row(&format!("{phase:?} {name}"))).clock(last);
        let dead = |name: &str| story(row(&format!("{phase:?} {name}"))).clock(last + 1);
        rows.push(alive("lasts to its last tick for the client").send(&client, to_first(&client)));
        rows.push(alive("lasts to its last tick for the backend").send(&backend, to_client(&backend)));
        rows.push(dead("is over a tick later for the client").send(&client, dropped(DropReason::NoSession)));
        rows.push(dead("is over a tick later for the backend").send(&backend, pass(PassReason::NotOurs)));
    }
    let udp: [(Phase, Way); 2] = [
        (Phase::UdpOneWay, Story::asked),
        (Phase::UdpBothWays, |row| row.asked().send(&reply(), to_udp_client(&reply()))),
    ];
    for (phase, story) in udp {
        let last = BEGIN + timeout(phase);
        let at = |name: &str, now: u32| story(row(&format!("{phase:?} {name}"))).clock(now);
        let (client, backend): (Frame, Frame) = (query(), reply());
        rows.push(at("lasts to its last tick for the client", last).send(&client, to_udp_first(&client)));
        rows.push(at("lasts to its last tick for the backend", last).send(&backend, to_udp_client(&backend)));
        rows.push(at("is over a tick later for the client", last + 1).asked());
        rows.push(at("is over a tick later for the backend", last + 1).send(&backend, pass(PassReason::NotOurs)));
    }
    rows
}

fn clocks() -> Vec<Row> {
    let long = timeout(Phase::Established);
    vec![
        row("each packet renews a session")
            .established()
            .clock(BEGIN + long)
            .goes(&request(ACK))
            .clock(BEGIN + 2 * long)
            .comes_back(&answer(ACK))
            .clock(BEGIN + 3 * long)
            .goes(&request(ACK)),
        closed(row("packets do not renew a closed session"))
            .clock(BEGIN + timeout(Phase::Closing))
            .goes(&request(ACK))
            .clock(BEGIN + timeout(Phase::Closing) + 1)
            .send(&request(ACK), dropped(DropReason::NoSession)),
        row("ticks wrap")
            .clock(u32::MAX - 2)
            .established()
            .clock(long - 3)
            .goes(&request(ACK))
            .clock(2 * long - 2)
            .send(&request(ACK), dropped(DropReason::NoSession)),
        row("another CPU's clock is a tick behind")
            .established()
            .clock(BEGIN - 1)
            .goes(&request(ACK))
            .comes_back(&answer(ACK)),
    ]
}
