//! Metrics from a snapshot: built anew for each scrape, so that nothing stale is left and counters are the kernel's own.
//!
//! Names and labels are API. Label values are bounded by the config: no address or port of a client is ever one.

use std::collections::BTreeMap;

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::api::types::{BackendView, ServiceView, Snapshot, TrafficView};
use crate::config::AdminState;
use crate::health::Health;

/// The `Content-Type` of [`render`]'s text. Prometheus 3 refuses a scrape whose type it does not know.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The snapshot as Prometheus' text exposition.
pub fn render(snapshot: &Snapshot) -> Result<String, prometheus::Error> {
    let mut families = agent(snapshot);
    families.extend(datapath(snapshot));
    families.extend(services(&snapshot.services));
    families.extend(backends(&snapshot.services));
    // The encoder refuses a family without samples: before the first service there is nothing to say.
    families.retain(|family| !family.get_metric().is_empty());
    TextEncoder::new().encode_to_string(&families)
}

fn agent(s: &Snapshot) -> Vec<MetricFamily> {
    let modes = s.interfaces.iter().map(|i| ([i.name.clone(), i.mode_name().into()], 1));
    vec![
        gauge("weir_build_info", "The agent's version. Always 1.", ["version"], [([s.version.clone()], 1)]),
        gauge("weir_uptime_seconds", "Seconds since the agent's start.", [], [([], s.uptime_seconds)]),
        gauge("weir_config_revision", "Rises with every change of the desired state.", [], [([], s.revision)]),
        gauge(
            "weir_interface_xdp_mode",
            "How the program is attached to the interface: native or generic. Always 1.",
            ["interface", "mode"],
            modes,
        ),
    ]
}

fn datapath(s: &Snapshot) -> Vec<MetricFamily> {
    let verdicts = |verdict: &'static str| {
        s.verdicts.iter().filter(move |v| v.verdict == verdict).map(|v| ([v.reason.clone()], v.packets))
    };
    let sessions = [(["open".into()], s.sessions.open), (["closing".into()], s.sessions.closing)];
    vec![
        counter(
            "weir_packets_dropped_total",
            "Packets that were ours and were not forwarded, by reason.",
            ["reason"],
            verdicts("drop"),
        ),
        counter(
            "weir_packets_passed_total",
            "Packets handed up to the host's stack untouched, by reason.",
            ["reason"],
            verdicts("pass"),
        ),
        counter(
            "weir_packets_transmitted_total",
            "Packets rewritten and sent: forward to a backend, or return to a client.",
            ["direction"],
            verdicts("transmit"),
        ),
        gauge(
            "weir_sessions",
            "Sessions as of the last sweep: open ones can still carry data, closing ones are in quarantine.",
            ["state"],
            sessions,
        ),
        gauge("weir_sessions_max", "Most sessions that the instance can hold.", [], [([], s.sessions.capacity)]),
    ]
}

fn services(services: &[ServiceView]) -> Vec<MetricFamily> {
    let name = |s: &ServiceView| s.name.0.clone();
    let info = services.iter().map(|s| {
        let labels =
            [name(s), s.vip.to_string(), s.port.to_string(), s.protocol.clone(), s.policy.clone(), s.mode.clone()];
        (labels, 1)
    });
    let directed = |value: fn(&TrafficView) -> [u64; 2]| {
        services.iter().flat_map(move |s| by_direction(value(&s.traffic), |way| [s.name.0.clone(), way]))
    };
    let states = services
        .iter()
        .flat_map(|s| STATES.map(|state| ([name(s), state.into()], count(s, |backend| state_name(backend) == state))));
    let health = services.iter().flat_map(|s| {
        [Health::Healthy, Health::Unhealthy, Health::Unknown]
            .map(|health| ([name(s), health.name().into()], count(s, |backend| backend.health == health)))
    });
    let sessions = services.iter().map(|s| ([name(s)], s.backends.iter().map(|b| b.sessions_open).sum()));
    vec![
        gauge(
            "weir_service_info",
            "What the service is. Always 1.",
            ["service", "vip", "port", "protocol", "placement_policy", "mode"],
            info,
        ),
        counter(
            "weir_service_packets_total",
            "Packets of the service, forward to backends or return to clients.",
            ["service", "direction"],
            directed(packets),
        ),
        counter(
            "weir_service_bytes_total",
            "Bytes of the service, forward to backends or return to clients.",
            ["service", "direction"],
            directed(bytes),
        ),
        counter(
            "weir_service_flows_total",
            "Flows that the service placed on a backend.",
            ["service"],
            services.iter().map(|s| ([name(s)], s.traffic.flows)),
        ),
        gauge("weir_service_flows", "Open sessions of the service, as of the last sweep.", ["service"], sessions),
        gauge(
            "weir_service_backends",
            "Backends of the service by administrative state; leaving ones are removed and keep their flows.",
            ["service", "state"],
            states,
        ),
        gauge(
            "weir_service_backends_health",
            "Backends of the service by what probes say.",
            ["service", "health"],
            health,
        ),
    ]
}

fn backends(services: &[ServiceView]) -> Vec<MetricFamily> {
    let all = || services.iter().flat_map(|s| s.backends.iter().map(move |b| (labels(s, b), b)));
    let directed = |value: fn(&TrafficView) -> [u64; 2]| {
        all().flat_map(move |([service, backend], b)| {
            by_direction(value(&b.traffic), move |way| [service.clone(), backend.clone(), way])
        })
    };
    let plain = |value: fn(&BackendView) -> u64| all().map(move |(labels, b)| (labels, value(b)));
    let own = ["service", "backend"];
    let with_direction = ["service", "backend", "direction"];
    vec![
        counter(
            "weir_backend_packets_total",
            "Packets of the backend, forward to it or return from it.",
            with_direction,
            directed(packets),
        ),
        counter(
            "weir_backend_bytes_total",
            "Bytes of the backend, forward to it or return from it.",
            with_direction,
            directed(bytes),
        ),
        counter("weir_backend_flows_total", "Flows placed on the backend.", own, plain(|b| b.traffic.flows)),
        gauge(
            "weir_backend_flows",
            "Open sessions of the backend, as of the last sweep.",
            own,
            plain(|b| b.sessions_open),
        ),
        gauge(
            "weir_backend_weight",
            "Weight of the backend; 0 once it is removed.",
            own,
            plain(|b| if b.leaving { 0 } else { b.weight.into() }),
        ),
        gauge(
            "weir_backend_healthy",
            "Whether probes find the backend healthy, 1 or 0; 0 once it is removed.",
            own,
            plain(|b| u64::from(b.health == Health::Healthy && !b.leaving)),
        ),
    ]
}

const STATES: [&str; 4] = ["active", "draining", "disabled", "leaving"];

const fn state_name(backend: &BackendView) -> &'static str {
    if backend.leaving { "leaving" } else { AdminState::name(backend.state) }
}

fn count(service: &ServiceView, which: impl Fn(&BackendView) -> bool) -> u64 {
    service.backends.iter().map(|backend| u64::from(which(backend))).sum()
}

fn labels(service: &ServiceView, backend: &BackendView) -> [String; 2] {
    [service.name.0.clone(), backend.address.to_string()]
}

const fn packets(traffic: &TrafficView) -> [u64; 2] {
    [traffic.forward_packets, traffic.return_packets]
}

const fn bytes(traffic: &TrafficView) -> [u64; 2] {
    [traffic.forward_bytes, traffic.return_bytes]
}

fn by_direction<const N: usize>(
    [forward, back]: [u64; 2],
    labels: impl Fn(String) -> [String; N],
) -> [([String; N], u64); 2] {
    [(labels("forward".into()), forward), (labels("return".into()), back)]
}

fn counter<const N: usize>(
    name: &str,
    help: &str,
    labels: [&str; N],
    samples: impl IntoIterator<Item = ([String; N], u64)>,
) -> MetricFamily {
    family(MetricType::COUNTER, name, help, labels, samples)
}

fn gauge<const N: usize>(
    name: &str,
    help: &str,
    labels: [&str; N],
    samples: impl IntoIterator<Item = ([String; N], u64)>,
) -> MetricFamily {
    family(MetricType::GAUGE, name, help, labels, samples)
}

/// A family of unique series: what has the same labels (a backend that leaves, and came again) is added up, for a
/// duplicate would make Prometheus refuse the whole scrape.
fn family<const N: usize>(
    kind: MetricType,
    name: &str,
    help: &str,
    labels: [&str; N],
    samples: impl IntoIterator<Item = ([String; N], u64)>,
) -> MetricFamily {
    let mut series: BTreeMap<[String; N], u64> = BTreeMap::new();
    for (values, sample) in samples {
        let sum = series.entry(values).or_default();
        *sum = sum.saturating_add(sample);
    }
    let metrics = series.into_iter().map(|(values, sample)| metric(kind, labels, values, sample));
    let mut family = MetricFamily::default();
    family.set_name(name.into());
    family.set_help(help.into());
    family.set_field_type(kind);
    family.set_metric(metrics.collect());
    family
}

fn metric<const N: usize>(kind: MetricType, labels: [&str; N], values: [String; N], sample: u64) -> Metric {
    let pairs = labels.into_iter().zip(values).map(|(label, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(label.into());
        pair.set_value(value);
        pair
    });
    let mut metric = Metric::from_label(pairs.collect());
    #[expect(clippy::cast_precision_loss, reason = "Prometheus has nothing but floats: exact up to 2^53")]
    let value = sample as f64;
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}
