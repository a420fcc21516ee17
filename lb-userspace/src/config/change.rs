//! One change at run time, applied to a valid config: the result is valid too, or the change is refused.

use std::net::SocketAddrV4;

use super::fault::Fault;
use super::model::{Backend, Config, Service, ServiceName};
use super::rules;
use super::values::{list, one_of, policy_named};
use crate::api::types::{Change, HealthSetting, Refusal, RefusalCode};

impl Config {
    /// This config after `change`, by the rules that the file has to keep too.
    pub fn changed(&self, change: &Change) -> Result<Self, Refusal> {
        let mut changed = self.clone();
        changed.apply(change)?;
        match refusal(&rules::of_model(&changed.services)) {
            None => Ok(changed),
            Some(refusal) => Err(refusal),
        }
    }

    fn apply(&mut self, change: &Change) -> Result<(), Refusal> {
        match change {
            Change::ServiceAdd { service } => self.services.push(service.clone()),
            Change::ServiceSet { name, policy, source, health } => {
                let service = self.service_mut(name)?;
                if let Some(policy) = policy {
                    service.policy = policy_named(policy).map_err(|problem| Refusal {
                        code: RefusalCode::Invalid,
                        message: format!("service {:?}: policy {}", name.0, problem.message),
                        hint: problem.hint,
                    })?;
                }
                service.source = source.unwrap_or(service.source);
                match health {
                    None => {}
                    Some(HealthSetting::Off) => service.health = None,
                    Some(HealthSetting::Tcp(check)) => service.health = Some(*check),
                }
            }
            Change::ServiceRemove { name } => {
                self.service_mut(name)?;
                self.services.retain(|service| service.name != *name);
            }
            Change::BackendAdd { service, backend } => self.service_mut(service)?.backends.push(*backend),
            Change::BackendSet { service, address, weight, state } => {
                let backend = self.service_mut(service)?.backend_mut(*address)?;
                backend.weight = weight.unwrap_or(backend.weight);
                backend.state = state.unwrap_or(backend.state);
            }
            Change::BackendRemove { service, address, now: _ } => {
                let service = self.service_mut(service)?;
                service.backend_mut(*address)?;
                service.backends.retain(|backend| backend.address != *address);
            }
        }
        Ok(())
    }

    fn service_mut(&mut self, name: &ServiceName) -> Result<&mut Service, Refusal> {
        let Some(index) = self.services.iter().position(|service| service.name == *name) else {
            let names: Vec<&str> = self.services.iter().map(|service| service.name.0.as_str()).collect();
            let hint = if names.is_empty() { "there is no service at all".into() } else { one_of(&name.0, &names) };
            return Err(not_found(format!("there is no service {:?}", name.0), hint));
        };
        Ok(&mut self.services[index])
    }
}

impl Service {
    fn backend_mut(&mut self, address: SocketAddrV4) -> Result<&mut Backend, Refusal> {
        let Some(index) = self.backends.iter().position(|backend| backend.address == address) else {
            let known: Vec<String> = self.backends.iter().map(|backend| backend.address.to_string()).collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let hint = if known.is_empty() {
                "it has no backend at all".to_owned()
            } else {
                format!("its backends are: {}", list(&known))
            };
            return Err(not_found(format!("service {:?} has no backend {address}", self.name.0), hint));
        };
        Ok(&mut self.backends[index])
    }
}

fn not_found(message: String, hint: String) -> Refusal {
    Refusal { code: RefusalCode::NotFound, message, hint: Some(hint) }
}

/// The refusal of a change that breaks rules, if it breaks any: all of them in one message.
fn refusal(faults: &[Fault]) -> Option<Refusal> {
    let first = faults.first()?;
    let messages: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
    Some(Refusal { code: first.code, message: messages.join("; "), hint: first.hint.clone() })
}
