//! The lab: a client, a balancer and backends in network namespaces of their own, joined by one switch.
//!
//! ```text
//! NAME-client    eth0 10.10.0.10 ..  --+
//! NAME-balancer  eth0 10.10.0.1        |
//!                     10.10.0.100 VIP  +-- NAME-switch, a bridge
//!                     10.20.0.1        |
//! NAME-backendN  eth0 10.20.0.(10+N) --+
//! ```
//!
//! Clients and backends share a wire, and still reach each other through the balancer alone: it is everybody's gateway.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_userspace::datapath::load;
use serde_json::Value;

use crate::netns::{self, Namespace};
use crate::{command, wait};

/// The client's first address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 10);
/// The balancer's address among the clients.
pub const BALANCER: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);
/// The services' address.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 100);
/// The balancer's address among the backends.
pub const BALANCER_INSIDE: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 1);
/// The one interface of every host.
pub const INTERFACE: &str = "eth0";
/// Most backends and most addresses of the client.
pub const HOSTS_MAX: u8 = 80;

const BRIDGE: &str = "br0";
const LINKS_LIMIT: Duration = Duration::from_secs(20);

/// The address of backend `number`, from 1.
pub const fn backend_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 20, 0, 10 + number)
}

/// The client's address `number`, from 0.
pub const fn client_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 10, 0, 10 + number)
}

/// A port of the services' address.
pub const fn vip(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(VIP), port)
}

/// How large a lab is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// How many backends: 1 to [`HOSTS_MAX`].
    pub backends: u8,
    /// How many addresses the client has: 1 to [`HOSTS_MAX`].
    pub client_addresses: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self { backends: 3, client_addresses: 1 }
    }
}

/// A lab that stands; its namespaces go with this value.
#[derive(Debug)]
pub struct Lab {
    name: String,
    options: Options,
    namespaces: Vec<Namespace>,
}

impl Lab {
    /// Makes a lab, after removing what another one of this name left. When a step fails, nothing is left.
    pub fn up(name: &str, options: Options) -> Result<Self> {
        check(name, options)?;
        remove(name)?;
        let mut lab = Self { name: name.into(), options, namespaces: Vec::new() };
        for host in lab.hosts().into_iter().chain(["switch".into()]) {
            lab.namespaces.push(Namespace::create(&lab.namespace(&host))?);
        }
        lab.set_kernel_values()?;
        lab.connect()?;
        lab.set_offloads()?;
        lab.let_xdp_transmit()?;
        let up = || status(name).is_ok_and(|hosts| hosts.iter().all(|host| host.up));
        wait::holds(&format!("the links of lab {name}"), LINKS_LIMIT, up)?;
        Ok(lab)
    }

    /// Leaves the lab standing; [`remove`] takes it down.
    pub fn keep(self) {
        self.namespaces.into_iter().for_each(Namespace::keep);
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace of a host: `client`, `balancer`, `backend1`, ..., `switch`.
    pub fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    /// The client's namespace.
    pub fn client(&self) -> String {
        self.namespace("client")
    }

    /// The balancer's namespace.
    pub fn balancer(&self) -> String {
        self.namespace("balancer")
    }

    /// The namespace of backend `number`, from 1.
    pub fn backend(&self, number: u8) -> String {
        self.namespace(&format!("backend{number}"))
    }

    fn hosts(&self) -> Vec<String> {
        let backends = (1..=self.options.backends).map(|number| format!("backend{number}"));
        ["client".into(), "balancer".into()].into_iter().chain(backends).collect()
    }

    /// Before there are links, so that links are made with them.
    fn set_kernel_values(&self) -> Result<()> {
        for host in self.hosts() {
            let mut values = Vec::new();
            for of in ["all", "default"] {
                let of = |value| format!("net/ipv4/conf/{of}/{value}");
                values.push((of("rp_filter"), "0"));
                // Both subnets are on one wire: a router that says so would be out of every path from then on.
                values.push((of("send_redirects"), "0"));
                values.push((of("accept_redirects"), "0"));
            }
            if Path::new("/proc/sys/net/ipv6").exists() {
                // Nobody else has our addresses: they are usable at once, not after a second of asking around.
                values.push(("net/ipv6/conf/all/accept_dad".into(), "0"));
                values.push(("net/ipv6/conf/default/accept_dad".into(), "0"));
            }
            match host.as_str() {
                "balancer" => values.push(("net/ipv4/ip_forward".into(), "1")),
                "client" => {
                    // Room for thousands of connections per second to one VIP and port.
                    values.push(("net/ipv4/ip_local_port_range".into(), "1024 65000"));
                    values.push(("net/ipv4/tcp_tw_reuse".into(), "1"));
                }
                _ => {}
            }
            let namespace = self.namespace(&host);
            netns::run(&namespace, || {
                values.iter().try_for_each(|(name, value)| {
                    fs::write(format!("/proc/sys/{name}"), value)
                        .with_context(|| format!("{namespace}: {name} cannot be set to {value}"))
                })
            })??;
        }
        Ok(())
    }

    fn connect(&self) -> Result<()> {
        let mut switch = vec![
            "link set lo up".to_owned(),
            format!("link add name {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"),
            format!("link set {BRIDGE} up"),
        ];
        for port in self.hosts() {
            switch
                .push(format!("link add name {port} type veth peer name {INTERFACE} netns {}", self.namespace(&port)));
            switch.push(format!("link set {port} master {BRIDGE} up"));
        }
        command::ip_batch(Some(&self.namespace("switch")), &switch)?;
        for host in self.hosts() {
            let mut lines = vec!["link set lo up".into(), format!("link set {INTERFACE} up")];
            lines.extend(self.addresses(&host).iter().map(|address| format!("address add {address} dev {INTERFACE}")));
            match host.as_str() {
                "balancer" => {}
                "client" => lines.push(format!("route add default via {BALANCER}")),
                _ => lines.push(format!("route add default via {BALANCER_INSIDE}")),
            }
            command::ip_batch(Some(&self.namespace(&host)), &lines)?;
        }
        Ok(())
    }

    fn addresses(&self, host: &str) -> Vec<String> {
        match host {
            "client" => (0..self.options.client_addresses).map(|at| format!("{}/24", client_address(at))).collect(),
            "balancer" => vec![format!("{BALANCER}/24"), format!("{BALANCER_INSIDE}/24"), format!("{VIP}/32")],
            backend => {
                let number = backend.strip_prefix("backend").and_then(|number| number.parse().ok());
                number.map(|number| format!("{}/24", backend_address(number))).into_iter().collect()
            }
        }
    }

    /// Full checksums in every frame, since a rewrite cannot mend partial ones, and NAPI (which GRO brings) on the
    /// switch's side.
    fn set_offloads(&self) -> Result<()> {
        let off = ["tx", "off", "tso", "off", "gso", "off"];
        for host in self.hosts() {
            let set = |interface: &str, more: &[&str]| {
                command::run(Command::new("ethtool").args(["-K", interface]).args(off).args(more))
            };
            netns::run(&self.namespace(&host), || set(INTERFACE, &[]))??;
            netns::run(&self.namespace("switch"), || set(&host, &["gro", "on"]))??;
        }
        Ok(())
    }

    /// Frames that XDP transmits in the balancer arrive at the switch, and at once: GRO lets the other end of a veth poll,
    /// but only an XDP program there makes the kernel (`veth_xdp_flush`) ask it to. Without one a frame stays in the ring
    /// until some other happens to come along.
    fn let_xdp_transmit(&self) -> Result<()> {
        let pin = PathBuf::from(format!("/sys/fs/bpf/weir-lab-{}", self.name));
        let _left_by_a_crash = fs::remove_file(&pin);
        load::pin_pass_program(&pin)?;
        let mut attach = Command::new("ip");
        attach.args(["link", "set", "dev", "balancer", "xdpdrv", "pinned"]).arg(&pin);
        // Entered by hand: `ip -n` would hide the pin behind a /sys of its own.
        let attached = netns::run(&self.namespace("switch"), || command::run(&mut attach));
        fs::remove_file(&pin)?;
        attached?.map(drop)
    }
}

/// One namespace of a lab, as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostStatus {
    /// Its name.
    pub namespace: String,
    /// Whether there are links and all of them are up.
    pub up: bool,
    /// Global addresses with their prefix lengths.
    pub addresses: Vec<String>,
    /// The ids of processes in it.
    pub processes: Vec<u32>,
}

/// What there is of the lab of a name; empty when there is none.
pub fn status(name: &str) -> Result<Vec<HostStatus>> {
    namespaces(name)?.into_iter().map(host_status).collect()
}

/// Takes down what there is of the lab of a name. Processes in it go on, without a network.
pub fn remove(name: &str) -> Result<()> {
    namespaces(name)?.iter().try_for_each(|namespace| netns::delete(namespace))
}

fn host_status(namespace: String) -> Result<HostStatus> {
    let links = command::run(Command::new("ip").args(["-n", &namespace, "-json", "address", "show"]))?;
    let links: Vec<Value> =
        serde_json::from_str(&links).with_context(|| format!("{namespace}: ip -json address show is not JSON"))?;
    let real: Vec<&Value> = links.iter().filter(|link| link["ifname"] != "lo").collect();
    let addresses = real.iter().flat_map(|link| link["addr_info"].as_array().into_iter().flatten());
    let addresses = addresses.filter(|address| address["scope"] == "global").map(|address| {
        let (local, length) = (address["local"].as_str().unwrap_or_default(), &address["prefixlen"]);
        format!("{local}/{length}")
    });
    Ok(HostStatus {
        up: !real.is_empty() && real.iter().all(|link| link["operstate"] == "UP"),
        addresses: addresses.collect(),
        processes: netns::processes(&namespace)?,
        namespace,
    })
}

fn namespaces(lab: &str) -> Result<Vec<String>> {
    let mut names: Vec<String> = netns::list()?.into_iter().filter(|name| belongs(name, lab)).collect();
    names.sort_unstable();
    Ok(names)
}

fn belongs(namespace: &str, lab: &str) -> bool {
    match namespace.strip_prefix(lab).and_then(|rest| rest.strip_prefix('-')) {
        Some("client" | "balancer" | "switch") => true,
        Some(host) => host.strip_prefix("backend").is_some_and(|number| number.parse::<u8>().is_ok()),
        None => false,
    }
}

fn check(name: &str, options: Options) -> Result<()> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ensure!(
        !name.is_empty() && name.len() <= 63 && name.chars().all(fine),
        "lab {name:?}: a name has 1 to 63 lowercase letters, digits and hyphens"
    );
    for (what, number) in [("backends", options.backends), ("client addresses", options.client_addresses)] {
        ensure!((1..=HOSTS_MAX).contains(&number), "lab {name:?}: {number} {what}; there can be 1 to {HOSTS_MAX}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_owns_its_own_namespaces_and_no_other_labs() {
        for own in ["lab-client", "lab-balancer", "lab-switch", "lab-backend1", "lab-backend80"] {
            assert!(belongs(own, "lab"), "{own}");
        }
        for foreign in ["lab", "lab-", "lab-x-client", "xlab-client", "lab-backend", "lab-backendx", "lab-clients"] {
            assert!(!belongs(foreign, "lab"), "{foreign}");
        }
    }

    #[test]
    fn names_and_sizes_have_limits() {
        assert!(check("a-lab-7", Options::default()).is_ok());
        for bad in ["", "a/b", "A", "a b", &"x".repeat(64)] {
            assert!(check(bad, Options::default()).is_err(), "{bad:?}");
        }
        for (backends, fine) in [(0, false), (1, true), (HOSTS_MAX, true), (HOSTS_MAX + 1, false)] {
            assert_eq!(check("lab", Options { backends, ..Options::default() }).is_ok(), fine, "{backends}");
        }
    }
}
