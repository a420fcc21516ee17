//! What is known of the kernel's tables, and the view derived from it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use lb_common::addr::Hop;
use rtnetlink::packet_route::neighbour::NeighbourState;

use super::message::{Event, Lookup, Neighbour, NeighbourKey};
use super::{Link, NetworkView, Route};

/// A copy of the kernel's tables, as far as they concern the targets.
#[derive(Default)]
pub(super) struct Mirror {
    /// Device indexes by interface: those that the program is attached to.
    devices: BTreeMap<u32, u16>,
    links: BTreeMap<u32, Link>,
    /// On those interfaces only.
    neighbours: BTreeMap<NeighbourKey, Neighbour>,
    /// By target; `None` until looked up.
    lookups: BTreeMap<Ipv4Addr, Option<Lookup>>,
    /// Targets whose lookup is missing or may be out of date.
    outdated: BTreeSet<Ipv4Addr>,
    /// Whether the view may be another than when it was last taken.
    changed: bool,
}

impl Mirror {
    pub fn new(devices: impl IntoIterator<Item = (u16, u32)>) -> Self {
        let devices = devices.into_iter().map(|(device, ifindex)| (ifindex, device)).collect();
        Self { devices, ..Self::default() }
    }

    /// Replaces the targets; what is known of those that stay is kept.
    pub fn set_targets(&mut self, targets: &BTreeSet<Ipv4Addr>) {
        self.lookups.retain(|target, _| targets.contains(target));
        self.outdated.retain(|target| targets.contains(target));
        for target in targets {
            if let Entry::Vacant(vacant) = self.lookups.entry(*target) {
                vacant.insert(None);
                self.outdated.insert(*target);
            }
        }
        self.changed = true;
    }

    /// Replaces the tables, and holds every lookup for out of date.
    pub fn replace(&mut self, links: BTreeMap<u32, Link>, neighbours: BTreeMap<NeighbourKey, Neighbour>) {
        self.links = links;
        self.neighbours = neighbours;
        self.neighbours.retain(|(ifindex, _), _| self.devices.contains_key(ifindex));
        self.outdate_all();
    }

    /// Takes in a change that the kernel has told.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Link(link) => {
                // Notifications about a link repeat for many reasons that do not concern us.
                if self.links.get(&link.ifindex) != Some(&link) {
                    self.links.insert(link.ifindex, link);
                    self.outdate_all();
                }
            }
            Event::LinkGone(ifindex) => {
                self.links.remove(&ifindex);
                self.outdate_all();
            }
            Event::Neighbour(key, neighbour) => {
                if self.devices.contains_key(&key.0) {
                    let former = self.neighbours.insert(key, neighbour);
                    // Entries age all the time, which changes no next hop.
                    self.changed |= former.and_then(|n| n.usable_mac()) != neighbour.usable_mac()
                        || neighbour.state == NeighbourState::Noarp;
                }
            }
            Event::NeighbourGone(key) => self.changed |= self.neighbours.remove(&key).is_some(),
            Event::Routes { prefix, length } => {
                let within = |target: &&Ipv4Addr| covers(prefix, length, **target);
                self.outdated.extend(self.lookups.keys().filter(within));
            }
            // Whoever sees an overrun reads all tables anew; until then, no lookup is to be trusted.
            Event::AllRoutes | Event::Overrun => self.outdate_all(),
        }
    }

    fn outdate_all(&mut self) {
        self.changed = true;
        self.outdated.extend(self.lookups.keys());
    }

    /// The targets to be looked up.
    pub fn outdated(&self) -> Vec<Ipv4Addr> {
        self.outdated.iter().copied().collect()
    }

    /// Takes in the kernel's answer for a target.
    pub fn looked_up(&mut self, target: Ipv4Addr, lookup: Lookup) {
        self.outdated.remove(&target);
        if let Some(known) = self.lookups.get_mut(&target) {
            self.changed |= known.as_ref() != Some(&lookup);
            *known = Some(lookup);
        }
    }

    /// Neighbours that targets need and that have no usable entry.
    pub fn unresolved(&self) -> BTreeSet<NeighbourKey> {
        self.needed().filter(|key| self.neighbours.get(key).and_then(Neighbour::usable_mac).is_none()).collect()
    }

    /// Neighbours that targets need and that nobody has heard of for a while.
    pub fn stale(&self) -> BTreeSet<NeighbourKey> {
        let stale = |key: &NeighbourKey| self.neighbours.get(key).is_some_and(|n| n.state == NeighbourState::Stale);
        self.needed().filter(stale).collect()
    }

    /// Neighbours that targets need, on devices that are up.
    fn needed(&self) -> impl Iterator<Item = NeighbourKey> {
        self.lookups.iter().filter_map(|(target, lookup)| match lookup {
            Some(Lookup::Leaves { ifindex, gateway, .. }) => {
                let usable = self.devices.contains_key(ifindex) && self.links.get(ifindex).is_some_and(|l| l.up);
                usable.then_some((*ifindex, gateway.unwrap_or(*target)))
            }
            _ => None,
        })
    }

    /// What all this means for the targets that have been looked up, if it may be something new.
    pub fn take_view(&mut self) -> Option<NetworkView> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let known = self.lookups.iter().filter_map(|(target, lookup)| Some((*target, lookup.as_ref()?)));
        let routes = known.map(|(target, lookup)| (target, self.route(target, lookup))).collect();
        Some(NetworkView { routes, links: self.links.clone() })
    }

    fn route(&self, target: Ipv4Addr, lookup: &Lookup) -> Route {
        match lookup {
            Lookup::Nowhere(problem) => Route { hop: Hop::UNKNOWN, source: None, problem: Some(problem.clone()) },
            Lookup::Leaves { ifindex, gateway, source } => match self.hop(target, *ifindex, *gateway) {
                Ok(hop) => Route { hop, source: *source, problem: None },
                Err(problem) => Route { hop: Hop::UNKNOWN, source: *source, problem: Some(problem) },
            },
        }
    }

    /// The next hop, or why it is not known.
    fn hop(&self, target: Ipv4Addr, ifindex: u32, gateway: Option<Ipv4Addr>) -> Result<Hop, String> {
        let link = self.links.get(&ifindex);
        let interface = link.map_or_else(|| format!("interface {ifindex}"), |link| link.name.clone());
        let Some(device) = self.devices.get(&ifindex) else {
            return Err(format!("{target} leaves through {interface}, which weir is not attached to"));
        };
        if !link.is_some_and(|link| link.up) {
            return Err(format!("{target} leaves through {interface}, which is down"));
        }
        let neighbour = self.neighbours.get(&(ifindex, gateway.unwrap_or(target)));
        if let Some(mac) = neighbour.and_then(Neighbour::usable_mac) {
            return Ok(Hop::new(mac, *device));
        }
        let who = gateway.map_or_else(|| target.to_string(), |gateway| format!("gateway {gateway}"));
        Err(match neighbour.map(|n| n.state) {
            Some(NeighbourState::Noarp) => format!("{who} cannot be resolved: {interface} does not use ARP"),
            _ => format!("{who} does not answer ARP on {interface}"),
        })
    }
}

/// Whether `address` lies within `prefix/length`.
fn covers(prefix: Ipv4Addr, length: u8, address: Ipv4Addr) -> bool {
    let host_bits = 32 - u32::from(length.min(32));
    (u32::from(prefix) ^ u32::from(address)).checked_shr(host_bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests;
