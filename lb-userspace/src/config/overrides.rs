//! What changes at run time made of the file's config, kept so that they outlive the agent.
//!
//! Each override remembers what the file said when it was made. Once the file says something else about the same
//! thing, the file wins. The order of services and of backends carries no meaning and is not kept.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use lb_common::abi::Policy;
use lb_common::addr::Protocol;
use serde::{Deserialize, Serialize};

use super::model::{
    AdminState, Backend, Config, HealthCheck, Service, ServiceName, SourceMode, duration_ms, policy_name, protocol_name,
};
use super::rules;
use super::values::show_duration;

/// The difference between the file's config and the effective one.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overrides {
    /// Version of this format.
    schema: Schema,
    /// Removals, then changes, then additions.
    overrides: Vec<Override>,
}

/// The version of the format: 1, and nothing else can be read.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
struct Schema;

impl From<Schema> for u32 {
    fn from(_: Schema) -> Self {
        1
    }
}

impl TryFrom<u32> for Schema {
    type Error = String;

    fn try_from(version: u32) -> Result<Self, String> {
        if version == 1 { Ok(Self) } else { Err(format!("schema {version} is not known: this weir reads schema 1")) }
    }
}

/// One property of one object that differs from the file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "override", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
enum Override {
    /// With what its clients sent to: a service that the file gives another address later is another one.
    ServiceRemoved {
        service: ServiceName,
        vip: Ipv4Addr,
        port: u16,
        #[serde(with = "protocol_name")]
        protocol: Protocol,
    },
    BackendRemoved {
        service: ServiceName,
        address: SocketAddrV4,
    },
    Policy {
        service: ServiceName,
        #[serde(with = "policy_name")]
        from: Policy,
        #[serde(with = "policy_name")]
        to: Policy,
    },
    Source {
        service: ServiceName,
        from: SourceMode,
        to: SourceMode,
    },
    Health {
        service: ServiceName,
        from: Option<HealthCheck>,
        to: Option<HealthCheck>,
    },
    DrainTimeout {
        service: ServiceName,
        #[serde(with = "duration_ms")]
        from: Duration,
        #[serde(with = "duration_ms")]
        to: Duration,
    },
    Weight {
        service: ServiceName,
        address: SocketAddrV4,
        from: u16,
        to: u16,
    },
    State {
        service: ServiceName,
        address: SocketAddrV4,
        from: AdminState,
        to: AdminState,
    },
    ServiceAdded {
        service: Service,
    },
    BackendAdded {
        service: ServiceName,
        backend: Backend,
    },
}

impl Overrides {
    /// What makes `effective` of `file`, in their services and backends.
    pub fn between(file: &Config, effective: &Config) -> Self {
        let (mut removed, mut changed, mut added) = (Vec::new(), Vec::new(), Vec::new());
        for before in &file.services {
            match effective.services.iter().find(|after| after.name == before.name) {
                Some(after) if after.key() == before.key() => {
                    service_changes(before, after, &mut changed);
                    backend_changes(before, after, &mut removed, &mut changed, &mut added);
                }
                // Another address is another service, even under the same name.
                _ => removed.push(Override::ServiceRemoved {
                    service: before.name.clone(),
                    vip: before.vip,
                    port: before.port,
                    protocol: before.protocol,
                }),
            }
        }
        for after in &effective.services {
            let kept = file.services.iter().any(|before| before.name == after.name && before.key() == after.key());
            if !kept {
                added.push(Override::ServiceAdded { service: after.clone() });
            }
        }
        removed.append(&mut changed);
        removed.append(&mut added);
        Self { schema: Schema, overrides: removed }
    }

    /// The effective config, and a sentence for each override that does not apply any more: the file has said something
    /// else since, or the result would break a rule. The config is valid if `file` is.
    pub fn onto(&self, file: &Config) -> (Config, Vec<String>) {
        let mut effective = file.clone();
        let mut left_out = Vec::new();
        apply(&self.overrides, &mut effective, &mut left_out);
        (effective, left_out)
    }

    /// Whether nothing differs from the file.
    pub fn is_empty(&self) -> bool {
        self.overrides.is_empty()
    }

    /// Whether a service, or a property of its own, comes from a change at run time.
    pub fn is_runtime(&self, service: &ServiceName) -> bool {
        self.overrides.iter().any(|entry| entry.service() == service && entry.backend().is_none())
    }

    /// Whether a backend, or a property of it, comes from a change at run time.
    pub fn is_runtime_backend(&self, service: &ServiceName, address: SocketAddrV4) -> bool {
        self.overrides.iter().any(|entry| match entry {
            Override::ServiceAdded { service: added } => added.name == *service,
            other => other.service() == service && other.backend() == Some(address),
        })
    }
}

fn service_changes(before: &Service, after: &Service, changed: &mut Vec<Override>) {
    let service = || before.name.clone();
    if before.policy != after.policy {
        changed.push(Override::Policy { service: service(), from: before.policy, to: after.policy });
    }
    if before.source != after.source {
        changed.push(Override::Source { service: service(), from: before.source, to: after.source });
    }
    if before.health != after.health {
        changed.push(Override::Health { service: service(), from: before.health, to: after.health });
    }
    if before.drain_timeout != after.drain_timeout {
        let (from, to) = (before.drain_timeout, after.drain_timeout);
        changed.push(Override::DrainTimeout { service: service(), from, to });
    }
}

fn backend_changes(
    before: &Service,
    after: &Service,
    removed: &mut Vec<Override>,
    changed: &mut Vec<Override>,
    added: &mut Vec<Override>,
) {
    let service = || before.name.clone();
    for old in &before.backends {
        let address = old.address;
        let Some(new) = after.backends.iter().find(|new| new.address == address) else {
            removed.push(Override::BackendRemoved { service: service(), address });
            continue;
        };
        if old.weight != new.weight {
            changed.push(Override::Weight { service: service(), address, from: old.weight, to: new.weight });
        }
        if old.state != new.state {
            changed.push(Override::State { service: service(), address, from: old.state, to: new.state });
        }
    }
    let new = after.backends.iter().filter(|new| before.backends.iter().all(|old| old.address != new.address));
    added.extend(new.map(|backend| Override::BackendAdded { service: service(), backend: *backend }));
}

/// Applies all of `overrides` at once if the result is valid. If not, the halves by themselves, down to the single
/// ones that break a rule: those are left out.
fn apply(overrides: &[Override], config: &mut Config, left_out: &mut Vec<String>) {
    if overrides.is_empty() {
        return;
    }
    let mut candidate = config.clone();
    let mut outdated = Vec::new();
    for entry in overrides {
        if let Err(why) = entry.apply(&mut candidate) {
            outdated.push(format!("run-time override: {entry} does not apply any more: {why}"));
        }
    }
    let faults = rules::of_model(&candidate.services);
    match (faults.first(), overrides) {
        (None, _) => {
            *config = candidate;
            left_out.append(&mut outdated);
        }
        (Some(fault), [one]) => {
            left_out.push(format!("run-time override: {one} is left out, as it would break a rule: {}", fault.message));
        }
        (Some(_), _) => {
            let (first, second) = overrides.split_at(overrides.len() / 2);
            apply(first, config, left_out);
            apply(second, config, left_out);
        }
    }
}

/// The override in a sentence, as its subject.
impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.service().0;
        match self {
            Self::ServiceRemoved { .. } => write!(f, "the removal of service {name:?}"),
            Self::ServiceAdded { .. } => write!(f, "the added service {name:?}"),
            Self::Policy { to, .. } => write!(f, "policy {} of service {name:?}", to.name()),
            Self::Source { to, .. } => write!(f, "source {} of service {name:?}", to.name()),
            Self::Health { .. } => write!(f, "the probing of service {name:?}"),
            Self::DrainTimeout { to, .. } => write!(f, "drain-timeout {} of service {name:?}", show_duration(*to)),
            Self::BackendRemoved { address, .. } => write!(f, "the removal of backend {address} of service {name:?}"),
            Self::BackendAdded { backend, .. } => {
                write!(f, "the added backend {} of service {name:?}", backend.address)
            }
            Self::Weight { address, to, .. } => write!(f, "weight {to} of backend {address} of service {name:?}"),
            Self::State { address, to, .. } => {
                write!(f, "state {} of backend {address} of service {name:?}", to.name())
            }
        }
    }
}

impl Override {
    fn service(&self) -> &ServiceName {
        match self {
            Self::ServiceRemoved { service, .. }
            | Self::BackendRemoved { service, .. }
            | Self::Policy { service, .. }
            | Self::Source { service, .. }
            | Self::Health { service, .. }
            | Self::DrainTimeout { service, .. }
            | Self::Weight { service, .. }
            | Self::State { service, .. }
            | Self::BackendAdded { service, .. } => service,
            Self::ServiceAdded { service } => &service.name,
        }
    }

    fn backend(&self) -> Option<SocketAddrV4> {
        match self {
            Self::BackendRemoved { address, .. } | Self::Weight { address, .. } | Self::State { address, .. } => {
                Some(*address)
            }
            Self::BackendAdded { backend, .. } => Some(backend.address),
            _ => None,
        }
    }

    /// Makes the change, or says why it cannot be made; nothing to do is fine.
    fn apply(&self, config: &mut Config) -> Result<(), String> {
        match self {
            Self::ServiceRemoved { service, vip, port, protocol } => {
                let Some(index) = config.services.iter().position(|existing| existing.name == *service) else {
                    return Ok(());
                };
                let existing = &config.services[index];
                if (existing.vip, existing.port, existing.protocol) != (*vip, *port, *protocol) {
                    return Err("the file has another service of this name now, and wins".to_owned());
                }
                config.services.remove(index);
                Ok(())
            }
            Self::ServiceAdded { service } => {
                match config.services.iter().find(|existing| existing.name == service.name) {
                    None => config.services.push(service.clone()),
                    Some(existing) if existing == service => {}
                    Some(_) => return Err("the file has another service of this name now, and wins".to_owned()),
                }
                Ok(())
            }
            of_a_service => {
                let name = of_a_service.service();
                let service = config.services.iter_mut().find(|existing| existing.name == *name);
                of_a_service.apply_to(service.ok_or("the file does not have this service any more")?)
            }
        }
    }

    fn apply_to(&self, service: &mut Service) -> Result<(), String> {
        match self {
            Self::Policy { from, to, .. } => set(&mut service.policy, from, to, |policy| policy.name().to_owned()),
            Self::Source { from, to, .. } => set(&mut service.source, from, to, |source| source.name().to_owned()),
            Self::Health { from, to, .. } => set(&mut service.health, from, to, |_| "something else".to_owned()),
            Self::DrainTimeout { from, to, .. } => {
                set(&mut service.drain_timeout, from, to, |timeout| show_duration(*timeout))
            }
            Self::BackendRemoved { address, .. } => {
                service.backends.retain(|existing| existing.address != *address);
                Ok(())
            }
            Self::BackendAdded { backend, .. } => {
                match service.backends.iter().find(|existing| existing.address == backend.address) {
                    None => service.backends.push(*backend),
                    Some(existing) if existing == backend => {}
                    Some(_) => return Err("the file has this backend with other properties now, and wins".to_owned()),
                }
                Ok(())
            }
            Self::Weight { address, from, to, .. } => {
                set(&mut backend(service, *address)?.weight, from, to, u16::to_string)
            }
            Self::State { address, from, to, .. } => {
                set(&mut backend(service, *address)?.state, from, to, |state| state.name().to_owned())
            }
            Self::ServiceRemoved { .. } | Self::ServiceAdded { .. } => Ok(()),
        }
    }
}

fn backend(service: &mut Service, address: SocketAddrV4) -> Result<&mut Backend, String> {
    let found = service.backends.iter_mut().find(|existing| existing.address == address);
    found.ok_or_else(|| "the file does not have this backend any more".to_owned())
}

/// Sets `field` unless the file says something new about it.
fn set<T: Clone + PartialEq>(field: &mut T, from: &T, to: &T, show: impl Fn(&T) -> String) -> Result<(), String> {
    if field != from && field != to {
        return Err(format!("the file says {} now, and wins", show(field)));
    }
    field.clone_from(to);
    Ok(())
}
