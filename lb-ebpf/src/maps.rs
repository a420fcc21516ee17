//! The maps, and [`Tables`] over them. Nothing outside this file names a map.
//!
//! Array maps hand out pointers to values that stay where they are as long as the program runs. What the agent
//! replaces (settings, records) it replaces by whole values; what several CPUs write are `Word`s.

use aya_ebpf::Global;
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, PerCpuArray, ProgramArray};
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_jiffies64};
use aya_ebpf::macros::btf_map;
use lb_common::abi::{BackendRecord, DeviceRecord, ServiceBucket, Settings, SlotLine, TrafficStats};
use lb_common::reason::{COUNTERS as COUNTERS_COUNT, Counter, Direction, Verdict};
use lb_common::session::TICK_SHIFT;
use lb_common::{limits, session};
use lb_ebpf::select::Attempt;
use lb_ebpf::tables::{Line, SessionTables, Tables};
use lb_ebpf::word::Word;

/// `BPF_F_MMAPABLE`: values start page-aligned (a line is a cache line), and the agent sweeps without system calls.
const MMAPABLE: usize = 1 << 10;
const SERVICE_IDS: usize = limits::SERVICES_MAX as usize + 1;
const BACKEND_IDS: usize = limits::BACKENDS_MAX as usize + 1;
const SESSIONS_COUNT: usize = limits::SESSIONS_DEFAULT as usize;
const BUCKETS_COUNT: usize = SESSIONS_COUNT / limits::INDEX_WAYS;

type Lines<const N: usize> = Array<SlotLine, N>;

#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();
#[btf_map]
static DEVICES: Array<DeviceRecord, { limits::DEVICES_MAX as usize + 1 }> = Array::new();
#[btf_map]
static SERVICES: Array<ServiceBucket, { limits::SERVICE_BUCKETS as usize }> = Array::new();
#[btf_map]
static BACKENDS: Array<BackendRecord, BACKEND_IDS, MMAPABLE> = Array::new();
#[btf_map]
static LOOKUP: ArrayOfMaps<Lines<{ limits::SLOT_LINES as usize }>, SERVICE_IDS> = ArrayOfMaps::new();
#[btf_map]
static RINGS: ArrayOfMaps<Lines<{ limits::RING_LINES as usize }>, SERVICE_IDS> = ArrayOfMaps::new();
#[btf_map]
static CURSORS: Array<u64, SERVICE_IDS> = Array::new();
// The loader sizes these three by the config; the agent maps them into its memory.
#[btf_map]
static FLOWS: Array<session::Line, BUCKETS_COUNT, MMAPABLE> = Array::new();
#[btf_map]
static RETURNS: Array<session::Line, BUCKETS_COUNT, MMAPABLE> = Array::new();
#[btf_map]
static SESSIONS: Array<session::Line, SESSIONS_COUNT, MMAPABLE> = Array::new();
#[btf_map]
static COUNTERS: PerCpuArray<u64, COUNTERS_COUNT> = PerCpuArray::new();
#[btf_map]
static SERVICE_STATS: PerCpuArray<TrafficStats, SERVICE_IDS> = PerCpuArray::new();
#[btf_map]
static BACKEND_STATS: PerCpuArray<TrafficStats, BACKEND_IDS> = PerCpuArray::new();
/// The programs that `weir_xdp` goes on with. Belongs to one version of the program: never taken over from a pin.
#[btf_map]
pub static PROGRAMS: ProgramArray<1> = ProgramArray::new();
/// The attempt to open a flow that `weir_open` is called for: this CPU's, for the time of one packet.
#[btf_map]
static ATTEMPT: PerCpuArray<u64, 1> = PerCpuArray::new();
#[btf_map]
static TEST_INPUTS: Array<u64, 2> = Array::new();

/// Not 0 when loaded for tests: the clock and the dice are read from [`TEST_INPUTS`]. A constant to the verifier, which
/// removes the branch.
#[unsafe(no_mangle)]
static TEST_MODE: Global<u32> = Global::new(0);

/// The kernel's tables.
pub struct KernelTables;

/// The kernel's jiffies.
#[inline(always)]
pub fn jiffies() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_jiffies64() }
}

#[inline(always)]
fn attempt() -> Option<&'static Word> {
    // SAFETY: as in `line`, for one word, and no other CPU knows it.
    ATTEMPT.get_ptr_mut(0).map(|pointer| unsafe { &*pointer.cast::<Word>() })
}

/// Keeps the attempt for the program that is called next.
#[inline(always)]
pub fn keep_attempt(next: Attempt) {
    if let Some(word) = attempt() {
        word.store(u64::from(next.number) << 32 | u64::from(next.backend));
    }
}

/// The attempt that the calling program kept.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "fields are cut out of the word")]
pub fn kept_attempt() -> Attempt {
    let word = attempt().map_or(u64::MAX, Word::load);
    Attempt { number: (word >> 32) as u32, backend: word as u16 }
}

#[inline(always)]
fn line(pointer: Option<*mut session::Line>) -> Option<&'static Line> {
    // SAFETY: a `Line` of `Word`s has the layout of one of `u64`; the value stays mapped while the program runs, and
    // is reached through `Word`s only.
    pointer.map(|pointer| unsafe { &*pointer.cast::<Line>() })
}

#[inline(always)]
fn entry(line: Option<&SlotLine>, index: u32) -> Option<u16> {
    line.map(|line| line.slots[(index % limits::SLOTS_PER_LINE) as usize])
}

impl SessionTables for KernelTables {
    #[inline(always)]
    fn flows(&self, bucket: u32) -> Option<&Line> {
        line(FLOWS.get_ptr_mut(bucket))
    }

    #[inline(always)]
    fn returns(&self, bucket: u32) -> Option<&Line> {
        line(RETURNS.get_ptr_mut(bucket))
    }

    #[inline(always)]
    fn session(&self, position: u32) -> Option<&Line> {
        line(SESSIONS.get_ptr_mut(position))
    }
}

impl Tables for KernelTables {
    #[inline(always)]
    fn settings(&self) -> Option<&Settings> {
        SETTINGS.get(0)
    }

    #[inline(always)]
    fn device(&self, index: u32) -> Option<&DeviceRecord> {
        DEVICES.get(index)
    }

    #[inline(always)]
    fn service_bucket(&self, index: u32) -> Option<&ServiceBucket> {
        SERVICES.get(index)
    }

    #[inline(always)]
    fn slot(&self, service: u16, slot: u32) -> Option<u16> {
        entry(LOOKUP.get_value(u32::from(service), &(slot / limits::SLOTS_PER_LINE)), slot)
    }

    #[inline(always)]
    fn ring(&self, service: u16, index: u32) -> Option<u16> {
        entry(RINGS.get_value(u32::from(service), &(index / limits::SLOTS_PER_LINE)), index)
    }

    #[inline(always)]
    fn cursor(&self, service: u16) -> Option<&Word> {
        // SAFETY: as in `line`, for one word.
        CURSORS.get_ptr_mut(u32::from(service)).map(|pointer| unsafe { &*pointer.cast::<Word>() })
    }

    #[inline(always)]
    fn backend(&self, id: u16) -> Option<&BackendRecord> {
        BACKENDS.get(u32::from(id))
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "ticks are 32 bits and wrap")]
    fn now(&self) -> u32 {
        if TEST_MODE.load() != 0 {
            return TEST_INPUTS.get(0).map_or(0, |now| *now as u32);
        }
        (jiffies() >> TICK_SHIFT) as u32
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "32 bits are put in")]
    fn random(&self) -> u32 {
        if TEST_MODE.load() != 0 {
            return TEST_INPUTS.get(1).map_or(0, |random| *random as u32);
        }
        // SAFETY: a helper without arguments.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn count(&self, verdict: Verdict) {
        if let Some(counter) = COUNTERS.get_ptr_mut(Counter::from(verdict).index()) {
            // SAFETY: this CPU's own value; XDP programs do not preempt each other on one CPU.
            unsafe { *counter += 1 };
        }
    }

    #[inline(always)]
    fn count_traffic(&self, service: u16, backend: u16, direction: Direction, bytes: u16, begins: bool) {
        add(SERVICE_STATS.get_ptr_mut(u32::from(service)), direction, bytes, begins);
        add(BACKEND_STATS.get_ptr_mut(u32::from(backend)), direction, bytes, begins);
    }
}

#[inline(always)]
fn add(stats: Option<*mut TrafficStats>, direction: Direction, bytes: u16, begins: bool) {
    let Some(stats) = stats else { return };
    // SAFETY: as in `count`.
    let stats = unsafe { &mut *stats };
    match direction {
        Direction::Forward => {
            stats.forward_packets += 1;
            stats.forward_bytes += u64::from(bytes);
            stats.flows += u64::from(begins);
        }
        Direction::Return => {
            stats.return_packets += 1;
            stats.return_bytes += u64::from(bytes);
        }
    }
}
