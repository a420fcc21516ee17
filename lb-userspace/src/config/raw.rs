//! The config as typed: every value that could be read, with its place in the text, before any rule was asked.
//!
//! The model's services have this form too (without places), so that the rules are the same for a file and for a
//! change at run time.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use lb_common::abi::Policy;
use lb_common::addr::Protocol;
use toml::Spanned;

use super::fault::Place;
use super::model::{self, AdminState, AttachMode, SourceMode};

/// A value and its place. `None`: missing or unreadable, and reported as such already.
pub(super) type Field<T> = Option<Spanned<T>>;

/// The whole file.
#[derive(Debug)]
pub(super) struct File {
    /// Place of the file's start, for what is missing in it.
    pub place: Place,
    /// The format's version.
    pub version: Field<i64>,
    /// Most sessions at once.
    pub sessions: Field<i64>,
    /// `[[interface]]`; `None` when it could not be read.
    pub interfaces: Option<Vec<Interface>>,
    /// `[nat] ports`: first and last.
    pub nat_ports: Field<(u16, u16)>,
    /// `[nat] source`.
    pub nat_source: Field<Option<Ipv4Addr>>,
    /// `[timeouts]`.
    pub timeouts: Timeouts,
    /// `[metrics] listen`; `None` inside is `"off"`.
    pub metrics: Field<Option<SocketAddr>>,
    /// `[[service]]`.
    pub services: Vec<Service>,
}

/// `[[interface]]`.
#[derive(Debug)]
pub(super) struct Interface {
    /// The kernel's name.
    pub name: Field<String>,
    /// How to attach.
    pub mode: Field<AttachMode>,
}

/// `[timeouts]`.
#[derive(Debug)]
pub(super) struct Timeouts {
    pub half_open: Field<Duration>,
    pub established: Field<Duration>,
    pub half_closed: Field<Duration>,
    pub closing: Field<Duration>,
    pub udp_one_way: Field<Duration>,
    pub udp_both_ways: Field<Duration>,
}

/// `[[service]]`.
#[derive(Debug)]
pub(super) struct Service {
    /// Which one of the file, from 1.
    pub ordinal: usize,
    pub name: Field<String>,
    pub vip: Field<Ipv4Addr>,
    pub port: Field<i64>,
    pub protocol: Field<Protocol>,
    pub policy: Field<Policy>,
    pub source: Field<SourceMode>,
    pub drain_timeout: Field<Duration>,
    /// `None` inside is `"off"`.
    pub health: Field<Option<Probe>>,
    /// `None` when they could not be read.
    pub backends: Option<Vec<Backend>>,
}

/// `[service.health]`.
#[derive(Debug)]
pub(super) struct Probe {
    pub interval: Field<Duration>,
    pub timeout: Field<Duration>,
    pub rise: Field<i64>,
    pub fall: Field<i64>,
    /// `None` inside is the backend's own.
    pub port: Field<Option<i64>>,
}

/// `[[service.backend]]`.
#[derive(Debug)]
pub(super) struct Backend {
    /// Which one of the service, from 1.
    pub ordinal: usize,
    /// Place of the whole table.
    pub place: Place,
    pub address: Field<SocketAddrV4>,
    pub weight: Field<i64>,
    pub state: Field<AdminState>,
}

/// A service in messages: by its name, or by its place in the file.
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "service {:?}", name.get_ref()),
            None => write!(f, "service {}", self.ordinal),
        }
    }
}

/// A backend in messages: by its address, or by its place in the service.
impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Some(address) => write!(f, "backend {}", address.get_ref()),
            None => write!(f, "backend {}", self.ordinal),
        }
    }
}

/// A value that no text has.
#[expect(clippy::unnecessary_wraps, reason = "what a field is")]
fn placeless<T>(value: T) -> Field<T> {
    Some(Spanned::new(0..0, value))
}

impl Service {
    /// A service of the model, as if it had been typed as the `ordinal`th.
    pub fn from_model(ordinal: usize, service: &model::Service) -> Self {
        let backends = service.backends.iter().enumerate();
        Self {
            ordinal,
            name: placeless(service.name.0.clone()),
            vip: placeless(service.vip),
            port: placeless(service.port.into()),
            protocol: placeless(service.protocol),
            policy: placeless(service.policy),
            source: placeless(service.source),
            drain_timeout: placeless(service.drain_timeout),
            health: placeless(service.health.as_ref().map(Probe::from)),
            backends: Some(backends.map(|(index, backend)| Backend::from_model(index + 1, backend)).collect()),
        }
    }

    /// The service, when everything of it could be read and keeps the rules.
    pub fn to_model(&self) -> Option<model::Service> {
        Some(model::Service {
            name: model::ServiceName(self.name.as_ref()?.get_ref().clone()),
            vip: *self.vip.as_ref()?.get_ref(),
            port: u16::try_from(*self.port.as_ref()?.get_ref()).ok()?,
            protocol: *self.protocol.as_ref()?.get_ref(),
            policy: *self.policy.as_ref()?.get_ref(),
            source: *self.source.as_ref()?.get_ref(),
            health: match self.health.as_ref()?.get_ref() {
                Some(probe) => Some(probe.to_model()?),
                None => None,
            },
            backends: self.backends.as_ref()?.iter().map(Backend::to_model).collect::<Option<_>>()?,
            drain_timeout: *self.drain_timeout.as_ref()?.get_ref(),
        })
    }
}

impl From<&model::HealthCheck> for Probe {
    fn from(check: &model::HealthCheck) -> Self {
        Self {
            interval: placeless(check.interval),
            timeout: placeless(check.timeout),
            rise: placeless(check.rise.into()),
            fall: placeless(check.fall.into()),
            port: placeless(check.port.map(i64::from)),
        }
    }
}

impl Probe {
    fn to_model(&self) -> Option<model::HealthCheck> {
        Some(model::HealthCheck {
            interval: *self.interval.as_ref()?.get_ref(),
            timeout: *self.timeout.as_ref()?.get_ref(),
            rise: u32::try_from(*self.rise.as_ref()?.get_ref()).ok()?,
            fall: u32::try_from(*self.fall.as_ref()?.get_ref()).ok()?,
            port: match *self.port.as_ref()?.get_ref() {
                Some(port) => Some(u16::try_from(port).ok()?),
                None => None,
            },
        })
    }
}

impl Backend {
    fn from_model(ordinal: usize, backend: &model::Backend) -> Self {
        Self {
            ordinal,
            place: 0..0,
            address: placeless(backend.address),
            weight: placeless(backend.weight.into()),
            state: placeless(backend.state),
        }
    }

    fn to_model(&self) -> Option<model::Backend> {
        Some(model::Backend {
            address: *self.address.as_ref()?.get_ref(),
            weight: u16::try_from(*self.weight.as_ref()?.get_ref()).ok()?,
            state: *self.state.as_ref()?.get_ref(),
        })
    }
}

impl Interface {
    fn to_model(&self) -> Option<model::Interface> {
        Some(model::Interface { name: self.name.as_ref()?.get_ref().clone(), mode: *self.mode.as_ref()?.get_ref() })
    }
}

impl Timeouts {
    fn to_model(&self) -> Option<model::Timeouts> {
        Some(model::Timeouts {
            half_open: *self.half_open.as_ref()?.get_ref(),
            established: *self.established.as_ref()?.get_ref(),
            half_closed: *self.half_closed.as_ref()?.get_ref(),
            closing: *self.closing.as_ref()?.get_ref(),
            udp_one_way: *self.udp_one_way.as_ref()?.get_ref(),
            udp_both_ways: *self.udp_both_ways.as_ref()?.get_ref(),
        })
    }
}

impl File {
    /// The config, when everything could be read and keeps the rules.
    pub fn to_model(&self) -> Option<model::Config> {
        let (port_first, port_last) = *self.nat_ports.as_ref()?.get_ref();
        self.version.as_ref()?;
        Some(model::Config {
            interfaces: self.interfaces.as_ref()?.iter().map(Interface::to_model).collect::<Option<_>>()?,
            nat: model::Nat { port_first, port_last, source: *self.nat_source.as_ref()?.get_ref() },
            timeouts: self.timeouts.to_model()?,
            sessions: u32::try_from(*self.sessions.as_ref()?.get_ref()).ok()?,
            metrics: *self.metrics.as_ref()?.get_ref(),
            services: self.services.iter().map(Service::to_model).collect::<Option<_>>()?,
        })
    }
}
