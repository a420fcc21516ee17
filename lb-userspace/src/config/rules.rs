//! The rules that services and backends keep, one definition each, for the file and for changes at run time alike.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Display;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use lb_common::addr::Protocol;
use lb_common::limits::{BACKENDS_MAX, SERVICE_BACKENDS_MAX, SERVICES_MAX, WEIGHT_MAX};
use toml::Spanned;

use super::fault::Fault;
use super::model;
use super::raw::{Backend, Probe, Service};
use super::values::show_duration;

/// Longest service name, in bytes.
const NAME_MAX: usize = 63;
const PORTS: RangeInclusive<i64> = 1..=65_535;
const WEIGHTS: RangeInclusive<i64> = 0..=WEIGHT_MAX as i64;
/// Rise and fall of a probe.
const STREAKS: RangeInclusive<i64> = 1..=100;
const PROBE_INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);
const PROBE_TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_mins(1);
/// A drain timeout of zero cuts a removed backend's connections at once.
const DRAIN_TIMEOUTS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(168);

/// Every broken rule of these services.
pub(super) fn services(services: &[Service]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for service in services {
        one_service(service, &mut faults);
    }
    counts(services, &mut faults);
    unique_names(services, &mut faults);
    let taken = unique_keys(services, &mut faults);
    loops(services, &taken, &mut faults);
    faults
}

/// Every broken rule of the model's services.
pub(super) fn of_model(services: &[model::Service]) -> Vec<Fault> {
    let typed: Vec<Service> =
        services.iter().enumerate().map(|(index, service)| Service::from_model(index + 1, service)).collect();
    self::services(&typed)
}

fn one_service(service: &Service, faults: &mut Vec<Fault>) {
    if let Some(name) = &service.name {
        faults.extend(bad_name(name.get_ref()).map(|why| {
            Fault::invalid(name.span(), format!("{service}: the name {why}")).hint(format!(
                "use lowercase letters, digits, '-', '_' and '.', at most {NAME_MAX}, a letter or digit first"
            ))
        }));
    }
    if let Some(vip) = &service.vip {
        faults.extend(not_unicast(*vip.get_ref()).map(|why| {
            Fault::invalid(vip.span(), format!("{service}: vip {} {why}", vip.get_ref()))
                .hint("choose an address that clients can send to")
        }));
    }
    number(service, "port", service.port.as_ref(), PORTS, faults);
    duration(service, "drain-timeout", service.drain_timeout.as_ref(), &DRAIN_TIMEOUTS, faults);
    if let Some(Some(probe)) = service.health.as_ref().map(Spanned::get_ref) {
        one_probe(service, probe, faults);
    }
    let mut seen = HashMap::new();
    for backend in service.backends.iter().flatten() {
        one_backend(service, backend, faults);
        let Some(address) = &backend.address else { continue };
        match seen.entry(*address.get_ref()) {
            Entry::Vacant(entry) => {
                entry.insert(address.span());
            }
            Entry::Occupied(first) => faults.push(
                Fault::conflict(
                    address.span(),
                    format!("{service}, {backend}: the service has a backend with this address already"),
                    first.get().clone(),
                    "first listed here",
                )
                .hint("an address stands once in a service: change its weight for a larger share"),
            ),
        }
    }
}

fn one_backend(service: &Service, backend: &Backend, faults: &mut Vec<Fault>) {
    let object = format_args!("{service}, {backend}");
    if let Some(address) = &backend.address {
        let reachable = "choose an address of another machine that listens there";
        if let Some(why) = not_unicast(*address.get_ref().ip()) {
            let message = format!("{object}: address {} {why}", address.get_ref().ip());
            faults.push(Fault::invalid(address.span(), message).hint(reachable));
        }
        let port = Spanned::new(address.span(), i64::from(address.get_ref().port()));
        number(object, "port", Some(&port), PORTS, faults);
    }
    number(object, "weight", backend.weight.as_ref(), WEIGHTS, faults);
}

fn one_probe(service: &Service, probe: &Probe, faults: &mut Vec<Fault>) {
    let object = format_args!("{service}, health");
    duration(object, "interval", probe.interval.as_ref(), &PROBE_INTERVALS, faults);
    duration(object, "timeout", probe.timeout.as_ref(), &PROBE_TIMEOUTS, faults);
    number(object, "rise", probe.rise.as_ref(), STREAKS, faults);
    number(object, "fall", probe.fall.as_ref(), STREAKS, faults);
    if let (Some(interval), Some(timeout)) = (&probe.interval, &probe.timeout)
        && timeout.get_ref() > interval.get_ref()
    {
        let (long, short) = (show_duration(*timeout.get_ref()), show_duration(*interval.get_ref()));
        let message = format!("{object}: timeout {long} is longer than interval {short}");
        faults.push(Fault::invalid(timeout.span(), message).hint(format!("write a timeout of {short} at most")));
    }
    let Some(port) = &probe.port else { return };
    let udp = service.protocol.as_ref().is_some_and(|protocol| *protocol.get_ref() == Protocol::Udp);
    match *port.get_ref() {
        Some(given) => number(object, "port", Some(&Spanned::new(port.span(), given)), PORTS, faults),
        None if udp => {
            let place = service.health.as_ref().map_or(port.span(), Spanned::span);
            let message = format!("{object}: a TCP probe of a UDP service's own port says nothing");
            let hint = "write port = the TCP port that tells the backend's health, or turn probing off";
            faults.push(Fault::invalid(place, message).hint(hint));
        }
        None => {}
    }
}

fn counts(services: &[Service], faults: &mut Vec<Fault>) {
    let mut total = 0_u64;
    for (index, service) in services.iter().enumerate() {
        if index == SERVICES_MAX as usize {
            let place = service.name.as_ref().map_or(0..0, Spanned::span);
            let message = format!("{service}: there are {} services, and {SERVICES_MAX} at most", services.len());
            faults.push(Fault::invalid(place, message).hint("run a second instance for the rest"));
        }
        let backends = service.backends.as_deref().unwrap_or_default();
        if let Some(excess) = backends.get(SERVICE_BACKENDS_MAX) {
            let message = format!(
                "{service}, {excess}: the service has {} backends, and {SERVICE_BACKENDS_MAX} at most",
                backends.len()
            );
            faults.push(Fault::invalid(excess.place.clone(), message).hint("make two services of it"));
        }
        for backend in backends {
            total += 1;
            if total == u64::from(BACKENDS_MAX) + 1 {
                let message = format!(
                    "{service}, {backend}: this is backend {total} of all services together, and they have \
                     {BACKENDS_MAX} at most"
                );
                faults.push(Fault::invalid(backend.place.clone(), message).hint("run a second instance for the rest"));
            }
        }
    }
}

fn unique_names(services: &[Service], faults: &mut Vec<Fault>) {
    let mut seen: HashMap<&str, &Spanned<String>> = HashMap::new();
    for service in services {
        let Some(name) = &service.name else { continue };
        if let Some(first) = seen.get(name.get_ref().as_str()) {
            let message = format!("{service}: another service has this name already");
            faults.push(
                Fault::conflict(name.span(), message, first.span(), "first used here")
                    .hint("give each service its own name"),
            );
        } else {
            seen.insert(name.get_ref(), name);
        }
    }
}

/// Services by what their clients send to.
type Taken<'s> = HashMap<(Ipv4Addr, i64, Protocol), &'s Service>;

fn unique_keys<'s>(services: &'s [Service], faults: &mut Vec<Fault>) -> Taken<'s> {
    let mut taken = Taken::new();
    for service in services {
        let (Some(vip), Some(port), Some(protocol)) = (&service.vip, &service.port, &service.protocol) else {
            continue;
        };
        let key = (*vip.get_ref(), *port.get_ref(), *protocol.get_ref());
        if let Some(first) = taken.get(&key) {
            let message = format!("{service}: {}:{}/{} is taken by {first}", key.0, key.1, key.2.name());
            let place = first.vip.as_ref().map_or(0..0, Spanned::span);
            faults.push(
                Fault::conflict(vip.span(), message, place, "taken here")
                    .hint("change its vip, port or protocol, or give its backends to the other service"),
            );
        } else {
            taken.insert(key, service);
        }
    }
    taken
}

/// Backends that are a service themselves: what the datapath sends there would come back to it.
fn loops(services: &[Service], taken: &Taken<'_>, faults: &mut Vec<Fault>) {
    for service in services {
        for backend in service.backends.iter().flatten() {
            let (Some(address), Some(protocol)) = (&backend.address, &service.protocol) else { continue };
            let key = (*address.get_ref().ip(), address.get_ref().port().into(), *protocol.get_ref());
            let Some(target) = taken.get(&key) else { continue };
            let message =
                format!("{service}, {backend}: the address is what clients of {target} send to, which makes a loop");
            let place = target.vip.as_ref().map_or(0..0, Spanned::span);
            faults.push(
                Fault::conflict(address.span(), message, place, "what those clients send to")
                    .hint("write the address of the machine that answers in the end"),
            );
        }
    }
}

/// A number within its range.
fn number(
    object: impl Display,
    key: &str,
    given: Option<&Spanned<i64>>,
    range: RangeInclusive<i64>,
    faults: &mut Vec<Fault>,
) {
    let Some(given) = given else { return };
    if !range.contains(given.get_ref()) {
        let (first, last) = range.into_inner();
        let message = format!("{object}: {key} {} is not within {first} to {last}", given.get_ref());
        faults.push(Fault::invalid(given.span(), message).hint(format!("choose one from {first} to {last}")));
    }
}

/// A duration within its range.
pub(super) fn duration(
    object: impl Display,
    key: &str,
    given: Option<&Spanned<Duration>>,
    range: &RangeInclusive<Duration>,
    faults: &mut Vec<Fault>,
) {
    let Some(given) = given else { return };
    if !range.contains(given.get_ref()) {
        let [value, first, last] = [given.get_ref(), range.start(), range.end()].map(|d| show_duration(*d));
        let message = format!("{object}: {key} {value} is not within {first} to {last}");
        faults.push(Fault::invalid(given.span(), message).hint(format!("choose one from {first} to {last}")));
    }
}

/// Why no packet can be sent to `address` from outside, if so; ends a sentence.
pub(super) fn not_unicast(address: Ipv4Addr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("is the unspecified address")
    } else if address.is_loopback() {
        Some("is a loopback address, which no packet on a wire can have")
    } else if address.is_multicast() {
        Some("is a multicast address")
    } else if address.is_broadcast() {
        Some("is the broadcast address")
    } else {
        None
    }
}

/// What is wrong with a service's name, if anything; ends a sentence.
pub(super) fn bad_name(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if name.is_empty() {
        Some("is empty".to_owned())
    } else if name.len() > NAME_MAX {
        Some(format!("has {} bytes, and {NAME_MAX} at most", name.len()))
    } else if let Some(wrong) = name.chars().find(|c| !allowed(*c)) {
        Some(format!("has a {wrong:?}"))
    } else if name.starts_with(['-', '_', '.']) {
        Some("starts with neither a letter nor a digit".to_owned())
    } else {
        None
    }
}
