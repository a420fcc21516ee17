//! The validated config: only valid values exist, whatever the file said.
//!
//! Also what the API's changes are applied to: the effective config is the file's plus the changes made at run time.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use lb_common::abi::{Policy, ServiceKey};
use lb_common::addr::{Address, Port, Protocol};
use serde::{Deserialize, Serialize};

/// Where metrics are served when the file does not say.
pub const METRICS_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_850);
/// How long a removed backend may keep its connections when nobody says.
pub const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_mins(5);
/// A backend's weight when nobody says.
pub const WEIGHT_DEFAULT: u16 = 100;

/// Everything one instance of the agent is asked to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Where the program is attached. At least one.
    pub interfaces: Vec<Interface>,
    /// How addresses towards the backends are made.
    pub nat: Nat,
    /// How long silent sessions are kept.
    pub timeouts: Timeouts,
    /// Most sessions at once; a power of two.
    pub sessions: u32,
    /// Where metrics are served over HTTP; `None` turns them off.
    pub metrics: Option<SocketAddr>,
    /// What is balanced. Names are unique, and so are VIP, port and protocol.
    pub services: Vec<Service>,
}

/// A network interface that the program is attached to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// The kernel's name.
    pub name: String,
    /// How to attach.
    pub mode: AttachMode,
}

/// How the program is attached to an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachMode {
    /// In the driver, or not at all.
    Native,
    /// In the stack, on any device: slow.
    Generic,
    /// In the driver, else in the stack with a loud warning.
    Auto,
}

impl AttachMode {
    /// The name in commands and config.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Auto => "auto",
        }
    }
}

/// Ports and address towards the backends of services whose source is the balancer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nat {
    /// First port.
    pub port_first: u16,
    /// Last port, included.
    pub port_last: u16,
    /// The address, when not the one that the kernel's route to the backend prefers.
    pub source: Option<Ipv4Addr>,
}

/// Ports below those that Linux gives to the host's own connections (`ip_local_port_range`).
impl Default for Nat {
    fn default() -> Self {
        Self { port_first: 1_024, port_last: 32_767, source: None }
    }
}

/// How long a session may be silent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// A SYN without an answer.
    pub half_open: Duration,
    /// An established TCP connection.
    pub established: Duration,
    /// A TCP connection that one side has closed.
    pub half_closed: Duration,
    /// A TCP connection that both sides have closed, or that was reset: its NAT port's quarantine.
    pub closing: Duration,
    /// UDP without an answer.
    pub udp_one_way: Duration,
    /// UDP in both directions.
    pub udp_both_ways: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            half_open: Duration::from_mins(1),
            established: Duration::from_mins(124), // 7,440 s: RFC 5382, REQ-5
            half_closed: Duration::from_mins(5),
            closing: Duration::from_mins(1),
            udp_one_way: Duration::from_secs(30),
            udp_both_ways: Duration::from_mins(5), // RFC 4787, REQ-5
        }
    }
}

/// A service's name: lowercase letters, digits, `-`, `_` and `.`, at most 63, starting with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceName(pub String);

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is balanced.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Service {
    /// What people call it.
    pub name: ServiceName,
    /// Where clients send to.
    pub vip: Ipv4Addr,
    /// The port clients send to.
    pub port: u16,
    /// TCP or UDP.
    #[serde(with = "protocol_name")]
    pub protocol: Protocol,
    /// How new flows find a backend.
    #[serde(with = "policy_name")]
    pub policy: Policy,
    /// Whose address the backends see.
    pub source: SourceMode,
    /// How backends are probed; `None` takes every backend for healthy.
    pub health: Option<HealthCheck>,
    /// Where traffic goes. Addresses are unique.
    pub backends: Vec<Backend>,
    /// How long a removed backend may keep its connections.
    #[serde(with = "duration_ms")]
    pub drain_timeout: Duration,
}

impl Service {
    /// What names it in the datapath.
    pub fn key(&self) -> ServiceKey {
        ServiceKey { vip: Address::from(self.vip), port: Port::new(self.port), protocol: self.protocol }
    }
}

/// Whose address the backends see.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceMode {
    /// The balancer's.
    Balancer,
    /// The client's own; the balancer must be the backends' gateway.
    Preserve,
}

impl SourceMode {
    /// The name in commands and config.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Balancer => "balancer",
            Self::Preserve => "preserve",
        }
    }
}

/// Active probing of a service's backends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HealthCheck {
    /// From the start of one probe to the start of the next.
    #[serde(with = "duration_ms")]
    pub interval: Duration,
    /// How long one probe may take; not above the interval.
    #[serde(with = "duration_ms")]
    pub timeout: Duration,
    /// Successes in a row that make a backend healthy.
    pub rise: u32,
    /// Failures in a row that make it unhealthy.
    pub fall: u32,
    /// Another port to probe than the backend's own.
    pub port: Option<u16>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self { interval: Duration::from_secs(2), timeout: Duration::from_secs(1), rise: 2, fall: 3, port: None }
    }
}

/// Where traffic goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Backend {
    /// Address and port.
    pub address: SocketAddrV4,
    /// Its share relative to the others'; 0 means no new flows.
    pub weight: u16,
    /// What the operator wants of it.
    pub state: AdminState,
}

/// What the operator wants of a backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdminState {
    /// Takes new flows.
    Active,
    /// Keeps the flows it has, takes no new ones.
    Draining,
    /// Takes no packet at all.
    Disabled,
}

impl AdminState {
    /// The name in commands and config.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }
}

/// Names of protocols in JSON.
pub(super) mod protocol_name {
    use lb_common::addr::Protocol;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's shape")]
    pub fn serialize<S: Serializer>(protocol: &Protocol, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(protocol.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Protocol, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            other => Err(serde::de::Error::custom(format!("protocol {other:?} is neither \"tcp\" nor \"udp\""))),
        }
    }
}

/// Names of policies in JSON.
pub(super) mod policy_name {
    use lb_common::abi::Policy;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's shape")]
    pub fn serialize<S: Serializer>(policy: &Policy, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(policy.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Policy, D::Error> {
        let name = String::deserialize(deserializer)?;
        super::policy_by_name(&name)
            .ok_or_else(|| serde::de::Error::custom(format!("there is no placement policy {name:?}")))
    }
}

/// A policy by our name or by one that operators know from elsewhere.
pub fn policy_by_name(name: &str) -> Option<Policy> {
    match name {
        "maglev" | "mh" => Some(Policy::Maglev),
        "round-robin" | "roundrobin" | "rr" | "wrr" => Some(Policy::RoundRobin),
        "random" => Some(Policy::Random),
        _ => None,
    }
}

/// Durations in JSON, as whole milliseconds.
pub(super) mod duration_ms {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
