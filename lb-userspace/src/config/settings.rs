//! The rules for what only the file says: version, sessions, interfaces, NAT, timeouts and metrics.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use lb_common::limits::{DEVICES_MAX, SESSIONS_MAX, SESSIONS_MIN};

use super::fault::Fault;
use super::raw::{File, Timeouts};
use super::rules::{duration, not_unicast};

/// The version of the format that this reads.
const VERSION: i64 = 1;
/// Longest interface name: the kernel's `IFNAMSIZ` less the end of the string.
const INTERFACE_NAME_MAX: usize = 15;
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(168);

/// Every broken rule of the file's settings.
pub(super) fn check(file: &File) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(version) = &file.version
        && *version.get_ref() != VERSION
    {
        let message = format!("version {} is not known: this weir reads version {VERSION}", version.get_ref());
        let hint = "write version = 1, and the rest as docs/configuration.md has it";
        faults.push(Fault::invalid(version.span(), message).hint(hint));
    }
    sessions(file, &mut faults);
    interfaces(file, &mut faults);
    nat(file, &mut faults);
    timeouts(&file.timeouts, &mut faults);
    if let Some(listen) = &file.metrics
        && listen.get_ref().is_some_and(|address| address.port() == 0)
    {
        let message = "[metrics]: listen has port 0, which nobody could find";
        faults.push(Fault::invalid(listen.span(), message).hint("choose a port from 1 to 65535, or write \"off\""));
    }
    faults
}

fn sessions(file: &File, faults: &mut Vec<Fault>) {
    let Some(sessions) = &file.sessions else { return };
    let given = *sessions.get_ref();
    let number = u32::try_from(given).ok().filter(|number| (SESSIONS_MIN..=SESSIONS_MAX).contains(number));
    match number {
        None => {
            let message = format!("sessions {given} is not within {SESSIONS_MIN} to {SESSIONS_MAX}");
            let nearest = if given < i64::from(SESSIONS_MIN) { SESSIONS_MIN } else { SESSIONS_MAX };
            faults.push(Fault::invalid(sessions.span(), message).hint(format!("write sessions = {nearest}")));
        }
        Some(number) if !number.is_power_of_two() => {
            let message = format!("sessions {given} is not a power of two");
            let hint = format!("write sessions = {}", number.next_power_of_two());
            faults.push(Fault::invalid(sessions.span(), message).hint(hint));
        }
        Some(_) => {}
    }
}

fn interfaces(file: &File, faults: &mut Vec<Fault>) {
    let Some(interfaces) = &file.interfaces else { return };
    if interfaces.is_empty() {
        let hint = "write [[interface]] and name = \"eth0\" below it";
        faults.push(Fault::invalid(file.place.clone(), "there is no interface to attach to").hint(hint));
    }
    let mut seen = HashMap::new();
    for (index, interface) in interfaces.iter().enumerate() {
        let Some(name) = &interface.name else { continue };
        let text = name.get_ref();
        let object = format!("interface {text:?}");
        if index == DEVICES_MAX as usize {
            let message = format!("{object}: there are {} interfaces, and {DEVICES_MAX} at most", interfaces.len());
            faults.push(Fault::invalid(name.span(), message).hint("run a second instance for the rest"));
        }
        if let Some(why) = bad_interface_name(text) {
            let message = format!("{object}: the name {why}");
            faults.push(Fault::invalid(name.span(), message).hint("write a name that \"ip link\" shows"));
        }
        if let Some(first) = seen.insert(text, name.span()) {
            let message = format!("{object}: it is listed already");
            faults.push(
                Fault::conflict(name.span(), message, first.clone(), "first listed here").hint("leave one of them out"),
            );
            seen.insert(text, first);
        }
    }
}

/// What the kernel has against a device of this name, if anything; ends a sentence.
fn bad_interface_name(name: &str) -> Option<String> {
    let refused = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if name.is_empty() {
        Some("is empty".to_owned())
    } else if name.len() > INTERFACE_NAME_MAX {
        Some(format!("has {} bytes, and {INTERFACE_NAME_MAX} at most", name.len()))
    } else if name == "." || name == ".." {
        Some("is one that the kernel refuses".to_owned())
    } else {
        name.chars().find(|c| refused(*c)).map(|wrong| format!("has a {wrong:?}"))
    }
}

fn nat(file: &File, faults: &mut Vec<Fault>) {
    if let Some(ports) = &file.nat_ports {
        let (first, last) = *ports.get_ref();
        if first == 0 {
            let message = "[nat]: ports start at 0, which is not a port";
            faults.push(Fault::invalid(ports.span(), message).hint("start at 1024, or at 1"));
        }
        if first > last {
            let message = format!("[nat]: ports start at {first} and end at {last}");
            let hint = format!("write ports = \"{last}-{first}\"");
            faults.push(Fault::invalid(ports.span(), message).hint(hint));
        }
    }
    if let Some(source) = &file.nat_source
        && let Some(address) = source.get_ref()
        && let Some(why) = not_unicast(*address)
    {
        let message = format!("[nat]: source {address} {why}");
        let hint = "choose an address of this machine that backends can answer to";
        faults.push(Fault::invalid(source.span(), message).hint(hint));
    }
}

fn timeouts(timeouts: &Timeouts, faults: &mut Vec<Fault>) {
    for (key, field) in [
        ("half-open", &timeouts.half_open),
        ("established", &timeouts.established),
        ("half-closed", &timeouts.half_closed),
        ("closing", &timeouts.closing),
        ("udp-one-way", &timeouts.udp_one_way),
        ("udp-both-ways", &timeouts.udp_both_ways),
    ] {
        duration("[timeouts]", key, field.as_ref(), &TIMEOUTS, faults);
    }
}
