//! Frames that are ours and too short, or whose headers contradict each other, are dropped and leave no trace.

use harness::packets::{ACK, FIN, Frame, SYN};
use lb_common::reason::{DropReason, PassReason};

use crate::cast::{Story, answer, query, reply, request, to_client, to_first, to_udp_client, to_udp_first, world};
use crate::check::{Expect, Row, check, dropped, pass};

pub fn rows() -> Vec<Row> {
    [lies(), harmless(), too_old(), truncated()].into_iter().flatten().collect()
}

#[test]
fn lengths_are_believed_only_as_far_as_they_agree() {
    check(rows());
}

fn bad() -> Expect {
    dropped(DropReason::BadLength)
}

fn lies() -> Vec<Row> {
    let row = |name: &str, frame: Frame| {
        // The flow opens afterwards as if nothing had been.
        Row::new(name, world()).send(&frame, bad()).opened().asked()
    };
    let length = 40 + 4;
    let syn = || request(SYN).payload("data");
    let returned = |name: &str, frame: Frame| Row::new(name, world()).established().asked().send(&frame, bad());
    vec![
        row("total length 0", syn().total_length(0)),
        row("total length of the IP header alone", syn().total_length(20)),
        row("total length one short of the TCP header", syn().total_length(39)),
        row("total length one beyond the frame", syn().total_length(length + 1)),
        row("total length 65,535", syn().total_length(u16::MAX)),
        row("TCP header length 0", syn().data_offset(0)),
        row("TCP header length one word short", syn().data_offset(4)),
        row("TCP header longer than the packet", syn().data_offset(15)),
        row("TCP header longer than the packet, in the padding", syn().data_offset(15).padding(40)),
        row("UDP length 0", query().udp_length(0)),
        row("UDP length below its header", query().udp_length(7)),
        row("UDP length one beyond the packet", query().udp_length(8 + 5 + 1)),
        row("UDP length beyond the packet, in the padding", query().udp_length(8 + 5 + 1).padding(8)),
        row("total length one short of the UDP header", query().total_length(27)),
        returned("an answer's total length beyond the frame", answer(ACK).total_length(41)),
        returned("an answer's TCP header length too short", answer(ACK).data_offset(2)),
        returned("a reply's UDP length beyond the packet", reply().udp_length(100)),
    ]
}

fn harmless() -> Vec<Row> {
    let opening = |name: &str, frame: Frame| {
        let to_backend = to_first(&frame).begins();
        Row::new(name, world()).send(&frame, to_backend)
    };
    let asking = |name: &str, frame: Frame| {
        let to_backend = to_udp_first(&frame).begins();
        Row::new(name, world()).send(&frame, to_backend)
    };
    vec![
        opening("padding to Ethernet's least", request(SYN).padding(6)),
        opening("more padding than packet", request(SYN).padding(900)),
        opening("all TCP options that fit", request(SYN).tcp_options(&[1; 40])),
        opening("a TCP header that fills the packet", request(SYN).tcp_options(&[1; 4])),
        asking("no payload", query().payload("")),
        asking("a datagram shorter than its packet", query().udp_length(8 + 2)),
        asking("padding after a datagram", query().padding(13)),
    ]
}

fn too_old() -> Vec<Row> {
    let expired = || dropped(DropReason::TtlExceeded);
    let row = |name: &str| Row::new(name, world());
    let last = |frame: Frame| frame.ttl(2);
    vec![
        row("TTL 1 opens nothing").send(&request(SYN).ttl(1), expired()).opened(),
        row("TTL 0 opens nothing").send(&query().ttl(0), expired()).asked(),
        row("TTL 1 within a connection").established().send(&request(ACK).ttl(1), expired()).goes(&request(ACK)),
        row("TTL 1 on the way back").established().send(&answer(ACK).ttl(1), expired()).comes_back(&answer(ACK)),
        row("TTL 0 on the way back").asked().send(&reply().ttl(0), expired()),
        row("a broken packet is that first").send(&request(SYN).ttl(1).data_offset(1), bad()),
        row("TTL 2 is enough")
            .opened()
            .goes(&last(request(SYN)))
            .comes_back(&last(answer(SYN | ACK)))
            .asked()
            .send(&last(query()), to_udp_first(&last(query())))
            .send(&last(reply()), to_udp_client(&last(reply()))),
        row("TTL 255").send(&request(SYN).ttl(255), to_first(&request(SYN).ttl(255)).begins()),
    ]
}

/// Every frame at every length.
fn truncated() -> Vec<Row> {
    let cut = |mut row: Row, frame: &Frame, whole: Expect| {
        let bytes = frame.bytes();
        for length in 0..bytes.len() {
            // Without ports nobody can say whose it is.
            let expect = if length < 38 { pass(PassReason::Malformed) } else { bad() };
            row = row.raw(bytes[..length].to_vec(), expect);
        }
        row.send(frame, whole)
    };
    let (syn, fin) = (request(SYN).tcp_options(&[1; 8]), answer(FIN | ACK).payload("bye"));
    let data = request(ACK).payload("data");
    let row = |name: &str| Row::new(name, world());
    vec![
        cut(row("a SYN at every length"), &syn, to_first(&syn).begins()),
        cut(row("data at every length").established(), &data, to_first(&data)),
        cut(row("a backend's FIN at every length").established(), &fin, to_client(&fin)),
        cut(row("a datagram at every length"), &query(), to_udp_first(&query()).begins()),
        cut(row("a backend's datagram at every length").asked(), &reply(), to_udp_client(&reply())),
    ]
}
