//! `weir service`: list, show, add, set, remove.

use lb_common::addr::Protocol;

use super::args::{HealthArgs, ProbeKind, ServiceAdd, ServiceCommand, ServiceSet};
use super::error::CliError;
use super::output::{self, probing, properties};
use super::session::Session;
use super::text;
use crate::api::types::{BackendRow, Change, HealthSetting, ServiceView, TrafficView};
use crate::config::{HealthCheck, Service};

pub(super) fn run(command: ServiceCommand, session: &mut Session<'_, '_>) -> Result<(), CliError> {
    match command {
        ServiceCommand::List => {
            let snapshot = session.snapshot()?;
            session.show(snapshot.services.as_slice(), |services, _| output::services(services))
        }
        ServiceCommand::Show { name } => {
            let snapshot = session.snapshot()?;
            session.show(snapshot.service(&name)?, |service, _| page(service))
        }
        ServiceCommand::Add(args) => add(args, session),
        ServiceCommand::Set(args) => set(args, session),
        ServiceCommand::Remove { name } => {
            let done = format!("service \"{name}\" removed");
            session.change(&Change::ServiceRemove { name }, &done)
        }
    }
}

fn add(args: ServiceAdd, session: &mut Session<'_, '_>) -> Result<(), CliError> {
    let unsaid = if args.protocol == Protocol::Tcp { ProbeKind::Tcp } else { ProbeKind::Off };
    let kind = args.health.health.unwrap_or(unsaid);
    let health = match kind {
        ProbeKind::Off => args.health.refuse_details().map(|()| None)?,
        ProbeKind::Tcp => Some(args.health.over(HealthCheck::default(), true)?),
    };
    let done = format!("service \"{}\" added", args.name);
    let service = Service {
        name: args.name,
        vip: *args.vip.ip(),
        port: args.vip.port(),
        protocol: args.protocol,
        policy: args.policy,
        source: args.source,
        health,
        backends: Vec::new(),
        drain_timeout: args.drain_timeout,
    };
    session.change(&Change::ServiceAdd { service }, &done)
}

fn set(args: ServiceSet, session: &mut Session<'_, '_>) -> Result<(), CliError> {
    let ServiceSet { name, policy, source, health } = args;
    if policy.is_none() && source.is_none() && health == HealthArgs::default() {
        return Err(CliError::usage("nothing to set", "name at least one property; see: weir service set --help"));
    }
    let health = match (health == HealthArgs::default(), health.health) {
        (true, _) => None,
        (false, Some(ProbeKind::Off)) => health.refuse_details().map(|()| Some(HealthSetting::Off))?,
        (false, wanted) => {
            let snapshot = session.snapshot()?;
            let present = snapshot.service(&name.0)?.health;
            if present.is_none() && wanted.is_none() {
                let hint = format!("turn probing on with: weir service set {name} --health tcp");
                return Err(CliError::failed(format!("service \"{name}\": it is not probed"), Some(hint)));
            }
            Some(HealthSetting::Tcp(health.over(present.unwrap_or_default(), present.is_none())?))
        }
    };
    let done = format!("service \"{name}\" set");
    let policy = policy.map(|policy| policy.name().to_owned());
    session.change(&Change::ServiceSet { name, policy, source, health }, &done)
}

impl HealthArgs {
    /// With probing off there is nothing more to say about it.
    fn refuse_details(&self) -> Result<(), CliError> {
        let only_kind = Self { health: self.health, ..Self::default() };
        if *self == only_kind {
            Ok(())
        } else {
            Err(CliError::usage("properties of probes make no sense while probing is off", "add --health tcp"))
        }
    }

    /// What is said here over `base`. A timeout that is nobody's wish (`fresh`) gives way to a short interval.
    fn over(&self, base: HealthCheck, fresh: bool) -> Result<HealthCheck, CliError> {
        let interval = self.interval.unwrap_or(base.interval);
        let unsaid = if fresh { base.timeout.min(interval) } else { base.timeout };
        let timeout = self.timeout.unwrap_or(unsaid);
        if timeout > interval {
            let (timeout, interval) = (text::duration(timeout), text::duration(interval));
            let message = format!("the probes' timeout of {timeout} is above their interval of {interval}");
            return Err(CliError::usage(message, "set --timeout, --interval or both"));
        }
        Ok(HealthCheck {
            interval,
            timeout,
            rise: self.rise.unwrap_or(base.rise),
            fall: self.fall.unwrap_or(base.fall),
            port: self.probe_port.or(base.port),
        })
    }
}

fn page(service: &ServiceView) -> String {
    let sessions = |value: fn(&crate::api::types::BackendView) -> u64| service.backends.iter().map(value).sum();
    let open = text::number(sessions(|backend| backend.sessions_open));
    let closing = text::number(sessions(|backend| backend.sessions_closing));
    let mut lines = vec![
        ("policy", service.policy.clone()),
        ("mode", service.mode.clone()),
        ("source", service.source_name().into()),
        ("health", probing(service.health.as_ref())),
        ("origin", service.origin.name().into()),
        ("eligible", format!("{} backends", output::eligible(service))),
        ("sessions", format!("{open} open, {closing} closing")),
    ];
    lines.extend(traffic(&service.traffic));
    let rows: Vec<BackendRow> = service.rows().collect();
    format!("service {}   {}\n{}\n{}", service.name, service.endpoint(), properties(&lines), output::backends(&rows))
}

/// What went through a service or backend.
pub(super) fn traffic(traffic: &TrafficView) -> [(&'static str, String); 3] {
    let way = |packets, bytes| format!("{}, {}", text::count(packets, "packet"), text::bytes(bytes));
    [
        ("flows", format!("{} placed", text::number(traffic.flows))),
        ("forward", way(traffic.forward_packets, traffic.forward_bytes)),
        ("return", way(traffic.return_packets, traffic.return_bytes)),
    ]
}
