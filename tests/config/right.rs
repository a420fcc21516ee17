//! Right files: what they mean, defaults included.

use std::time::Duration;

use lb_common::abi::Policy;
use lb_common::addr::Protocol;
use lb_userspace::config::{
    AdminState, AttachMode, Backend, Config, HealthCheck, Interface, Nat, Service, ServiceName, SourceMode, Timeouts,
    load, parse, render,
};

const MINIMAL: &str = "version = 1\n[[interface]]\nname = \"eth0\"\n";

/// The config that `text` must be.
fn valid(text: &str) -> Config {
    parse("weir.toml", text).unwrap_or_else(|faults| panic!("{}", render(&faults, "weir.toml", text, false)))
}

fn with_service(keys: &str) -> Service {
    let text = format!("{MINIMAL}[[service]]\nname = \"web\"\nvip = \"192.0.2.10\"\nport = 80\n{keys}");
    valid(&text).services.remove(0)
}

#[test]
fn what_is_not_said_has_its_default() {
    let defaults = Config {
        interfaces: vec![Interface { name: "eth0".into(), mode: AttachMode::Auto }],
        nat: Nat { port_first: 1_024, port_last: 32_767, source: None },
        timeouts: Timeouts {
            half_open: Duration::from_mins(1),
            established: Duration::from_mins(124),
            half_closed: Duration::from_mins(5),
            closing: Duration::from_mins(1),
            udp_one_way: Duration::from_secs(30),
            udp_both_ways: Duration::from_mins(5),
        },
        sessions: 262_144,
        metrics: Some("127.0.0.1:9850".parse().unwrap()),
        services: Vec::new(),
    };
    assert_eq!(valid(MINIMAL), defaults);
    assert_eq!(valid(&format!("{MINIMAL}[nat]\n[timeouts]\n[metrics]\n")), defaults);
}

#[test]
fn a_services_defaults() {
    let service = with_service("[[service.backend]]\naddress = \"10.0.0.11:8080\"\n");
    let health =
        HealthCheck { interval: Duration::from_secs(2), timeout: Duration::from_secs(1), rise: 2, fall: 3, port: None };
    let expected = Service {
        name: ServiceName("web".into()),
        vip: "192.0.2.10".parse().unwrap(),
        port: 80,
        protocol: Protocol::Tcp,
        policy: Policy::Maglev,
        source: SourceMode::Balancer,
        health: Some(health),
        backends: vec![Backend { address: "10.0.0.11:8080".parse().unwrap(), weight: 100, state: AdminState::Active }],
        drain_timeout: Duration::from_mins(5),
    };
    assert_eq!(service, expected);
    assert_eq!(with_service("[service.health]\n").health, Some(health));
}

#[test]
fn every_default_written_out_is_the_default() {
    let written = "\
version = 1
sessions = 262144
[[interface]]
name = \"eth0\"
mode = \"auto\"
[nat]
ports = \"1024-32767\"
[timeouts]
half-open = \"60s\"
established = \"7440s\"
half-closed = \"300s\"
closing = \"60s\"
udp-one-way = \"30s\"
udp-both-ways = \"300s\"
[metrics]
listen = \"127.0.0.1:9850\"
";
    assert_eq!(valid(written), valid(MINIMAL));
    let keys = "protocol = \"tcp\"\npolicy = \"maglev\"\nmode = \"nat\"\nsource = \"balancer\"\ndrain-timeout = \"5m\"\n\
                [service.health]\nkind = \"tcp\"\ninterval = \"2s\"\ntimeout = \"1s\"\nrise = 2\nfall = 3\n";
    assert_eq!(with_service(keys), with_service(""));
}

#[test]
fn policies_have_the_names_that_operators_know() {
    for (name, policy) in [
        ("maglev", Policy::Maglev),
        ("mh", Policy::Maglev),
        ("round-robin", Policy::RoundRobin),
        ("roundrobin", Policy::RoundRobin),
        ("rr", Policy::RoundRobin),
        ("wrr", Policy::RoundRobin),
        ("random", Policy::Random),
    ] {
        assert_eq!(with_service(&format!("policy = \"{name}\"\n")).policy, policy, "{name}");
    }
}

#[test]
fn probing_by_protocol_and_wish() {
    assert_eq!(with_service("health = \"off\"\n").health, None);
    assert_eq!(with_service("protocol = \"udp\"\n").health, None);
    let udp = with_service("protocol = \"udp\"\nhealth = { port = 8080 }\n").health.unwrap();
    assert_eq!(udp, HealthCheck { port: Some(8_080), ..HealthCheck::default() });
    let quick = with_service("health = { interval = \"200ms\" }\n").health.unwrap();
    assert_eq!((quick.interval, quick.timeout), (Duration::from_millis(200), Duration::from_millis(200)));
}

#[test]
fn durations_have_four_units() {
    for (text, millis) in [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("0s", 0)] {
        let service = with_service(&format!("drain-timeout = \"{text}\"\n"));
        assert_eq!(service.drain_timeout, Duration::from_millis(millis), "{text}");
    }
}

#[test]
fn what_looks_odd_and_is_allowed() {
    assert_eq!(with_service("").backends, []);
    let idle = with_service(
        "backend = [{ address = \"10.0.0.1:1\", weight = 0 }, { address = \"10.0.0.1:2\", weight = 0 }]\n",
    );
    assert!(idle.backends.iter().all(|backend| backend.weight == 0));
    let source_is_vip = format!(
        "{MINIMAL}[nat]\nsource = \"192.0.2.10\"\n[[service]]\nname = \"web\"\nvip = \"192.0.2.10\"\nport = 80\n"
    );
    assert!(valid(&source_is_vip).nat.source.is_some());
    let shared = format!(
        "{MINIMAL}[[service]]\nname = \"a\"\nvip = \"192.0.2.1\"\nport = 53\nbackend = [{{ address = \"10.0.0.1:53\" }}]\n\
         [[service]]\nname = \"b\"\nvip = \"192.0.2.1\"\nport = 53\nprotocol = \"udp\"\n\
         backend = [{{ address = \"10.0.0.1:53\" }}]\n"
    );
    assert_eq!(valid(&shared).services.len(), 2);
    assert_eq!(valid(&format!("{MINIMAL}[metrics]\nlisten = \"off\"\n")).metrics, None);
    assert_eq!(valid(&format!("sessions = 0x1000\n{MINIMAL}")).sessions, 4_096);
}

#[test]
fn the_full_example_means_what_it_says() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/weir-full.toml");
    let config = load(&path).unwrap_or_else(|error| panic!("{error}"));
    let modes: Vec<_> = config.interfaces.iter().map(|interface| (interface.name.as_str(), interface.mode)).collect();
    assert_eq!(modes, [("eth0", AttachMode::Auto), ("eth1", AttachMode::Native)]);
    let [web, dns, logs] = &config.services[..] else { panic!("{config:#?}") };
    let backends: Vec<_> = web.backends.iter().map(|backend| (backend.weight, backend.state)).collect();
    assert_eq!(backends, [(100, AdminState::Active), (100, AdminState::Draining), (10, AdminState::Active)]);
    assert_eq!(web.health.unwrap().port, Some(9_000));
    assert_eq!((dns.protocol, dns.policy, dns.source), (Protocol::Udp, Policy::Random, SourceMode::Preserve));
    assert_eq!(dns.health.unwrap().interval, Duration::from_secs(5));
    assert_eq!((logs.policy, logs.health), (Policy::RoundRobin, None));
    assert_eq!(logs.backends[1].state, AdminState::Disabled);
}
