//! From a parsed TOML document to the raw config: every key with its type, its default and an example.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use lb_common::abi::Policy;
use lb_common::addr::Protocol;
use lb_common::limits::SESSIONS_DEFAULT;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::Fault;
use super::model::{
    AdminState, AttachMode, DRAIN_TIMEOUT_DEFAULT, HealthCheck, METRICS_DEFAULT, Nat, SourceMode, Timeouts,
    WEIGHT_DEFAULT,
};
use super::raw::{self, Field};
use super::table::{Faults, Table};
use super::values;

/// Reads the whole document; what could not be read is in the faults.
pub(super) fn file(document: &Spanned<DeTable<'_>>) -> (raw::File, Vec<Fault>) {
    let faults = Faults::default();
    let mut root = Table::new("", 0..0, document.get_ref(), &faults);
    let version = root.required("version", "1", values::integer);
    let sessions = root.optional("sessions", "262144", SESSIONS_DEFAULT.into(), values::integer);
    let interfaces = interfaces(&mut root);
    let (nat_ports, nat_source) = nat(&mut root);
    let file = raw::File {
        place: root.place(),
        version,
        sessions,
        interfaces,
        nat_ports,
        nat_source,
        timeouts: timeouts(&mut root),
        metrics: metrics(&mut root),
        services: services(&mut root),
    };
    root.finish();
    (file, faults.into_inner())
}

/// The name of a table's object: the text under `key`, or its place.
fn object(kind: &str, key: &str, ordinal: usize, entries: &DeTable<'_>) -> String {
    match entries.get(key).and_then(|name| name.get_ref().as_str()) {
        Some(name) => format!("{kind} {name:?}"),
        None => format!("{kind} {ordinal}"),
    }
}

fn interfaces(root: &mut Table<'_>) -> Option<Vec<raw::Interface>> {
    let modes = [AttachMode::Native, AttachMode::Generic, AttachMode::Auto].map(|mode| (mode.name(), mode));
    let tables = root.tables("interface", "[[interface]]", |n, entries| object("interface", "name", n, entries))?;
    let read = |mut table: Table<'_>| {
        let interface = raw::Interface {
            name: table.required("name", "\"eth0\"", values::text),
            mode: table.optional("mode", "\"auto\"", AttachMode::Auto, |mode| values::choice(mode, &modes)),
        };
        table.finish();
        interface
    };
    Some(tables.into_iter().map(read).collect())
}

fn nat(root: &mut Table<'_>) -> (Field<(u16, u16)>, Field<Option<Ipv4Addr>>) {
    let default = Nat::default();
    let ports = (default.port_first, default.port_last);
    let Some(mut table) = root.table("nat") else {
        return (Some(Spanned::new(0..0, ports)), Some(Spanned::new(0..0, default.source)));
    };
    let read = (
        table.optional("ports", "\"1024-32767\"", ports, values::port_range),
        table.optional("source", "\"10.0.0.2\"", default.source, |source| values::ipv4(source).map(Some)),
    );
    table.finish();
    read
}

fn timeouts(root: &mut Table<'_>) -> raw::Timeouts {
    let default = Timeouts::default();
    let mut table = root.table("timeouts");
    let mut read = |key: &'static str, example: &str, default: Duration| match &mut table {
        Some(table) => table.optional(key, example, default, values::duration),
        None => Some(Spanned::new(0..0, default)),
    };
    let timeouts = raw::Timeouts {
        half_open: read("half-open", "\"60s\"", default.half_open),
        established: read("established", "\"7440s\"", default.established),
        half_closed: read("half-closed", "\"300s\"", default.half_closed),
        closing: read("closing", "\"60s\"", default.closing),
        udp_one_way: read("udp-one-way", "\"30s\"", default.udp_one_way),
        udp_both_ways: read("udp-both-ways", "\"300s\"", default.udp_both_ways),
    };
    if let Some(table) = table {
        table.finish();
    }
    timeouts
}

fn metrics(root: &mut Table<'_>) -> Field<Option<SocketAddr>> {
    let default = Some(METRICS_DEFAULT);
    let Some(mut table) = root.table("metrics") else { return Some(Spanned::new(0..0, default)) };
    let listen = table.optional("listen", "\"127.0.0.1:9850\"", default, values::listener);
    table.finish();
    listen
}

fn services(root: &mut Table<'_>) -> Vec<raw::Service> {
    let tables = root.tables("service", "[[service]]", |n, entries| object("service", "name", n, entries));
    let tables = tables.unwrap_or_default();
    tables.into_iter().enumerate().map(|(index, table)| service(index + 1, table)).collect()
}

fn service(ordinal: usize, mut table: Table<'_>) -> raw::Service {
    let protocols = [Protocol::Tcp, Protocol::Udp].map(|protocol| (protocol.name(), protocol));
    let sources = [SourceMode::Balancer, SourceMode::Preserve].map(|source| (source.name(), source));
    let name = table.required("name", "\"web\"", values::text);
    let vip = table.required("vip", "\"192.0.2.10\"", values::ipv4);
    let port = table.required("port", "80", values::integer);
    let protocol = table.optional("protocol", "\"tcp\"", Protocol::Tcp, |value| values::choice(value, &protocols));
    table.optional("mode", "\"nat\"", (), values::forwarding_mode);
    let service = raw::Service {
        ordinal,
        name,
        vip,
        port,
        policy: table.optional("policy", "\"maglev\"", Policy::Maglev, values::policy),
        source: table.optional("source", "\"balancer\"", SourceMode::Balancer, |value| values::choice(value, &sources)),
        drain_timeout: table.optional("drain-timeout", "\"300s\"", DRAIN_TIMEOUT_DEFAULT, values::duration),
        health: health(&mut table, protocol.as_ref().map(|protocol| *protocol.get_ref())),
        protocol,
        backends: backends(&mut table),
    };
    table.finish();
    service
}

/// A string or a table, so unlike any other key.
fn health(service: &mut Table<'_>, protocol: Option<Protocol>) -> Field<Option<raw::Probe>> {
    let Some(value) = service.get("health") else {
        // A TCP probe says nothing about a UDP port.
        let probe = (protocol != Some(Protocol::Udp)).then(|| raw::Probe::from(&HealthCheck::default()));
        return Some(Spanned::new(service.place(), probe));
    };
    match value.get_ref() {
        DeValue::Table(entries) => {
            let object = format!("{}, health", service.object());
            let table = service.part(object, value.span(), entries);
            Some(Spanned::new(value.span(), Some(probe(table))))
        }
        DeValue::String(word) if word == "off" => Some(Spanned::new(value.span(), None)),
        _ => {
            let hint = "write health = \"off\", or [service.health] above the probe's keys";
            service.fault(value.span(), "health is neither \"off\" nor a table", hint);
            None
        }
    }
}

fn probe(mut table: Table<'_>) -> raw::Probe {
    let default = HealthCheck::default();
    table.optional("kind", "\"tcp\"", (), values::probe_kind);
    let interval = table.optional("interval", "\"2s\"", default.interval, values::duration);
    // Whoever only asks for a short interval has not asked for a fault.
    let longest = interval.as_ref().map_or(default.timeout, |interval| *interval.get_ref());
    let probe = raw::Probe {
        interval,
        timeout: table.optional("timeout", "\"1s\"", default.timeout.min(longest), values::duration),
        rise: table.optional("rise", "2", default.rise.into(), values::integer),
        fall: table.optional("fall", "3", default.fall.into(), values::integer),
        port: table.optional("port", "8080", None, |port| values::integer(port).map(Some)),
    };
    table.finish();
    probe
}

fn backends(service: &mut Table<'_>) -> Option<Vec<raw::Backend>> {
    let states = [AdminState::Active, AdminState::Draining, AdminState::Disabled].map(|state| (state.name(), state));
    let of = service.object().to_owned();
    let name = |ordinal: usize, entries: &DeTable<'_>| match entries
        .get("address")
        .map(|address| (address.get_ref().as_str(), values::ipv4_and_port(address.get_ref())))
    {
        Some((_, Ok(address))) => format!("{of}, backend {address}"),
        Some((Some(text), Err(_))) => format!("{of}, backend {text:?}"),
        _ => format!("{of}, backend {ordinal}"),
    };
    let tables = service.tables("backend", "[[service.backend]]", name)?;
    let read = |(index, mut table): (usize, Table<'_>)| {
        let backend = raw::Backend {
            ordinal: index + 1,
            place: table.place(),
            address: table.required("address", "\"10.0.0.11:8080\"", values::ipv4_and_port),
            weight: table.optional("weight", "100", WEIGHT_DEFAULT.into(), values::integer),
            state: table.optional("state", "\"active\"", AdminState::Active, |state| values::choice(state, &states)),
        };
        table.finish();
        backend
    };
    Some(tables.into_iter().enumerate().map(read).collect())
}
