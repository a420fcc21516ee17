//! The grammar of the command line: what cannot be meant is refused here, before anything is asked of the agent.

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lb_common::abi::Policy;
use lb_common::addr::Protocol;
use lb_common::limits::WEIGHT_MAX;
use lb_common::names::INSTANCE_DEFAULT;

use crate::agent::options::{InstanceName, LogFormat};
use crate::config::{ServiceName, SourceMode, WEIGHT_DEFAULT, parse_duration, parse_service_name, policy_by_name};

/// Weir, a layer-4 load balancer in XDP.
///
/// `weir run` is the agent; every other command talks to it. Exit codes: 0 done, 1 failed or refused, 2 usage,
/// 3 invalid config, 4 no agent answers, 5 the host cannot do it.
#[derive(Parser, Debug)]
#[command(name = "weir", version, propagate_version = true, max_term_width = 100)]
pub(super) struct Cli {
    /// Which agent: 1 to 32 lowercase letters, digits, "-" and "_"
    #[arg(long, global = true, env = "WEIR_INSTANCE", value_name = "NAME", default_value = INSTANCE_DEFAULT)]
    pub instance: InstanceName,
    /// How answers are written; under json errors are JSON too, on standard error
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", default_value = "table")]
    pub output: Output,
    /// The agent's socket, when it is not /run/weir/INSTANCE.sock: for tests and unusual set-ups
    #[arg(long, global = true, hide = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

/// How answers are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Output {
    /// Text for people.
    Table,
    /// The API's JSON.
    Json,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Run the agent in the foreground
    Run(RunArgs),
    #[command(flatten)]
    Ask(Ask),
    /// Look at config files, without an agent
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the version
    Version,
}

/// What only a running agent can answer.
#[derive(Subcommand, Debug)]
pub(super) enum Ask {
    /// Show on one screen what works and what does not
    Status,
    /// Show and change services
    Service {
        #[command(subcommand)]
        command: ServiceCommand,
    },
    /// Show and change backends
    Backend {
        #[command(subcommand)]
        command: BackendCommand,
    },
    /// Print the metrics, as Prometheus reads them
    Metrics,
    /// Take the datapath off the interfaces and end the agent: traffic to the VIPs stops being balanced
    Detach,
}

#[derive(Subcommand, Debug)]
pub(super) enum ConfigCommand {
    /// Say everything that is wrong with a config file; exit code 3 if anything is
    Check {
        /// The config file
        file: PathBuf,
    },
}

#[derive(Args, Debug)]
pub(super) struct RunArgs {
    /// The config file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Where changes made at run time are kept
    #[arg(long, value_name = "DIR", default_value = "/var/lib/weir")]
    pub state_dir: PathBuf,
    /// The form of log records, on standard error
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// error, warn, info, debug or trace; or one for each part, such as `info,lb_userspace::health=debug`
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
}

#[derive(Subcommand, Debug)]
pub(super) enum ServiceCommand {
    /// List all services
    List,
    /// Show one service and its backends
    Show { name: String },
    /// Add a service
    Add(ServiceAdd),
    /// Change a service; what is not named stays
    Set(ServiceSet),
    /// Remove a service: its VIP and port are no longer ours
    Remove {
        #[arg(value_parser = parse_service_name)]
        name: ServiceName,
    },
}

#[derive(Args, Debug)]
pub(super) struct ServiceAdd {
    /// Lowercase letters, digits, "-", "_" and ".", at most 63
    #[arg(value_parser = parse_service_name)]
    pub name: ServiceName,
    /// Where clients send to
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = endpoint)]
    pub vip: SocketAddrV4,
    /// tcp or udp
    #[arg(long, value_parser = protocol, default_value = "tcp")]
    pub protocol: Protocol,
    /// How new flows find a backend: maglev, round-robin or random
    #[arg(long, value_parser = policy, default_value = "maglev")]
    pub policy: Policy,
    /// Whose address the backends see: balancer or preserve
    #[arg(long, value_parser = source, default_value = "balancer")]
    pub source: SourceMode,
    /// How long a removed backend may keep its connections
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5m")]
    pub drain_timeout: Duration,
    #[command(flatten)]
    pub health: HealthArgs,
}

#[derive(Args, Debug)]
pub(super) struct ServiceSet {
    #[arg(value_parser = parse_service_name)]
    pub name: ServiceName,
    /// How new flows find a backend: maglev, round-robin or random
    #[arg(long, value_parser = policy)]
    pub policy: Option<Policy>,
    /// Whose address the backends see: balancer or preserve
    #[arg(long, value_parser = source)]
    pub source: Option<SourceMode>,
    #[command(flatten)]
    pub health: HealthArgs,
}

#[derive(Args, Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct HealthArgs {
    /// How backends are probed; off takes every backend for healthy. New services: tcp, or off for udp
    #[arg(long, value_enum)]
    pub health: Option<ProbeKind>,
    /// From the start of one probe to the start of the next [new services: 2s]
    #[arg(long, value_name = "TIME", value_parser = time_above_zero)]
    pub interval: Option<Duration>,
    /// How long one probe may take, not above the interval [new services: 1s]
    #[arg(long, value_name = "TIME", value_parser = time_above_zero)]
    pub timeout: Option<Duration>,
    /// Successes in a row that make a backend healthy [new services: 2]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rise: Option<u32>,
    /// Failures in a row that make a backend unhealthy [new services: 3]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub fall: Option<u32>,
    /// Another port to probe than the backend's own
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub probe_port: Option<u16>,
}

/// How backends are probed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum ProbeKind {
    /// Not at all.
    Off,
    /// By making a TCP connection.
    Tcp,
}

#[derive(Subcommand, Debug)]
pub(super) enum BackendCommand {
    /// List the backends of one service, or of all
    List { service: Option<String> },
    /// Show one backend
    Show {
        service: String,
        #[arg(value_name = "ADDRESS:PORT", value_parser = endpoint)]
        address: SocketAddrV4,
    },
    /// Add a backend to a service
    Add {
        #[command(flatten)]
        which: Which,
        /// Its share relative to the others', 0 to 1000; 0 means no new flows
        #[arg(long, default_value_t = WEIGHT_DEFAULT, value_parser = clap::value_parser!(u16).range(0..=i64::from(WEIGHT_MAX)))]
        weight: u16,
    },
    /// Change a backend
    Set {
        #[command(flatten)]
        which: Which,
        /// Its share relative to the others', 0 to 1000; 0 means no new flows
        #[arg(long, value_parser = clap::value_parser!(u16).range(0..=i64::from(WEIGHT_MAX)))]
        weight: u16,
    },
    /// Send a backend no new flows; it keeps those it has
    Drain(Which),
    /// End a drain: the backend takes new flows again
    Undrain(Which),
    /// Send a backend no packet at all: its connections break
    Disable(Which),
    /// Bring a disabled backend back
    Enable(Which),
    /// Remove a backend; it keeps its connections until they end or the service's drain timeout does
    Remove {
        #[command(flatten)]
        which: Which,
        /// Cut its connections now
        #[arg(long)]
        now: bool,
    },
}

/// One backend.
#[derive(Args, Clone, Debug)]
pub(super) struct Which {
    /// The service
    #[arg(value_parser = parse_service_name)]
    pub service: ServiceName,
    /// The backend
    #[arg(value_name = "ADDRESS:PORT", value_parser = endpoint)]
    pub address: SocketAddrV4,
}

fn time_above_zero(text: &str) -> Result<Duration, String> {
    parse_duration(text).and_then(|time| if time.is_zero() { Err("it must be above 0".into()) } else { Ok(time) })
}

fn endpoint(text: &str) -> Result<SocketAddrV4, String> {
    match text.parse::<SocketAddrV4>() {
        Ok(endpoint) if endpoint.port() != 0 => Ok(endpoint),
        Ok(_) => Err("port 0 cannot be used".into()),
        Err(_) => Err("write an IPv4 address and a port, such as 192.0.2.10:80".into()),
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    let known = [Protocol::Tcp, Protocol::Udp].into_iter().find(|protocol| protocol.name() == text);
    known.ok_or_else(|| "choose tcp or udp".into())
}

fn policy(text: &str) -> Result<Policy, String> {
    policy_by_name(text).ok_or_else(|| format!("choose one of: {}", Policy::ALL.map(Policy::name).join(", ")))
}

fn source(text: &str) -> Result<SourceMode, String> {
    match text {
        "balancer" => Ok(SourceMode::Balancer),
        "preserve" => Ok(SourceMode::Preserve),
        _ => Err("choose balancer or preserve".into()),
    }
}
