//! `weir backend`: list, show, add, set, drain, undrain, disable, enable, remove.

use super::args::{BackendCommand, Which};
use super::error::CliError;
use super::output::{self, properties};
use super::session::Session;
use super::{service, text};
use crate::api::types::{BackendRow, BackendView, Change, ServiceView};
use crate::config::{AdminState, Backend};

pub(super) fn run(command: BackendCommand, session: &mut Session<'_, '_>) -> Result<(), CliError> {
    match command {
        BackendCommand::List { service } => {
            let snapshot = session.snapshot()?;
            let rows: Vec<BackendRow> = match service {
                Some(name) => snapshot.service(&name)?.rows().collect(),
                None => snapshot.services.iter().flat_map(ServiceView::rows).collect(),
            };
            session.show(&rows, |rows, _| output::backends(rows))
        }
        BackendCommand::Show { service, address } => {
            let snapshot = session.snapshot()?;
            let found = snapshot.service(&service)?;
            let row = BackendRow { service: found.name.clone(), backend: found.backend(address)?.clone() };
            session.show(&row, |row, _| page(row))
        }
        BackendCommand::Add { which, weight } => {
            let backend = Backend { address: which.address, weight, state: AdminState::Active };
            session.change(&Change::BackendAdd { service: which.service.clone(), backend }, &which.done("added"))
        }
        BackendCommand::Set { which, weight } => session.change(&which.set(Some(weight), None), &which.done("set")),
        BackendCommand::Drain(which) => admin(&which, AdminState::Draining, "draining", session),
        BackendCommand::Disable(which) => admin(&which, AdminState::Disabled, "disabled", session),
        BackendCommand::Undrain(which) => {
            not_in(&which, AdminState::Disabled, "enable", session)?;
            admin(&which, AdminState::Active, "active", session)
        }
        BackendCommand::Enable(which) => {
            not_in(&which, AdminState::Draining, "undrain", session)?;
            admin(&which, AdminState::Active, "active", session)
        }
        BackendCommand::Remove { which, now } => {
            let done = which.done(if now { "removed, connections cut" } else { "removed" });
            session.change(&Change::BackendRemove { service: which.service, address: which.address, now }, &done)
        }
    }
}

impl Which {
    fn set(&self, weight: Option<u16>, state: Option<AdminState>) -> Change {
        Change::BackendSet { service: self.service.clone(), address: self.address, weight, state }
    }

    fn done(&self, what: &str) -> String {
        format!("backend {} of service \"{}\" {what}", self.address, self.service)
    }
}

fn admin(which: &Which, state: AdminState, done: &str, session: &mut Session<'_, '_>) -> Result<(), CliError> {
    session.change(&which.set(None, Some(state)), &which.done(done))
}

/// Refuses to end a state that somebody else set for another reason: `undrain` does not enable, `enable` does not undrain.
fn not_in(which: &Which, state: AdminState, way_out: &str, session: &Session<'_, '_>) -> Result<(), CliError> {
    let snapshot = session.snapshot()?;
    let backend = snapshot.service(&which.service.0)?.backend(which.address)?;
    if backend.state != state {
        return Ok(());
    }
    let hint = format!("use: weir backend {way_out} {} {}", which.service, which.address);
    Err(CliError::failed(which.done(&format!("is {}", state.name())), Some(hint)))
}

fn page(BackendRow { service, backend }: &BackendRow) -> String {
    let sessions =
        format!("{} open, {} closing", text::number(backend.sessions_open), text::number(backend.sessions_closing));
    let mut lines = vec![
        ("weight", backend.weight.to_string()),
        ("state", output::state(backend).into()),
        ("health", format!("{} {}", backend.health.name(), text::age(backend.health_seconds))),
        ("new flows", (if backend.eligible { "yes" } else { "no" }).into()),
        ("next hop", backend.next_hop.clone().unwrap_or_else(|| "not known".into())),
        ("source", source(backend)),
        ("origin", backend.origin.name().into()),
        ("sessions", sessions),
    ];
    lines.extend(service::traffic(&backend.traffic));
    lines.extend(output::troubles(backend).into_iter().map(|trouble| ("!", trouble)));
    format!("backend {} of service {service}\n{}", backend.address, properties(&lines))
}

fn source(backend: &BackendView) -> String {
    backend.source.map_or_else(|| "the client's own".into(), |address| address.to_string())
}
