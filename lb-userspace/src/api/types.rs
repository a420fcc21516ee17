//! Requests and answers of the socket API, as JSON. Field names are API: they are kept.

use std::net::{Ipv4Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};

use crate::config::{AdminState, AttachMode, Backend, HealthCheck, Service, ServiceName, SourceMode};
use crate::health::Health;

/// One change of the desired state, as `POST /v1/changes` takes it. Either all of it happens or nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// A new service.
    ServiceAdd {
        /// All of it.
        service: Service,
    },
    /// Other properties of a service; absent ones stay.
    ServiceSet {
        /// Which.
        name: ServiceName,
        /// Placement policy, by name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<String>,
        /// Whose address the backends see.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<SourceMode>,
        /// Active probing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        health: Option<HealthSetting>,
    },
    /// A service goes: its VIP and port are not ours any more.
    ServiceRemove {
        /// Which.
        name: ServiceName,
    },
    /// A new backend of a service.
    BackendAdd {
        /// Of which service.
        service: ServiceName,
        /// All of it.
        backend: Backend,
    },
    /// Other properties of a backend; absent ones stay.
    BackendSet {
        /// Of which service.
        service: ServiceName,
        /// Which.
        address: SocketAddrV4,
        /// Its weight.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight: Option<u16>,
        /// What the operator wants of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<AdminState>,
    },
    /// A backend goes: it keeps its connections until they end or the drain timeout does.
    BackendRemove {
        /// Of which service.
        service: ServiceName,
        /// Which.
        address: SocketAddrV4,
        /// Cut its connections now.
        #[serde(default)]
        now: bool,
    },
}

/// What a change makes of a service's probing: absence means "as it is", so "off" needs a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthSetting {
    /// No probes: every backend is taken for healthy.
    Off,
    /// A TCP connection is made and closed.
    Tcp(HealthCheck),
}

/// The answer to a change that was made: it is in the datapath.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// The revision that has it.
    pub revision: u64,
    /// Steps that the datapath took; 0 when the change changed nothing.
    pub steps: usize,
}

/// The answer to a detach that was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Detached {
    /// Always true.
    pub detached: bool,
}

/// The answer to what was refused or failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind of refusal.
    pub code: RefusalCode,
    /// What object, and why.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Kinds of refusal; the API's status codes and the command line's exit codes follow from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// No such object (404).
    NotFound,
    /// Such an object exists already, or stands in the way (409).
    Conflict,
    /// The request does not make sense (422).
    Invalid,
    /// It made sense and failed (500).
    Failed,
}

/// Everything that can be shown: commands, API and metrics are views of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// Version of this schema: 1.
    pub schema: u32,
    /// The instance's name.
    pub instance: String,
    /// The agent's version.
    pub version: String,
    /// Rises with every change of the desired state, from 1.
    pub revision: u64,
    /// Since the agent's start, in seconds.
    pub uptime_seconds: u64,
    /// Where the program is attached.
    pub interfaces: Vec<InterfaceView>,
    /// Every service.
    pub services: Vec<ServiceView>,
    /// Sessions in the datapath.
    pub sessions: SessionsView,
    /// Verdicts by reason, zeros included.
    pub verdicts: Vec<VerdictView>,
    /// What an operator should know, in sentences.
    pub warnings: Vec<String>,
}

impl Snapshot {
    /// The service of that name, or the refusal that says there is none.
    pub fn service(&self, name: &str) -> Result<&ServiceView, Refusal> {
        self.services.iter().find(|service| service.name.0 == name).ok_or_else(|| Refusal {
            code: RefusalCode::NotFound,
            message: format!("service \"{name}\": there is none of that name"),
            hint: Some("see: weir service list".into()),
        })
    }
}

/// An interface that the program is attached to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InterfaceView {
    /// The kernel's name.
    pub name: String,
    /// The kernel's index.
    pub ifindex: u32,
    /// How it is attached in fact: native or generic.
    pub mode: AttachMode,
    /// The kernel's id of the attached program.
    pub program_id: u32,
}

impl InterfaceView {
    /// The name of its mode in commands and metrics.
    pub const fn mode_name(&self) -> &'static str {
        match self.mode {
            AttachMode::Native => "native",
            AttachMode::Generic => "generic",
            AttachMode::Auto => "auto",
        }
    }
}

/// Sessions in the datapath, as of the last sweep.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct SessionsView {
    /// Those that can still carry data.
    pub open: u64,
    /// Those whose tuple is in quarantine after the connection's end.
    pub closing: u64,
    /// Most that can be.
    pub capacity: u64,
}

/// One counter of verdicts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VerdictView {
    /// `pass`, `drop` or `transmit`.
    pub verdict: String,
    /// The reason's name, or the direction's.
    pub reason: String,
    /// Packets since the maps were made.
    pub packets: u64,
}

/// A service as it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub name: ServiceName,
    /// Where clients send to.
    pub vip: Ipv4Addr,
    /// The port clients send to.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The placement policy's name.
    pub policy: String,
    /// The forwarding mode's name.
    pub mode: String,
    /// Whose address the backends see.
    pub source: SourceMode,
    /// Active probing.
    pub health: Option<HealthCheck>,
    /// Whether the file has it or a change at run time made it.
    pub origin: Origin,
    /// Every backend, those on their way out too.
    pub backends: Vec<BackendView>,
    /// What went through it.
    pub traffic: TrafficView,
}

impl ServiceView {
    /// The name of its source mode in commands.
    pub const fn source_name(&self) -> &'static str {
        match self.source {
            SourceMode::Balancer => "balancer",
            SourceMode::Preserve => "preserve",
        }
    }

    /// VIP, port and protocol in one word: `192.0.2.10:80/tcp`.
    pub fn endpoint(&self) -> String {
        format!("{}:{}/{}", self.vip, self.port, self.protocol)
    }

    /// The backend of that address, or the refusal that says there is none. One that stays goes before one that leaves.
    pub fn backend(&self, address: SocketAddrV4) -> Result<&BackendView, Refusal> {
        let candidates = self.backends.iter().filter(|backend| backend.address == address);
        candidates.min_by_key(|backend| backend.leaving).ok_or_else(|| Refusal {
            code: RefusalCode::NotFound,
            message: format!("service \"{}\": it has no backend {address}", self.name),
            hint: Some(format!("see: weir backend list {}", self.name)),
        })
    }

    /// Its backends, each with the service's name beside it.
    pub fn rows(&self) -> impl Iterator<Item = BackendRow> {
        self.backends.iter().map(|backend| BackendRow { service: self.name.clone(), backend: backend.clone() })
    }
}

/// Where an object comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The config file, unchanged.
    File,
    /// Made or changed at run time.
    Runtime,
}

impl Origin {
    /// The name in commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Runtime => "runtime",
        }
    }
}

/// A backend with its service's name, as lists of backends show it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BackendRow {
    /// Of which service.
    pub service: ServiceName,
    /// All of it.
    #[serde(flatten)]
    pub backend: BackendView,
}

/// A backend as it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BackendView {
    /// Address and port.
    pub address: SocketAddrV4,
    /// Its weight.
    pub weight: u16,
    /// What the operator wants of it.
    pub state: AdminState,
    /// Removed, and kept until its connections have ended.
    pub leaving: bool,
    /// What probes say.
    pub health: Health,
    /// The last probe's failure, in words.
    pub health_detail: Option<String>,
    /// Since the health last changed, in seconds.
    pub health_seconds: u64,
    /// The next hop's MAC address; absent while it is not known.
    pub next_hop: Option<String>,
    /// The address that it sees as the sender, where that is the balancer's.
    pub source: Option<Ipv4Addr>,
    /// Whether it takes new flows now.
    pub eligible: bool,
    /// Whether the file has it or a change at run time made it.
    pub origin: Origin,
    /// Sessions that can still carry data, as of the last sweep.
    pub sessions_open: u64,
    /// Sessions whose tuple is in quarantine after the connection's end.
    pub sessions_closing: u64,
    /// What went through it.
    pub traffic: TrafficView,
}

/// What went through a service or backend since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct TrafficView {
    /// Flows placed.
    pub flows: u64,
    /// Packets from clients to backends.
    pub forward_packets: u64,
    /// Bytes from clients to backends.
    pub forward_bytes: u64,
    /// Packets from backends to clients.
    pub return_packets: u64,
    /// Bytes from backends to clients.
    pub return_bytes: u64,
}
