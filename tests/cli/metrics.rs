//! The metrics endpoint, over a real socket, linted as Prometheus' own tools would.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use lb_userspace::api::types::Snapshot;
use lb_userspace::config::ServiceName;
use lb_userspace::telemetry::metrics::render;
use lb_userspace::telemetry::server::CONNECTIONS_MAX;

use crate::fake::{Agent, backend, exchange, service, snapshot};

/// The samples of an exposition by name and labels; panics on anything that `promtool check metrics` would flag.
fn linted(text: &str) -> BTreeMap<String, f64> {
    let mut kinds = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut series = BTreeMap::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, sentence) = help.split_once(' ').expect("a HELP has a sentence");
            assert!(!sentence.is_empty() && helped.insert(name), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(helped.contains(name), "{name} has no HELP before it");
            assert!(name.starts_with("weir_"), "{name}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert!(kinds.insert(name, kind).is_none(), "{name} stands there twice");
        } else {
            let (key, value) = line.rsplit_once(' ').unwrap();
            let name = key.split('{').next().unwrap();
            assert!(kinds.contains_key(name), "{line}: no TYPE before it");
            let value: f64 = value.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
            assert!(value.is_finite() && series.insert(key.to_owned(), value).is_none(), "{line}: twice");
        }
    }
    assert_eq!(helped, kinds.keys().copied().collect());
    series
}

#[test]
fn every_family_tells_what_the_snapshot_has() {
    let series = linted(&render(&snapshot()).unwrap());
    for (key, value) in [
        ("weir_build_info{version=\"0.1.0\"}", 1.0),
        ("weir_uptime_seconds", 273_600.0),
        ("weir_config_revision", 41.0),
        ("weir_interface_xdp_mode{interface=\"eth1\",mode=\"generic\"}", 1.0),
        ("weir_packets_dropped_total{reason=\"ttl-exceeded\"}", 14.0),
        ("weir_packets_dropped_total{reason=\"internal\"}", 0.0),
        ("weir_packets_passed_total{reason=\"not-ours\"}", 5.0),
        ("weir_packets_transmitted_total{direction=\"return\"}", 1_920.0),
        ("weir_sessions{state=\"open\"}", 1_234.0),
        ("weir_sessions{state=\"closing\"}", 12.0),
        ("weir_sessions_max", 262_144.0),
        ("weir_service_packets_total{service=\"web\",direction=\"forward\"}", 5_000.0),
        ("weir_service_bytes_total{service=\"web\",direction=\"return\"}", 3_145_728.0),
        ("weir_service_flows_total{service=\"dns\"}", 1_000.0),
        ("weir_service_flows{service=\"web\"}", 42.0),
        ("weir_service_backends{service=\"web\",state=\"active\"}", 3.0),
        ("weir_service_backends{service=\"web\",state=\"leaving\"}", 1.0),
        ("weir_service_backends{service=\"dns\",state=\"disabled\"}", 0.0),
        ("weir_service_backends_health{service=\"web\",health=\"healthy\"}", 5.0),
        ("weir_service_backends_health{service=\"web\",health=\"unhealthy\"}", 1.0),
        ("weir_service_backends_health{service=\"web\",health=\"unknown\"}", 0.0),
        ("weir_backend_packets_total{service=\"web\",backend=\"10.0.0.1:8080\",direction=\"return\"}", 6_000.0),
        ("weir_backend_bytes_total{service=\"web\",backend=\"10.0.0.1:8080\",direction=\"forward\"}", 1_572_864.0),
        ("weir_backend_flows_total{service=\"dns\",backend=\"10.0.0.9:53\"}", 1_000.0),
        ("weir_backend_flows{service=\"web\",backend=\"10.0.0.2:8080\"}", 7.0),
        ("weir_backend_weight{service=\"web\",backend=\"10.0.0.1:8080\"}", 100.0),
        ("weir_backend_weight{service=\"web\",backend=\"10.0.0.6:8080\"}", 0.0),
        ("weir_backend_healthy{service=\"web\",backend=\"10.0.0.1:8080\"}", 1.0),
        ("weir_backend_healthy{service=\"web\",backend=\"10.0.0.2:8080\"}", 0.0),
    ] {
        assert_eq!(series.get(key), Some(&value), "{key}");
    }
    let info = "weir_service_info{service=\"dns\",vip=\"192.0.2.10\",port=\"53\",protocol=\"udp\",\
                placement_policy=\"maglev\",mode=\"nat\"}";
    assert_eq!(series.get(info), Some(&1.0));
}

#[test]
fn a_backend_that_came_again_while_it_leaves_is_one_series() {
    let mut old = backend("10.0.0.1:80");
    old.leaving = true;
    old.traffic.flows = 5;
    let text =
        render(&Snapshot { services: vec![service("web", 80, vec![old, backend("10.0.0.1:80")])], ..snapshot() });
    let series = linted(&text.unwrap());
    let own = "{service=\"web\",backend=\"10.0.0.1:80\"}";
    assert_eq!(series.get(&format!("weir_backend_flows_total{own}")), Some(&1_005.0));
    assert_eq!(series.get(&format!("weir_backend_weight{own}")), Some(&100.0));
    assert_eq!(series.get(&format!("weir_backend_healthy{own}")), Some(&1.0));
}

#[test]
fn nothing_at_all_and_awkward_names_are_well_formed_too() {
    linted(&render(&Snapshot { services: vec![], interfaces: vec![], verdicts: vec![], ..snapshot() }).unwrap());
    let mut odd = snapshot();
    odd.services[0].name = ServiceName("a\"b\\c\nd".into());
    odd.verdicts[0].packets = u64::MAX;
    linted(&render(&odd).unwrap());
}

#[test]
fn silent_strangers_take_connections_up_to_a_limit() {
    let agent = Agent::start(snapshot());
    let connect = || TcpStream::connect(agent.metrics).unwrap();
    let mut silent: Vec<TcpStream> = (1..CONNECTIONS_MAX).map(|_| connect()).collect();
    assert_eq!(exchange(connect(), "GET /healthz", b"").0, 200, "the last connection within the limit");
    silent.push(connect());
    let mut waiting = connect();
    waiting.write_all(b"GET /healthz HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n").unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(waiting.read(&mut [0]).is_err(), "one past the limit has to wait");
    silent.clear();
    waiting.set_read_timeout(None).unwrap();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn the_endpoint_serves_metrics_and_health_and_nothing_else() {
    let agent = Agent::start(snapshot());
    let ask = |request_line: &str| exchange(TcpStream::connect(agent.metrics).unwrap(), request_line, b"");
    let (status, head, body) = ask("GET /metrics");
    assert_eq!(status, 200);
    assert!(head.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    linted(&body);
    assert_eq!((ask("GET /healthz").0, ask("HEAD /metrics").0), (200, 200));
    for request_line in
        ["GET /", "GET /v1/snapshot", "POST /metrics", "PUT /healthz", "POST /v1/detach", "POST /v1/changes"]
    {
        assert_eq!(ask(request_line).0, 404, "{request_line}");
    }
    assert_eq!(agent.asked(), []);
}
