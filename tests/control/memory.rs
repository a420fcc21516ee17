//! A datapath of maps in memory that fails when told to, and that checks after every step that packets could be
//! forwarded.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::abi::{BackendRecord, SETTING_PRESERVE};
use lb_common::addr::Address;
use lb_common::reason::COUNTERS;
use lb_userspace::control::image::{Image, Step};
use lb_userspace::datapath::{Datapath, DatapathError, SessionCount, Sweep, Traffic};

/// See the module.
#[derive(Clone, Default, Debug)]
pub struct Memory {
    /// What the maps hold.
    pub image: Image,
    /// Live sessions by backend id, and whose they are: address, port and source.
    pub sessions: BTreeMap<u16, (SessionCount, [u64; 4])>,
    /// Steps that succeed before one fails; `None` lets all succeed.
    pub steps_until_failure: Option<usize>,
    /// The steps taken so far, in words.
    pub steps: Vec<String>,
    /// Backends that were removed with open sessions, and the flags that they had.
    pub torn: Vec<(u16, u32)>,
    /// Ids whose statistics were emptied, services and backends.
    pub emptied: (BTreeSet<u16>, BTreeSet<u16>),
}

impl Memory {
    /// Gives a backend that is in the maps so many sessions.
    pub fn set_sessions(&mut self, backend: u16, open: u64, closing: u64) {
        let whose = identity(&self.image.backends[&backend]);
        self.sessions.insert(backend, (SessionCount { open, closing }, whose));
    }
}

impl Datapath for Memory {
    fn read(&self) -> Result<Image, DatapathError> {
        let mut image = self.image.clone();
        // As with real maps: how much of a ring counts is known from the service's record alone.
        let lengths: BTreeMap<u16, usize> =
            image.services.values().map(|record| (record.id, record.ring_length.into())).collect();
        image.rings.retain(|id, ring| {
            let length = lengths.get(id).copied().unwrap_or(0).min(ring.len());
            *ring = ring[..length].into();
            length > 0
        });
        Ok(image)
    }

    fn apply(&mut self, step: &Step) -> Result<(), DatapathError> {
        if let Some(left) = &mut self.steps_until_failure {
            if *left == 0 {
                return Err(DatapathError::Map { map: "TEST", operation: "update", cause: "told to fail".into() });
            }
            *left -= 1;
        }
        if let Step::PutBackend(id, record) = step
            && let Some((_, whose)) = self.sessions.get(id)
        {
            assert_eq!(*whose, identity(record), "backend id {id} goes to another while sessions name it");
        }
        if let Step::RemoveBackend(id) = step
            && self.sessions.get(id).is_some_and(|(count, _)| count.open > 0)
        {
            self.torn.push((*id, self.image.backends[id].flags));
        }
        self.image.apply(step);
        self.steps.push(step.to_string());
        let faults = faults(&self.image);
        assert!(faults.is_empty(), "after \"{step}\":\n{}\nsteps:\n{}", faults.join("\n"), self.steps.join("\n"));
        Ok(())
    }

    fn counters(&self) -> Result<[u64; COUNTERS], DatapathError> {
        Ok([0; COUNTERS])
    }

    fn traffic(&self, _: &[u16], _: &[u16]) -> Result<Traffic, DatapathError> {
        Ok(Traffic::default())
    }

    fn reset_traffic(&mut self, services: &[u16], backends: &[u16]) -> Result<(), DatapathError> {
        self.emptied.0.extend(services);
        self.emptied.1.extend(backends);
        Ok(())
    }

    fn sweep(&mut self, purge: &BTreeSet<u16>) -> Result<Sweep, DatapathError> {
        let before = self.sessions.len();
        self.sessions.retain(|id, (count, _)| !purge.contains(id) && count.open + count.closing > 0);
        let sessions = self.sessions.iter().map(|(id, (count, _))| (*id, *count)).collect();
        Ok(Sweep { sessions, freed: (before - self.sessions.len()) as u64 })
    }
}

fn identity(record: &BackendRecord) -> [u64; 4] {
    let [_, address] = record.address.words();
    let [_, source] = record.source.words();
    [address, source, record.port.number().into(), record.service.into()]
}

fn distinct(ids: &[u16]) -> impl Iterator<Item = u16> {
    let mut is_in = vec![false; 65_536];
    for id in ids {
        is_in[usize::from(*id)] = true;
    }
    (0..=u16::MAX).filter(move |id| is_in[usize::from(*id)])
}

/// What a packet could run into, in words.
pub fn faults(image: &Image) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |text: String| faults.push(text);
    let Some(settings) = image.settings else { return vec!["no settings".into()] };
    for (id, backend) in &image.backends {
        if !backend.is_present() {
            fault(format!("backend {id} is written but not present"));
        }
        if backend.hop.is_known() && !image.devices.contains_key(&backend.hop.device()) {
            fault(format!("backend {id} leaves through device {}, which is not there", backend.hop.device()));
        }
    }
    for service in image.services.values() {
        let id = service.id;
        let mut reaches = |what: &str, backend: u16| match image.backends.get(&backend) {
            Some(record) if record.service == id => {}
            Some(record) => fault(format!("{what} of service {id} leads to {backend} of service {}", record.service)),
            None => fault(format!("{what} of service {id} leads to {backend}, which is not there")),
        };
        if service.slots > 0 {
            match image.tables.get(&id) {
                Some(table) if table.len() == service.slots as usize => {
                    distinct(table).for_each(|backend| reaches("table", backend));
                }
                _ => reaches("missing or short table", 0),
            }
        }
        if service.ring_length > 0 {
            match image.rings.get(&id) {
                Some(ring) if ring.len() >= usize::from(service.ring_length) => {
                    distinct(ring).for_each(|backend| reaches("ring", backend));
                }
                _ => reaches("missing or short ring", 0),
            }
        }
        if service.flags != 0 && settings.flags & SETTING_PRESERVE == 0 {
            fault(format!("service {id} preserves, and the settings do not say so"));
        }
    }
    let own = image.backends.values().any(|backend| backend.is_eligible() && backend.source != Address::UNSPECIFIED);
    if own && settings.nat_port_count == 0 && image.services.values().any(|service| service.slots > 0) {
        fault("backends have a source, and there are no ports for it".into());
    }
    faults
}
