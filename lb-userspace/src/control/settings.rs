//! Compiles the settings: what the config says in seconds and ports, in the datapath's ticks and masks.

use std::time::Duration;

use lb_common::ABI_VERSION;
use lb_common::abi::{BACKEND_LEAVING, BackendRecord, SERVICE_PRESERVE, SETTING_PRESERVE, Settings};
use lb_common::addr::Address;
use lb_common::hash::HashKey;
use lb_common::limits::INDEX_WAYS;
use lb_common::session::{Phase, TICK_SHIFT, TIMEOUTS};

use super::image::Image;
use crate::config::{Config, Timeouts};

/// How long a session that is being written may stay so: its writer is gone then.
const BUSY: Duration = Duration::from_mins(1);
/// The youngest closing or reset session whose port may be taken when no other is free (RFC 6191).
const REUSE: Duration = Duration::from_secs(2);
/// The settings for `desired`, given the services and backends that `image` will hold.
pub fn compile(desired: &Config, image: &Image, hash_key: HashKey, hz: u32) -> Settings {
    let uses = Uses::of(image);
    let port_count = desired.nat.port_last.saturating_sub(desired.nat.port_first).saturating_add(1);
    let ways = u32::try_from(INDEX_WAYS).unwrap_or(u32::MAX);
    Settings {
        abi_version: ABI_VERSION,
        bucket_mask: (desired.sessions / ways).saturating_sub(1),
        nat_port_first: desired.nat.port_first,
        nat_port_count: if uses.own_source { port_count } else { 0 },
        flags: if uses.client_source { SETTING_PRESERVE } else { 0 },
        timeouts: timeouts(&desired.timeouts, hz),
        reuse_ticks: ticks(REUSE, hz),
        zero: 0,
        hash_key,
    }
}

/// Whose addresses the backends in an image see. Those that leave count: their answers must still be known for such.
struct Uses {
    own_source: bool,
    client_source: bool,
}

impl Uses {
    fn of(image: &Image) -> Self {
        let preserving = |flags: u32| flags & SERVICE_PRESERVE != 0;
        let has_source = |source: Address| source != Address::UNSPECIFIED;
        // Without either it was written before its source was known, and never took a flow.
        let may_have_flows = |backend: &BackendRecord| backend.hop.is_known() || backend.flags & BACKEND_LEAVING != 0;
        let (services, backends) = (&image.services, &image.backends);
        Self {
            own_source: services.values().any(|service| !preserving(service.flags))
                || backends.values().any(|backend| has_source(backend.source)),
            client_source: services.values().any(|service| preserving(service.flags))
                || backends.values().any(|backend| !has_source(backend.source) && may_have_flows(backend)),
        }
    }
}

fn timeouts(timeouts: &Timeouts, hz: u32) -> [u32; TIMEOUTS] {
    let mut by_phase = [0; TIMEOUTS];
    for phase in Phase::ALL {
        by_phase[phase as usize] = match phase {
            Phase::Free => 0,
            Phase::Busy => ticks(BUSY, hz),
            Phase::HalfOpen => ticks(timeouts.half_open, hz),
            Phase::Established => ticks(timeouts.established, hz),
            Phase::ClientClosed | Phase::BackendClosed => ticks(timeouts.half_closed, hz),
            // A reset may be forged, or not be believed by its receiver (RFC 5961 section 3): nobody here checks sequence
            // numbers, so the session is kept as long as a closing one, and any other packet brings it back.
            Phase::Closing | Phase::Reset => ticks(timeouts.closing, hz),
            Phase::UdpOneWay => ticks(timeouts.udp_one_way, hz),
            Phase::UdpBothWays => ticks(timeouts.udp_both_ways, hz),
        };
    }
    by_phase
}

/// A duration in ticks, rounded up; at least 1, and at most what an age can still be told by (half a wrap).
fn ticks(duration: Duration, hz: u32) -> u32 {
    const NANOS: u128 = 1_000_000_000 << TICK_SHIFT;
    let ticks = (duration.as_nanos() * u128::from(hz)).div_ceil(NANOS);
    u32::try_from(ticks).unwrap_or(u32::MAX).clamp(1, u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_up_to_ticks() {
        // 250 jiffies a second, 64 to a tick: a tick is 256 ms.
        assert_eq!(ticks(Duration::from_millis(256), 250), 1);
        assert_eq!(ticks(Duration::from_millis(257), 250), 2);
        assert_eq!(ticks(Duration::from_mins(1), 250), 235);
        assert_eq!(ticks(Duration::from_mins(1), 100), 94);
    }

    #[test]
    fn a_timeout_is_never_nothing_and_never_past_half_a_wrap() {
        assert_eq!(ticks(Duration::ZERO, 1_000), 1);
        assert_eq!(ticks(Duration::MAX, 1_000), u32::MAX / 2);
    }
}
