//! The datapath in memory: the maps as vectors, the packet pipeline run on the host, clock and dice set by hand.
//!
//! The kernel's twin: a map that was never written holds zeros here too, and an index past its end has no value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lb_common::abi::{BackendRecord, DeviceRecord, ServiceBucket, Settings, TrafficStats};
use lb_common::hash::{HashKey, KEY_WORDS};
use lb_common::limits::{
    BACKENDS_MAX, DEVICES_MAX, INDEX_WAYS, RING_LINES, RING_MAX, SERVICE_BUCKETS, SERVICES_MAX, SLOT_LINES, SLOTS,
    SLOTS_PER_LINE,
};
use lb_common::reason::{COUNTERS, Counter, Direction, Verdict};
use lb_common::session::TIMEOUTS;
use lb_ebpf::forward;
use lb_ebpf::frame::HostFrame;
use lb_ebpf::tables::{Line, SessionTables, Tables};
use lb_ebpf::word::Word;

use super::sweep::{Sessions, sweep};
use super::{Datapath, DatapathError, Sweep, Traffic, services};
use crate::control::image::{Image, Step};

/// Maps in memory.
pub struct MemoryDatapath {
    settings: Settings,
    devices: Vec<DeviceRecord>,
    services: Vec<ServiceBucket>,
    backends: Vec<BackendRecord>,
    tables: BTreeMap<u16, Arc<[u16]>>,
    rings: BTreeMap<u16, Arc<[u16]>>,
    cursors: Vec<Word>,
    flows: Vec<Line>,
    returns: Vec<Line>,
    sessions: Vec<Line>,
    counters: [Word; COUNTERS],
    service_stats: Vec<Stats>,
    backend_stats: Vec<Stats>,
    now: Word,
    random: Word,
}

/// Settings that nobody has written.
const UNWRITTEN: Settings = Settings {
    abi_version: 0,
    bucket_mask: 0,
    nat_port_first: 0,
    nat_port_count: 0,
    flags: 0,
    timeouts: [0; TIMEOUTS],
    reuse_ticks: 0,
    zero: 0,
    hash_key: HashKey([0; KEY_WORDS]),
};

impl MemoryDatapath {
    /// Empty maps with room for `sessions` sessions, which is a power of two and at least a bucket.
    pub fn new(sessions: u32) -> Self {
        let sessions = sessions as usize;
        Self {
            settings: UNWRITTEN,
            devices: vec![DeviceRecord::default(); DEVICES_MAX as usize + 1],
            services: vec![ServiceBucket::default(); SERVICE_BUCKETS as usize],
            backends: vec![BackendRecord::default(); BACKENDS_MAX as usize + 1],
            tables: BTreeMap::new(),
            rings: BTreeMap::new(),
            cursors: many(SERVICES_MAX as usize + 1, zero),
            flows: many(sessions / INDEX_WAYS, line),
            returns: many(sessions / INDEX_WAYS, line),
            sessions: many(sessions, line),
            counters: std::array::from_fn(|_| zero()),
            service_stats: many(SERVICES_MAX as usize + 1, Stats::default),
            backend_stats: many(BACKENDS_MAX as usize + 1, Stats::default),
            now: zero(),
            random: zero(),
        }
    }

    /// Sets the clock, in ticks, and what the dice will show.
    pub fn set_inputs(&self, now: u32, random: u32) {
        self.now.store(now.into());
        self.random.store(random.into());
    }

    /// Runs the datapath on a frame that came in on the interface with index `ingress`.
    pub fn run(&self, frame: &mut [u8], ingress: u32) -> Verdict {
        forward::run(&mut HostFrame::new(frame, ingress), self)
    }

    /// The session records and their indexes.
    pub fn sessions(&self) -> Sessions<'_> {
        Sessions { flows: &self.flows, returns: &self.returns, sessions: &self.sessions }
    }

    /// The settings as the maps hold them.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn write_buckets(&mut self, writes: services::Writes) {
        for (index, bucket) in writes {
            self.services[index as usize] = bucket;
        }
    }
}

fn many<T>(count: usize, make: impl Fn() -> T) -> Vec<T> {
    std::iter::repeat_with(make).take(count).collect()
}

const fn zero() -> Word {
    Word::new(0)
}

fn line() -> Line {
    std::array::from_fn(|_| zero())
}

/// The place of record `index` in a map, or why there is none.
fn place<'a, T>(map: &'a mut [T], what: &str, index: u16) -> Result<&'a mut T, DatapathError> {
    let length = map.len();
    let place = map.get_mut(usize::from(index)).filter(|_| index > 0);
    place.ok_or_else(|| DatapathError::Step(format!("{what} {index} is not in 1..{length}")))
}

/// Publishes a table or ring of at most `most` entries.
fn publish(
    maps: &mut BTreeMap<u16, Arc<[u16]>>,
    what: &str,
    service: u16,
    entries: &Arc<[u16]>,
    most: u32,
) -> Result<(), DatapathError> {
    if service == 0 || u32::from(service) > SERVICES_MAX {
        return Err(DatapathError::Step(format!("{what} of service {service}: ids are 1 to {SERVICES_MAX}")));
    }
    if entries.len() > most as usize {
        let length = entries.len();
        return Err(DatapathError::Step(format!("{what} of service {service}: {length} entries, at most {most} fit")));
    }
    maps.insert(service, entries.clone());
    Ok(())
}

/// Entry `index` of a map of `lines` lines: zero past what was written, nothing past its end.
fn entry(map: Option<&Arc<[u16]>>, index: u32, lines: u32) -> Option<u16> {
    let map = map?;
    (index < lines * SLOTS_PER_LINE).then(|| map.get(index as usize).copied().unwrap_or(0))
}

impl Datapath for MemoryDatapath {
    fn read(&self) -> Result<Image, DatapathError> {
        let services = services::all(|index| self.services[index as usize]);
        // As with the kernel's maps: how much of a ring counts is known from the service's record alone.
        let rings = services.values().filter_map(|record| {
            let ring = self.rings.get(&record.id)?;
            let length = usize::from(record.ring_length).min(ring.len());
            (length > 0).then(|| (record.id, Arc::from(&ring[..length])))
        });
        Ok(Image {
            settings: (self.settings != UNWRITTEN).then_some(self.settings),
            devices: used(&self.devices, |record| *record != DeviceRecord::default()),
            backends: used(&self.backends, |record| *record != BackendRecord::default()),
            tables: self.tables.clone(),
            rings: rings.collect(),
            services,
        })
    }

    fn apply(&mut self, step: &Step) -> Result<(), DatapathError> {
        match step {
            Step::PutSettings(settings) => self.settings = *settings,
            Step::PutDevice(index, record) => *place(&mut self.devices, "device", *index)? = *record,
            Step::RemoveDevice(index) => *place(&mut self.devices, "device", *index)? = DeviceRecord::default(),
            Step::PutBackend(id, record) => *place(&mut self.backends, "backend", *id)? = *record,
            Step::RemoveBackend(id) => *place(&mut self.backends, "backend", *id)? = BackendRecord::default(),
            Step::PutTable(service, table) => publish(&mut self.tables, "lookup table", *service, table, SLOTS)?,
            Step::RemoveTable(service) => drop(self.tables.remove(service)),
            Step::PutRing(service, ring) => publish(&mut self.rings, "ring", *service, ring, RING_MAX)?,
            Step::RemoveRing(service) => drop(self.rings.remove(service)),
            Step::PutService(record) => {
                let writes = services::put(|index| self.services[index as usize], record)?;
                self.write_buckets(writes);
            }
            Step::RemoveService(key) => {
                let writes = services::remove(|index| self.services[index as usize], key);
                self.write_buckets(writes);
            }
        }
        Ok(())
    }

    fn counters(&self) -> Result<[u64; COUNTERS], DatapathError> {
        Ok(std::array::from_fn(|index| self.counters[index].load()))
    }

    fn traffic(&self, services: &[u16], backends: &[u16]) -> Result<Traffic, DatapathError> {
        let of = |stats: &[Stats], ids: &[u16]| {
            ids.iter().filter_map(|id| Some((*id, stats.get(usize::from(*id))?.total()))).collect()
        };
        Ok(Traffic { services: of(&self.service_stats, services), backends: of(&self.backend_stats, backends) })
    }

    fn reset_traffic(&mut self, services: &[u16], backends: &[u16]) -> Result<(), DatapathError> {
        for id in services {
            *place(&mut self.service_stats, "service", *id)? = Stats::default();
        }
        for id in backends {
            *place(&mut self.backend_stats, "backend", *id)? = Stats::default();
        }
        Ok(())
    }

    fn sweep(&mut self, purge: &BTreeSet<u16>) -> Result<Sweep, DatapathError> {
        Ok(sweep(&self.sessions(), self.now(), &self.settings, purge))
    }
}

fn used<T: Copy>(map: &[T], is_used: impl Fn(&T) -> bool) -> BTreeMap<u16, T> {
    (0..).zip(map).filter(|(_, record)| is_used(record)).map(|(index, record)| (index, *record)).collect()
}

impl SessionTables for MemoryDatapath {
    fn flows(&self, bucket: u32) -> Option<&Line> {
        self.flows.get(bucket as usize)
    }

    fn returns(&self, bucket: u32) -> Option<&Line> {
        self.returns.get(bucket as usize)
    }

    fn session(&self, position: u32) -> Option<&Line> {
        self.sessions.get(position as usize)
    }
}

impl Tables for MemoryDatapath {
    fn settings(&self) -> Option<&Settings> {
        Some(&self.settings)
    }

    fn device(&self, index: u32) -> Option<&DeviceRecord> {
        self.devices.get(index as usize)
    }

    fn service_bucket(&self, index: u32) -> Option<&ServiceBucket> {
        self.services.get(index as usize)
    }

    fn slot(&self, service: u16, slot: u32) -> Option<u16> {
        entry(self.tables.get(&service), slot, SLOT_LINES)
    }

    fn ring(&self, service: u16, index: u32) -> Option<u16> {
        entry(self.rings.get(&service), index, RING_LINES)
    }

    fn cursor(&self, service: u16) -> Option<&Word> {
        self.cursors.get(usize::from(service))
    }

    fn backend(&self, id: u16) -> Option<&BackendRecord> {
        self.backends.get(usize::from(id))
    }

    #[expect(clippy::cast_possible_truncation, reason = "32 bits were put in")]
    fn now(&self) -> u32 {
        self.now.load() as u32
    }

    #[expect(clippy::cast_possible_truncation, reason = "32 bits were put in")]
    fn random(&self) -> u32 {
        self.random.load() as u32
    }

    fn count(&self, verdict: Verdict) {
        if let Some(counter) = self.counters.get(Counter::from(verdict).index() as usize) {
            counter.fetch_add(1);
        }
    }

    fn count_traffic(&self, service: u16, backend: u16, direction: Direction, bytes: u16, begins: bool) {
        let (of_service, of_backend) =
            (self.service_stats.get(usize::from(service)), self.backend_stats.get(usize::from(backend)));
        of_service.into_iter().chain(of_backend).for_each(|stats| stats.add(direction, bytes, begins));
    }
}

/// [`TrafficStats`] that several threads count into.
struct Stats {
    flows: Word,
    /// By [`Direction`].
    packets: [Word; 2],
    /// By [`Direction`].
    bytes: [Word; 2],
}

impl Default for Stats {
    fn default() -> Self {
        Self { flows: zero(), packets: [zero(), zero()], bytes: [zero(), zero()] }
    }
}

impl Stats {
    fn add(&self, direction: Direction, bytes: u16, begins: bool) {
        self.packets[direction as usize].fetch_add(1);
        self.bytes[direction as usize].fetch_add(bytes.into());
        self.flows.fetch_add(begins.into());
    }

    fn total(&self) -> TrafficStats {
        TrafficStats {
            flows: self.flows.load(),
            forward_packets: self.packets[0].load(),
            forward_bytes: self.bytes[0].load(),
            return_packets: self.packets[1].load(),
            return_bytes: self.bytes[1].load(),
        }
    }
}
