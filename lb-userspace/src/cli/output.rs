//! How answers look: tables without borders, JSON, and the words for what is wrong with a backend.

use comfy_table::{CellAlignment, Table, presets};
use lb_common::ABI_VERSION;
use serde::Serialize;
use serde_json::json;

use super::args::Output;
use super::error::CliError;
use super::{Io, text};
use crate::api::types::{BackendRow, BackendView, ServiceView};
use crate::config::{AdminState, HealthCheck};
use crate::health::Health;

/// JSON over several lines, with a line end.
pub(super) fn pretty<T: Serialize + ?Sized>(answer: &T) -> Result<String, CliError> {
    match serde_json::to_string_pretty(answer) {
        Ok(text) => Ok(text + "\n"),
        Err(error) => Err(CliError::failed(format!("cannot write the answer as JSON: {error}"), None)),
    }
}

/// `weir version`.
pub(super) fn version(io: &mut Io<'_>, output: Output) -> Result<(), CliError> {
    let version = env!("CARGO_PKG_VERSION");
    let text = match output {
        Output::Table => format!("weir {version}, datapath contract {ABI_VERSION}\n"),
        Output::Json => pretty(&json!({"version": version, "abi": ABI_VERSION}))?,
    };
    Ok(io.out.write_all(text.as_bytes())?)
}

/// A table without borders. Columns whose heading begins with `>` stand to the right; the `>` is not shown.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headings.map(|heading| heading.trim_start_matches('>')));
    table.add_rows(rows);
    for (column, heading) in table.column_iter_mut().zip(headings) {
        column.set_padding((0, 2));
        if heading.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt() + "\n"
}

/// The table of `weir service list`.
pub(super) fn services(services: &[ServiceView]) -> String {
    if services.is_empty() {
        return "no services; add one with: weir service add NAME --vip ADDRESS:PORT\n".into();
    }
    let rows = services.iter().map(|service| {
        [
            service.name.0.clone(),
            service.endpoint(),
            service.policy.clone(),
            service.mode.clone(),
            service.source_name().into(),
            eligible(service),
            text::number(service.backends.iter().map(|backend| backend.sessions_open).sum()),
            text::number(service.traffic.flows),
            service.origin.name().into(),
        ]
    });
    let headings = ["NAME", "VIP", "POLICY", "MODE", "SOURCE", ">ELIGIBLE", ">SESSIONS", ">FLOWS", "ORIGIN"];
    table(headings, rows)
}

/// The table of `weir backend list`.
pub(super) fn backends(rows: &[BackendRow]) -> String {
    if rows.is_empty() {
        return "no backends; add one with: weir backend add SERVICE ADDRESS:PORT\n".into();
    }
    let cells = rows.iter().map(|BackendRow { service, backend }| {
        [
            service.0.clone(),
            backend.address.to_string(),
            backend.weight.to_string(),
            state(backend).into(),
            format!("{} {}", backend.health.name(), text::age(backend.health_seconds)),
            (if backend.eligible { "yes" } else { "no" }).into(),
            text::number(backend.sessions_open),
            text::number(backend.traffic.flows),
        ]
    });
    let headings = ["SERVICE", "BACKEND", ">WEIGHT", "STATE", "HEALTH", "NEW FLOWS", ">SESSIONS", ">FLOWS"];
    table(headings, cells)
}

/// Names and values under each other.
pub(super) fn properties(properties: &[(&str, String)]) -> String {
    properties.iter().fold(String::new(), |page, (name, value)| page + &format!("  {name:<12}{value}\n"))
}

/// `3/4`: backends that take new flows, of those that stay.
pub(super) fn eligible(service: &ServiceView) -> String {
    let staying = || service.backends.iter().filter(|backend| !backend.leaving);
    format!("{}/{}", staying().filter(|backend| backend.eligible).count(), staying().count())
}

/// A backend's administrative state, or that it is on its way out.
pub(super) const fn state(backend: &BackendView) -> &'static str {
    if backend.leaving { "leaving" } else { backend.state.name() }
}

/// How a service is probed.
pub(super) fn probing(health: Option<&HealthCheck>) -> String {
    let Some(health) = health else { return "not probed: every backend is taken for healthy".into() };
    let port = health.port.map_or_else(String::new, |port| format!(" on port {port}"));
    format!(
        "tcp{port} every {}, timeout {}, rise {}, fall {}",
        text::duration(health.interval),
        text::duration(health.timeout),
        health.rise,
        health.fall
    )
}

/// Everything about a backend that is not as an operator would have it in the long run.
pub(super) fn troubles(backend: &BackendView) -> Vec<String> {
    let mut troubles = Vec::new();
    let sessions = || text::count(backend.sessions_open, "open session");
    match (backend.leaving, backend.state) {
        (true, _) => troubles.push(format!("leaving, {} left", sessions())),
        (false, AdminState::Draining) => troubles.push(format!("draining, {} left", sessions())),
        (false, AdminState::Disabled) => troubles.push("disabled".into()),
        (false, AdminState::Active) => {}
    }
    let age = text::age(backend.health_seconds);
    match backend.health {
        Health::Healthy => {}
        Health::Unhealthy => {
            let detail = backend.health_detail.as_deref().unwrap_or("the agent gives no reason");
            troubles.push(format!("unhealthy {age}: {detail}"));
        }
        Health::Unknown => troubles.push(format!("unknown {age}: no probe has ended yet")),
    }
    if backend.next_hop.is_none() {
        troubles.push("no next hop: its MAC address is not known".into());
    }
    if backend.weight == 0 && !backend.leaving {
        troubles.push("weight 0".into());
    }
    if troubles.is_empty() && !backend.eligible {
        troubles.push("takes no new flows".into());
    }
    troubles
}
