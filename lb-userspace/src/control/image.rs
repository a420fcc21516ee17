//! What the datapath's maps hold, as data, and the steps that change it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use lb_common::abi::{BackendRecord, DeviceRecord, ServiceKey, ServiceRecord, Settings};

/// The content of every map that the agent writes. `Image::default()` is that of maps just created.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Image {
    /// `None` until first written.
    pub settings: Option<Settings>,
    /// By device index, from 1.
    pub devices: BTreeMap<u16, DeviceRecord>,
    /// By backend id, from 1.
    pub backends: BTreeMap<u16, BackendRecord>,
    /// Lookup tables by service id: `SLOTS` backend ids each.
    pub tables: BTreeMap<u16, Arc<[u16]>>,
    /// Round-robin rings by service id: backend ids that take new flows, as long as `ServiceRecord::ring_length`.
    pub rings: BTreeMap<u16, Arc<[u16]>>,
    /// By VIP, port and protocol.
    pub services: BTreeMap<ServiceKey, ServiceRecord>,
}

/// One change of one map. Each is idempotent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Replaces the settings.
    PutSettings(Settings),
    /// Writes a device record.
    PutDevice(u16, DeviceRecord),
    /// Empties a device record.
    RemoveDevice(u16),
    /// Writes a backend record.
    PutBackend(u16, BackendRecord),
    /// Empties a backend record.
    RemoveBackend(u16),
    /// Publishes a lookup table: once applied, no packet sees the old one.
    PutTable(u16, Arc<[u16]>),
    /// Takes a lookup table away.
    RemoveTable(u16),
    /// Publishes a ring: once applied, no packet sees the old one.
    PutRing(u16, Arc<[u16]>),
    /// Takes a ring away.
    RemoveRing(u16),
    /// Writes a service record, under its own key.
    PutService(ServiceRecord),
    /// Takes a service away: its packets are not ours any more.
    RemoveService(ServiceKey),
}

impl Image {
    /// What the maps hold after `step`.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::PutSettings(settings) => self.settings = Some(*settings),
            Step::PutDevice(index, record) => {
                self.devices.insert(*index, *record);
            }
            Step::RemoveDevice(index) => {
                self.devices.remove(index);
            }
            Step::PutBackend(id, record) => {
                self.backends.insert(*id, *record);
            }
            Step::RemoveBackend(id) => {
                self.backends.remove(id);
            }
            Step::PutTable(id, table) => {
                self.tables.insert(*id, table.clone());
            }
            Step::RemoveTable(id) => {
                self.tables.remove(id);
            }
            Step::PutRing(id, ring) => {
                self.rings.insert(*id, ring.clone());
            }
            Step::RemoveRing(id) => {
                self.rings.remove(id);
            }
            Step::PutService(record) => {
                if let Some(key) = record.key() {
                    self.services.insert(key, *record);
                }
            }
            Step::RemoveService(key) => {
                self.services.remove(key);
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutSettings(_) => write!(f, "write settings"),
            Self::PutDevice(index, record) => write!(f, "write device {index} (ifindex {})", record.ifindex),
            Self::RemoveDevice(index) => write!(f, "remove device {index}"),
            Self::PutBackend(id, record) => {
                write!(f, "write backend {id} ({:?}:{:?}, service {})", record.address, record.port, record.service)
            }
            Self::RemoveBackend(id) => write!(f, "remove backend {id}"),
            Self::PutTable(id, _) => write!(f, "publish lookup table of service {id}"),
            Self::RemoveTable(id) => write!(f, "remove lookup table of service {id}"),
            Self::PutRing(id, ring) => write!(f, "publish ring of service {id} ({} entries)", ring.len()),
            Self::RemoveRing(id) => write!(f, "remove ring of service {id}"),
            Self::PutService(record) => match record.key() {
                Some(key) => write!(f, "write service {} ({})", record.id, KeyText(&key)),
                None => write!(f, "write service {} (empty)", record.id),
            },
            Self::RemoveService(key) => write!(f, "remove service {}", KeyText(key)),
        }
    }
}

/// A service's key as people write it.
struct KeyText<'a>(&'a ServiceKey);

impl fmt::Display for KeyText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{:?}/{}", self.0.vip, self.0.port, self.0.protocol.name())
    }
}
