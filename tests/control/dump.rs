//! An image as sorted text, to compare and to read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lb_common::abi::{
    BACKEND_DISABLED, BACKEND_DRAINING, BACKEND_LEAVING, BACKEND_UNHEALTHY, Policy, SERVICE_PRESERVE, SETTING_PRESERVE,
};
use lb_common::addr::Address;
use lb_userspace::control::image::Image;

/// One line for each thing that the maps hold; nothing for what never changes.
pub fn dump(image: &Image) -> String {
    let mut text = String::new();
    if let Some(s) = image.settings {
        let preserve = if s.flags & SETTING_PRESERVE != 0 { " preserve" } else { "" };
        let _ = writeln!(text, "settings ports {}+{}{preserve}", s.nat_port_first, s.nat_port_count);
    }
    for (index, device) in &image.devices {
        let _ = writeln!(text, "device {index} is {}", device.ifindex);
    }
    for (id, b) in &image.backends {
        let source = if b.source == Address::UNSPECIFIED { "client".into() } else { format!("{:?}", b.source) };
        let hop = if b.hop.is_known() { format!("{:02x}@{}", b.hop.mac()[5], b.hop.device()) } else { "?".into() };
        let _ = write!(text, "backend {id} of {} {:?}:{:?} from {source} via {hop}", b.service, b.address, b.port);
        let _ = write!(text, " weight {}", b.weight);
        for (flag, name) in [
            (BACKEND_DRAINING, "draining"),
            (BACKEND_DISABLED, "disabled"),
            (BACKEND_UNHEALTHY, "unhealthy"),
            (BACKEND_LEAVING, "leaving"),
        ] {
            let _ = if b.flags & flag != 0 { write!(text, " {name}") } else { Ok(()) };
        }
        text.push('\n');
    }
    for (id, table) in &image.tables {
        let mut counts = BTreeMap::<u16, u32>::new();
        for backend in table.iter() {
            *counts.entry(*backend).or_default() += 1;
        }
        let shares: Vec<String> = counts.iter().map(|(backend, slots)| format!("{backend}x{slots}")).collect();
        let _ = writeln!(text, "table {id} {}", shares.join(" "));
    }
    for (id, ring) in &image.rings {
        let _ = writeln!(text, "ring {id} {ring:?}");
    }
    for (key, s) in &image.services {
        let policy = Policy::from_number(s.policy).map_or("?", Policy::name);
        let preserve = if s.flags & SERVICE_PRESERVE != 0 { " preserve" } else { "" };
        let (vip, port, protocol) = (key.vip, key.port, key.protocol.name());
        let _ = write!(text, "service {} {vip:?}:{port:?}/{protocol} {policy}{preserve}", s.id);
        let _ = writeln!(text, " ring {} slots {}", s.ring_length, s.slots);
    }
    text
}

/// Compares with `expected`, whose lines may be indented.
#[track_caller]
pub fn assert_dump(image: &Image, expected: &str) {
    let expected: String = expected
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .fold(String::new(), |text, line| text + line + "\n");
    let found = dump(image);
    assert!(found == expected, "the maps hold\n{found}\nand not\n{expected}");
}
