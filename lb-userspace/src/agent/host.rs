//! What the host must have and must not have, looked at before anything is loaded.

use std::collections::BTreeMap;
use std::fs;

use lb_common::limits::{DEVICE_PROBES, device_index};

use super::AgentError;
use crate::config::{AttachMode, Interface, Nat};
use crate::network::{self, Link};

/// Where the kernel says which ports it gives to the host's own connections.
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// An interface that the program is to be on.
#[derive(Clone, Debug)]
pub struct Device {
    /// As it was at the start.
    pub link: Link,
    /// How to attach.
    pub mode: AttachMode,
}

/// Refuses a NAT range that the host's own connections use: an answer to one of them would be taken for a flow's, or a
/// flow would take its port.
pub fn check_ports(nat: &Nat) -> Result<(), AgentError> {
    let text = fs::read_to_string(EPHEMERAL).map_err(|error| AgentError::Host(format!("{EPHEMERAL}: {error}")))?;
    let range: Vec<u16> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [first, last] = range[..] else {
        return Err(AgentError::Host(format!("{EPHEMERAL}: {text:?} is not two ports")));
    };
    if nat.port_first <= last && first <= nat.port_last {
        return Err(AgentError::Conflict(format!(
            "nat.ports {}-{} overlaps the ports {first}-{last} that the kernel gives to this host's own connections \
             ({EPHEMERAL}); choose others, or move the kernel's: sysctl -w net.ipv4.ip_local_port_range=\"FIRST LAST\"",
            nat.port_first, nat.port_last
        )));
    }
    Ok(())
}

/// The interfaces of the config, by the index that they have in the datapath.
pub async fn devices(interfaces: &[Interface]) -> Result<BTreeMap<u16, Device>, AgentError> {
    let mut devices = BTreeMap::new();
    for interface in interfaces {
        let link = network::find(&interface.name).await?;
        if link.mac == [0; 6] {
            return Err(AgentError::Host(format!(
                "interface \"{}\": it has no Ethernet address, so no frame could be sent through it; choose another",
                interface.name
            )));
        }
        let free = (0..DEVICE_PROBES)
            .filter_map(|probe| u16::try_from(device_index(link.ifindex, probe)).ok())
            .find(|index| !devices.contains_key(index));
        let Some(index) = free else {
            return Err(AgentError::Host(format!(
                "interface \"{}\": its kernel index {} falls together with {DEVICE_PROBES} others' in the datapath's table; make \
                 the interface anew to give it another index",
                interface.name, link.ifindex
            )));
        };
        devices.insert(index, Device { link, mode: interface.mode });
    }
    Ok(devices)
}
