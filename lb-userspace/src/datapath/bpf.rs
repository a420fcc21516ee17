//! The kernel's datapath: typed maps, and how each step is applied to them. (How they come to be: `load`.)

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::sync::Arc;

use aya::maps::{Array, ArrayOfMaps, IterableMap, Map, MapData, MapError, PerCpuArray, PerCpuValues};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, Pod};
use lb_common::abi::{BackendRecord, DeviceRecord, ServiceBucket, Settings, SlotLine, TrafficStats};
use lb_common::limits::{
    BACKENDS_MAX, DEVICES_MAX, RING_LINES, SERVICE_BUCKETS, SERVICES_MAX, SLOT_LINES, SLOTS, SLOTS_PER_LINE,
};
use lb_common::names;
use lb_common::reason::COUNTERS;
use lb_common::session::TICK_SHIFT;

use super::lines::MappedLines;
use super::sweep::{self, Sessions};
use super::{Datapath, DatapathError, Sweep, Traffic, services};
use crate::control::image::{Image, Step};

type Lines = Array<MapData, SlotLine>;

/// The maps of a loaded program, and the program itself.
pub struct BpfDatapath {
    pub(super) programs: Ebpf,
    /// Held open where no pin does: the kernel empties a program array that nobody holds.
    pub(super) program_array: Option<Map>,
    settings: Array<MapData, Settings>,
    devices: Array<MapData, DeviceRecord>,
    services: Array<MapData, ServiceBucket>,
    backends: Array<MapData, BackendRecord>,
    lookup: ArrayOfMaps<MapData, Lines>,
    rings: ArrayOfMaps<MapData, Lines>,
    counters: PerCpuArray<MapData, u64>,
    service_stats: PerCpuArray<MapData, TrafficStats>,
    backend_stats: PerCpuArray<MapData, TrafficStats>,
    inputs: Array<MapData, u64>,
    flows: MappedLines,
    returns: MappedLines,
    sessions: MappedLines,
    cpus: usize,
}

impl BpfDatapath {
    /// Takes the maps of a loaded object.
    pub(super) fn new(mut programs: Ebpf) -> Result<Self, DatapathError> {
        Ok(Self {
            settings: take(&mut programs, names::SETTINGS)?,
            devices: take(&mut programs, names::DEVICES)?,
            services: take(&mut programs, names::SERVICES)?,
            backends: take(&mut programs, names::BACKENDS)?,
            lookup: take(&mut programs, names::LOOKUP)?,
            rings: take(&mut programs, names::RINGS)?,
            counters: take(&mut programs, names::COUNTERS)?,
            service_stats: take(&mut programs, names::SERVICE_STATS)?,
            backend_stats: take(&mut programs, names::BACKEND_STATS)?,
            inputs: take(&mut programs, names::TEST_INPUTS)?,
            flows: mapped(&mut programs, names::FLOWS)?,
            returns: mapped(&mut programs, names::RETURNS)?,
            sessions: mapped(&mut programs, names::SESSIONS)?,
            cpus: aya::util::nr_cpus()
                .map_err(|(path, error)| failed(names::COUNTERS, "counting CPUs")(format!("{path}: {error}")))?,
            program_array: None,
            programs,
        })
    }

    /// Most sessions that the maps hold.
    pub fn capacity(&self) -> u32 {
        u32::try_from(self.sessions.lines().len()).unwrap_or(u32::MAX)
    }

    /// The session maps as the kernel has them now.
    pub fn sessions(&self) -> Sessions<'_> {
        Sessions { flows: self.flows.lines(), returns: self.returns.lines(), sessions: self.sessions.lines() }
    }

    /// Sets the clock (in ticks) and the dice of a program that was loaded for tests.
    pub fn set_inputs(&mut self, now: u32, random: u32) -> Result<(), DatapathError> {
        put(&mut self.inputs, names::TEST_INPUTS, 0, u64::from(now))?;
        put(&mut self.inputs, names::TEST_INPUTS, 1, u64::from(random))
    }

    /// Runs one frame through the program by `BPF_PROG_TEST_RUN`: the XDP action, and the frame afterwards.
    pub fn test_run(&self, frame: &[u8]) -> Result<(u32, Vec<u8>), DatapathError> {
        self.test_run_of(names::PROGRAM, frame)
    }

    /// The kernel's jiffies, which no system call tells.
    pub fn jiffies(&self) -> Result<u64, DatapathError> {
        let (_, frame) = self.test_run_of(names::CLOCK_PROGRAM, &[0; 64])?;
        let bytes = frame
            .first_chunk()
            .ok_or_else(|| failed(names::CLOCK_PROGRAM, "reading the clock")("no frame came back"))?;
        Ok(u64::from_ne_bytes(*bytes))
    }

    fn test_run_of(&self, program: &'static str, frame: &[u8]) -> Result<(u32, Vec<u8>), DatapathError> {
        let xdp: &Xdp = (self.programs.program(program))
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| failed(program, "test run")("there is no such program"))?;
        let mut out = vec![0; frame.len().max(64) + 256];
        let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = xdp.test_run(options).map_err(|error| failed(program, "test run")(error))?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }

    fn bucket(&self, index: u32) -> Result<ServiceBucket, DatapathError> {
        get(&self.services, names::SERVICES, index)
    }

    /// The service table, read whole: its helpers look at any bucket.
    fn buckets(&self) -> Result<Vec<ServiceBucket>, DatapathError> {
        (0..SERVICE_BUCKETS).map(|index| self.bucket(index)).collect()
    }

    fn write_buckets(&mut self, writes: services::Writes) -> Result<(), DatapathError> {
        for (index, bucket) in writes {
            put(&mut self.services, names::SERVICES, index, bucket)?;
        }
        Ok(())
    }
}

impl Datapath for BpfDatapath {
    fn read(&self) -> Result<Image, DatapathError> {
        let settings = get(&self.settings, names::SETTINGS, 0)?;
        let mut image = Image { settings: (settings.abi_version != 0).then_some(settings), ..Image::default() };
        for index in 1..=to_id(DEVICES_MAX) {
            let device = get(&self.devices, names::DEVICES, u32::from(index))?;
            if device.ifindex != 0 {
                image.devices.insert(index, device);
            }
        }
        for id in 1..=to_id(BACKENDS_MAX) {
            let backend = get(&self.backends, names::BACKENDS, u32::from(id))?;
            if backend.flags != 0 {
                image.backends.insert(id, backend);
            }
        }
        let buckets = self.buckets()?;
        image.services = services::all(|index| buckets[index as usize]);
        let ring_lengths: BTreeMap<u16, u16> = image.services.values().map(|s| (s.id, s.ring_length)).collect();
        for id in 1..=to_id(SERVICES_MAX) {
            if let Some(table) = read_inner(&self.lookup, names::LOOKUP, id, SLOTS as usize)? {
                image.tables.insert(id, table);
            }
            let length = ring_lengths.get(&id).copied().unwrap_or(0);
            if let Some(ring) = read_inner(&self.rings, names::RINGS, id, usize::from(length))? {
                image.rings.insert(id, ring);
            }
        }
        Ok(image)
    }

    fn apply(&mut self, step: &Step) -> Result<(), DatapathError> {
        match step {
            Step::PutSettings(settings) => put(&mut self.settings, names::SETTINGS, 0, *settings),
            Step::PutDevice(index, record) => put(&mut self.devices, names::DEVICES, u32::from(*index), *record),
            Step::RemoveDevice(index) => {
                put(&mut self.devices, names::DEVICES, u32::from(*index), DeviceRecord::default())
            }
            Step::PutBackend(id, record) => put(&mut self.backends, names::BACKENDS, u32::from(*id), *record),
            Step::RemoveBackend(id) => {
                put(&mut self.backends, names::BACKENDS, u32::from(*id), BackendRecord::default())
            }
            Step::PutTable(id, table) => write_inner(&mut self.lookup, names::LOOKUP, *id, table, SLOT_LINES),
            Step::RemoveTable(id) => remove_inner(&mut self.lookup, names::LOOKUP, *id, SLOT_LINES),
            Step::PutRing(id, ring) => write_inner(&mut self.rings, names::RINGS, *id, ring, RING_LINES),
            Step::RemoveRing(id) => remove_inner(&mut self.rings, names::RINGS, *id, RING_LINES),
            Step::PutService(record) => {
                let buckets = self.buckets()?;
                self.write_buckets(services::put(|index| buckets[index as usize], record)?)
            }
            Step::RemoveService(key) => {
                let buckets = self.buckets()?;
                self.write_buckets(services::remove(|index| buckets[index as usize], key))
            }
        }
    }

    fn counters(&self) -> Result<[u64; COUNTERS], DatapathError> {
        let mut sums = [0; COUNTERS];
        for (index, sum) in (0..).zip(&mut sums) {
            let values = self.counters.get(&index, 0).map_err(|error| failed(names::COUNTERS, "reading")(error))?;
            *sum = values.iter().sum();
        }
        Ok(sums)
    }

    fn traffic(&self, services: &[u16], backends: &[u16]) -> Result<Traffic, DatapathError> {
        let sum = |map: &PerCpuArray<MapData, TrafficStats>, name, id: u16| {
            let values = map.get(&u32::from(id), 0).map_err(|error| failed(name, "reading")(error))?;
            let mut sum = TrafficStats::default();
            values.iter().for_each(|value| sum.add(value));
            Ok((id, sum))
        };
        Ok(Traffic {
            services: services
                .iter()
                .map(|id| sum(&self.service_stats, names::SERVICE_STATS, *id))
                .collect::<Result<_, _>>()?,
            backends: backends
                .iter()
                .map(|id| sum(&self.backend_stats, names::BACKEND_STATS, *id))
                .collect::<Result<_, _>>()?,
        })
    }

    fn reset_traffic(&mut self, services: &[u16], backends: &[u16]) -> Result<(), DatapathError> {
        let cpus = self.cpus;
        let zeros = || {
            PerCpuValues::try_from(vec![TrafficStats::default(); cpus])
                .map_err(|error| failed(names::SERVICE_STATS, "emptying")(error))
        };
        for id in services {
            let emptied = self.service_stats.set(u32::from(*id), zeros()?, 0);
            emptied.map_err(|error| failed(names::SERVICE_STATS, "emptying")(error))?;
        }
        for id in backends {
            let emptied = self.backend_stats.set(u32::from(*id), zeros()?, 0);
            emptied.map_err(|error| failed(names::BACKEND_STATS, "emptying")(error))?;
        }
        Ok(())
    }

    fn sweep(&mut self, purge: &BTreeSet<u16>) -> Result<Sweep, DatapathError> {
        let settings = get(&self.settings, names::SETTINGS, 0)?;
        #[expect(clippy::cast_possible_truncation, reason = "ticks are 32 bits and wrap")]
        let now = (self.jiffies()? >> TICK_SHIFT) as u32;
        Ok(sweep::sweep(&self.sessions(), now, &settings, purge))
    }
}

/// An error about a map or a program, in two helpings.
fn failed<E: ToString>(map: &'static str, operation: &'static str) -> impl Fn(E) -> DatapathError {
    move |cause| DatapathError::Map { map, operation, cause: cause.to_string() }
}

fn take<T: TryFrom<Map, Error = MapError>>(programs: &mut Ebpf, name: &'static str) -> Result<T, DatapathError> {
    let map =
        programs.take_map(name).ok_or_else(|| failed(name, "taking it from the object")("there is no such map"))?;
    T::try_from(map).map_err(|error| failed(name, "taking it from the object")(error))
}

fn mapped(programs: &mut Ebpf, name: &'static str) -> Result<MappedLines, DatapathError> {
    let map: Array<MapData, [u64; 8]> = take(programs, name)?;
    MappedLines::new(map.map().fd().as_fd(), map.len()).map_err(|error| failed(name, "mapping it into memory")(error))
}

fn get<V: Pod>(map: &Array<MapData, V>, name: &'static str, index: u32) -> Result<V, DatapathError> {
    map.get(&index, 0).map_err(|error| failed(name, "reading")(error))
}

fn put<V: Pod>(map: &mut Array<MapData, V>, name: &'static str, index: u32, value: V) -> Result<(), DatapathError> {
    map.set(index, value, 0).map_err(|error| failed(name, "writing")(error))
}

fn to_id(max: u32) -> u16 {
    u16::try_from(max).unwrap_or(u16::MAX)
}

/// The first `length` entries of the inner map of service `id`; `None` if there is none, or nothing in it.
fn read_inner(
    outer: &ArrayOfMaps<MapData, Lines>,
    name: &'static str,
    id: u16,
    length: usize,
) -> Result<Option<Arc<[u16]>>, DatapathError> {
    let inner = match outer.get(&u32::from(id), 0) {
        Ok(inner) => inner,
        Err(MapError::KeyNotFound) => return Ok(None),
        Err(error) => return Err(failed(name, "opening an inner map")(error)),
    };
    if get(&inner, name, 0)?.slots[0] == 0 {
        return Ok(None);
    }
    let lines = u32::try_from(length).unwrap_or(u32::MAX).div_ceil(SLOTS_PER_LINE);
    let mut entries = Vec::with_capacity(length);
    for index in 0..lines {
        entries.extend(get(&inner, name, index)?.slots);
    }
    entries.truncate(length);
    Ok(Some(entries.into()))
}

/// Writes `entries` into a new inner map, and puts it in place of service `id`'s. The kernel returns from that only when
/// no program is left that may have seen the old one.
fn write_inner(
    outer: &mut ArrayOfMaps<MapData, Lines>,
    name: &'static str,
    id: u16,
    entries: &[u16],
    lines: u32,
) -> Result<(), DatapathError> {
    let mut inner = Lines::create(lines, 0).map_err(|error| failed(name, "making an inner map")(error))?;
    for (index, chunk) in (0..).zip(entries.chunks(SLOTS_PER_LINE as usize)) {
        let mut line = SlotLine::default();
        line.slots[..chunk.len()].copy_from_slice(chunk);
        put(&mut inner, name, index, line)?;
    }
    outer.set(u32::from(id), &inner, 0).map_err(|error| failed(name, "publishing an inner map")(error))
}

/// Puts an empty inner map in place of service `id`'s: one without entries stands for none at all. (An array of maps has
/// no other way to be emptied through aya.)
fn remove_inner(
    outer: &mut ArrayOfMaps<MapData, Lines>,
    name: &'static str,
    id: u16,
    lines: u32,
) -> Result<(), DatapathError> {
    write_inner(outer, name, id, &[], lines)
}
