//! Checksums: right ones stay right, wrong ones stay as wrong, and zero means what RFC 768 says.

use harness::packets::{ACK, Frame, PSH, SYN, TRANSPORT};

use crate::cast::{Story, answer, query, reply, request, to_client, to_first, to_udp_client, to_udp_first, world};
use crate::check::{Row, check};

pub fn rows() -> Vec<Row> {
    [udp(), tcp(), lengths()].into_iter().flatten().collect()
}

#[test]
fn checksums_change_by_what_was_rewritten() {
    check(rows());
}

fn row(name: &str) -> Row {
    Row::new(name, world())
}

fn field(frame: &Frame, at: usize) -> [u8; 2] {
    let bytes = frame.bytes();
    [bytes[TRANSPORT + at], bytes[TRANSPORT + at + 1]]
}

/// The frame with two bytes of payload that make `is_right` true of it.
fn search(frame: &Frame, is_right: impl Fn(&Frame) -> bool) -> Frame {
    let mut frames = (0..=u16::MAX).map(|payload| frame.clone().payload(payload.to_be_bytes()));
    frames.find(is_right).expect("16 bits of payload make any sum")
}

const UDP: usize = 6;
const TCP: usize = 16;

fn udp() -> Vec<Row> {
    let (without, without_back) = (query().no_checksum(), reply().no_checksum());
    let becomes_zero = search(&query(), |frame| {
        let leaving = frame.clone().between(crate::cast::NAT, crate::cast::UDP_FIRST).leaving();
        field(&leaving, UDP) == [0xff, 0xff]
    });
    let was_zero = search(&query(), |frame| field(frame, UDP) == [0xff, 0xff]);
    let back_zero = search(&reply(), |frame| {
        let leaving = frame.clone().between(crate::cast::UDP_VIP, crate::cast::CLIENT).leaving();
        field(&leaving, UDP) == [0xff, 0xff]
    });
    let begins = |row: Row, frame: &Frame| row.send(frame, to_udp_first(frame).begins());
    vec![
        begins(row("UDP without a checksum stays without"), &without).send(&without_back, to_udp_client(&without_back)),
        begins(row("a UDP checksum that becomes zero is sent as all ones"), &becomes_zero),
        row("so is one on the way back").asked().send(&back_zero, to_udp_client(&back_zero)),
        begins(row("a UDP checksum of all ones is a zero"), &was_zero),
    ]
}

fn tcp() -> Vec<Row> {
    let data = request(PSH | ACK);
    let becomes_zero = search(&data, |frame| {
        let leaving = frame.clone().between(crate::cast::NAT, crate::cast::FIRST).leaving();
        field(&leaving, TCP) == [0, 0]
    });
    let was_zero = search(&data, |frame| field(frame, TCP) == [0, 0]);
    let back_zero = search(&answer(PSH | ACK), |frame| {
        let leaving = frame.clone().between(crate::cast::VIP, crate::cast::CLIENT).leaving();
        field(&leaving, TCP) == [0, 0]
    });
    vec![
        row("a TCP checksum that becomes zero is sent as zero").established().goes(&becomes_zero),
        row("a TCP checksum of zero is a checksum").established().goes(&was_zero),
        row("a TCP checksum that becomes zero on the way back").established().comes_back(&back_zero),
    ]
}

fn lengths() -> Vec<Row> {
    let mut rows = Vec::new();
    for length in [1usize, 2, 3, 7, 255, 1_459, 1_460] {
        let (data, page) = (request(ACK).payload(vec![0x5a; length]), answer(ACK).payload(vec![0xc3; length]));
        let (ask, tell) = (query().payload(vec![0xff; length]), reply().payload(vec![0; length]));
        rows.push(
            row(&format!("{length} bytes of payload, each way, TCP and UDP"))
                .established()
                .goes(&data)
                .comes_back(&page)
                .send(&ask, to_udp_first(&ask).begins())
                .send(&tell, to_udp_client(&tell)),
        );
    }
    for difference in [1u16, 0x100, 0x7fff, 0xfffe] {
        let (syn, back) = (request(SYN).checksum_off_by(difference), answer(SYN | ACK).checksum_off_by(difference));
        let ask = query().checksum_off_by(difference);
        rows.push(
            row(&format!("a checksum that is wrong by {difference} stays so"))
                .send(&syn, to_first(&syn).begins())
                .send(&back, to_client(&back))
                .send(&ask, to_udp_first(&ask).begins()),
        );
    }
    rows
}
