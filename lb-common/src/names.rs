//! Names of programs and maps, and where they are pinned. The kernel cuts map names at 15 characters.

/// The datapath's program.
pub const PROGRAM: &str = "weir_xdp";
/// The part of the datapath that opens flows, called by [`PROGRAM`].
pub const PROGRAM_OPEN: &str = "weir_open";
/// Where [`PROGRAM_OPEN`] stands in [`PROGRAMS`].
pub const PROGRAM_OPEN_INDEX: u32 = 0;
/// The array of programs that [`PROGRAM`] calls. Every load of the program has one of its own.
pub const PROGRAMS: &str = "PROGRAMS";
/// The tiny program that tells the agent the kernel's jiffies by a test run.
pub const CLOCK_PROGRAM: &str = "weir_clock";

/// The program that passes everything, for the far ends of veth pairs.
pub const PASS_PROGRAM: &str = "weir_pass";

/// One [`crate::abi::Settings`].
pub const SETTINGS: &str = "SETTINGS";
/// [`crate::abi::DeviceRecord`] by device index.
pub const DEVICES: &str = "DEVICES";
/// [`crate::abi::ServiceBucket`] by the hash of VIP, port and protocol.
pub const SERVICES: &str = "SERVICES";
/// [`crate::abi::BackendRecord`] by backend id.
pub const BACKENDS: &str = "BACKENDS";
/// Lookup tables by service id: an array of maps of [`crate::abi::SlotLine`].
pub const LOOKUP: &str = "LOOKUP";
/// Round-robin rings by service id: an array of maps of [`crate::abi::SlotLine`].
pub const RINGS: &str = "RINGS";
/// Round-robin cursors by service id.
pub const CURSORS: &str = "CURSORS";
/// Index of sessions by the client's packets: buckets of 8 words.
pub const FLOWS: &str = "FLOWS";
/// Index of sessions by the backends' packets: buckets of 8 words.
pub const RETURNS: &str = "RETURNS";
/// A session record ([`crate::session::word`]) by position in [`FLOWS`].
pub const SESSIONS: &str = "SESSIONS";
/// Verdict counters, per CPU, by [`crate::reason::Counter`].
pub const COUNTERS: &str = "COUNTERS";
/// [`crate::abi::TrafficStats`] by service id, per CPU.
pub const SERVICE_STATS: &str = "SERVICE_STATS";
/// [`crate::abi::TrafficStats`] by backend id, per CPU.
pub const BACKEND_STATS: &str = "BACKEND_STATS";
/// Two words that stand for the clock and the random source when the program is loaded for tests.
pub const TEST_INPUTS: &str = "TEST_INPUTS";

/// The global that turns [`TEST_INPUTS`] on, set at load.
pub const GLOBAL_TEST_MODE: &str = "TEST_MODE";

/// Every map that outlives the agent, in the order in which they are pinned.
pub const PINNED: [&str; 13] = [
    SETTINGS,
    DEVICES,
    SERVICES,
    BACKENDS,
    LOOKUP,
    RINGS,
    CURSORS,
    FLOWS,
    RETURNS,
    SESSIONS,
    COUNTERS,
    SERVICE_STATS,
    BACKEND_STATS,
];

/// Where an instance's program, `links/` and `maps/` are pinned: `PIN_ROOT/INSTANCE/`.
pub const PIN_ROOT: &str = "/sys/fs/bpf/weir";
/// The instance that commands mean when none is named.
pub const INSTANCE_DEFAULT: &str = "default";

const _: () = {
    let mut i = 0;
    while i < PINNED.len() {
        assert!(PINNED[i].len() <= 15);
        i += 1;
    }
};
