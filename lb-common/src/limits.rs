//! Every limit, named once. A limit is checked where input enters (the agent) and holds by construction in the datapath.

/// Services that one instance can carry; ids run from 1, so the maps have one entry more.
pub const SERVICES_MAX: u32 = 1_023;
/// Backends (each in one service) that one instance can carry; ids run from 1.
///
/// Their statistics are per CPU: 40 bytes each on every CPU that the machine could have, so the limit is not the 65,535
/// that ids have room for.
pub const BACKENDS_MAX: u32 = 16_383;
/// Backends of one service.
pub const SERVICE_BACKENDS_MAX: usize = 1_000;
/// Largest weight of a backend; the smallest is 0, which means no new flows.
pub const WEIGHT_MAX: u16 = 1_000;
/// Network devices that one instance can serve; indexes run from 1.
pub const DEVICES_MAX: u32 = 63;
/// Places in the device table where a device may stand, by its interface index: [`device_index`].
pub const DEVICE_PROBES: u32 = 4;

/// The index in the device table where the interface `ifindex` stands, on the `probe`th attempt.
#[inline(always)]
pub const fn device_index(ifindex: u32, probe: u32) -> u32 {
    1 + ifindex.wrapping_add(probe) % DEVICES_MAX
}

/// Buckets of the service table, each of [`SERVICE_WAYS`]. Four times the ways that services can fill, so that a
/// bucket rarely spills.
pub const SERVICE_BUCKETS: u32 = 1_024;
/// Services in one bucket of the service table.
pub const SERVICE_WAYS: usize = 4;
/// Buckets that a lookup visits at most: it goes on only past a bucket that is full.
pub const SERVICE_PROBES: u32 = 3;

/// Slots of a lookup table: a prime above 65,536, so that with up to 655 backends shares differ by 1 % at most
/// (Maglev, NSDI 2016, section 5.3).
pub const SLOTS: u32 = 65_537;
/// Slots in one map value: 64 bytes, a cache line.
pub const SLOTS_PER_LINE: u32 = 32;
/// Map values that hold [`SLOTS`].
pub const SLOT_LINES: u32 = SLOTS.div_ceil(SLOTS_PER_LINE);

/// Longest round-robin ring.
pub const RING_MAX: u32 = 4_096;
/// Map values that hold [`RING_MAX`] entries, [`SLOTS_PER_LINE`] in each.
pub const RING_LINES: u32 = RING_MAX / SLOTS_PER_LINE;

/// Ways of one bucket of a session index: 8 words, a cache line.
pub const INDEX_WAYS: usize = 8;
/// Sessions that an instance keeps when the config does not say.
pub const SESSIONS_DEFAULT: u32 = 262_144;
/// Fewest and most sessions; always a power of two.
pub const SESSIONS_MIN: u32 = 1_024;
/// See [`SESSIONS_MIN`].
pub const SESSIONS_MAX: u32 = 1 << 24;

/// NAT ports that one new flow tries before it is refused: each is a tail call, of which the kernel allows 33.
pub const PORT_TRIES: u32 = 16;
/// Ring entries that one new flow tries when its first choice takes no new flows.
pub const PLACE_TRIES: u32 = 8;

const _: () = assert!(SERVICE_BUCKETS.is_power_of_two());
const _: () = assert!(SERVICE_BUCKETS as usize * SERVICE_WAYS >= 4 * SERVICES_MAX as usize);
const _: () = assert!(SLOT_LINES * SLOTS_PER_LINE >= SLOTS);
const _: () = assert!(RING_MAX.is_multiple_of(SLOTS_PER_LINE));
const _: () =
    assert!(SESSIONS_MIN.is_power_of_two() && SESSIONS_MAX.is_power_of_two() && SESSIONS_DEFAULT.is_power_of_two());
const _: () = assert!(SERVICE_BACKENDS_MAX <= RING_MAX as usize);
