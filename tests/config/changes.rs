//! Changes at run time: what they make of a config, and how they are refused.

use std::net::SocketAddrV4;
use std::time::Duration;

use lb_common::abi::Policy;
use lb_common::addr::Protocol;
use lb_userspace::api::types::{Change, HealthSetting, Refusal, RefusalCode};
use lb_userspace::config::{AdminState, Backend, Config, HealthCheck, Service, ServiceName, SourceMode, parse};

const FILE: &str = "\
version = 1
[[interface]]
name = \"eth0\"
[[service]]
name = \"web\"
vip = \"192.0.2.10\"
port = 80
backend = [{ address = \"10.0.0.11:8080\" }, { address = \"10.0.0.12:8080\" }]
[[service]]
name = \"dns\"
vip = \"192.0.2.10\"
port = 53
protocol = \"udp\"
";

fn file() -> Config {
    parse("weir.toml", FILE).unwrap()
}

fn name(name: &str) -> ServiceName {
    ServiceName(name.into())
}

fn address(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

fn backend(text: &str) -> Backend {
    Backend { address: address(text), weight: 100, state: AdminState::Active }
}

fn service(called: &str, port: u16) -> Service {
    Service { name: name(called), port, backends: Vec::new(), ..file().services[0].clone() }
}

fn set(service: &str) -> Change {
    Change::ServiceSet { name: name(service), policy: None, source: None, health: None }
}

fn made(change: &Change) -> Config {
    let changed = file().changed(change);
    changed.unwrap_or_else(|refusal| panic!("{change:?}: {refusal:?}"))
}

fn refused(change: &Change) -> Refusal {
    file().changed(change).map(|config| format!("{config:#?}")).unwrap_err()
}

#[test]
fn services_come_and_go() {
    let added = made(&Change::ServiceAdd { service: service("api", 443) });
    assert_eq!(added.services.len(), 3);
    assert_eq!(added.services[2], service("api", 443));
    let removed = made(&Change::ServiceRemove { name: name("web") });
    assert_eq!(removed.services, file().services[1..]);
}

#[test]
fn a_services_properties_change_one_by_one() {
    let health = HealthCheck { interval: Duration::from_secs(9), ..HealthCheck::default() };
    let Change::ServiceSet { name, .. } = set("web") else { unreachable!() };
    let policy =
        made(&Change::ServiceSet { name: name.clone(), policy: Some("wrr".into()), source: None, health: None });
    assert_eq!(policy.services[0], Service { policy: Policy::RoundRobin, ..file().services[0].clone() });
    let source = Some(SourceMode::Preserve);
    let source = made(&Change::ServiceSet { name: name.clone(), policy: None, source, health: None });
    assert_eq!(source.services[0], Service { source: SourceMode::Preserve, ..file().services[0].clone() });
    let probed =
        made(&Change::ServiceSet { name, policy: None, source: None, health: Some(HealthSetting::Tcp(health)) });
    assert_eq!(probed.services[0], Service { health: Some(health), ..file().services[0].clone() });
    assert_eq!(made(&set("web")), file());
}

#[test]
fn backends_come_change_and_go() {
    let added = made(&Change::BackendAdd { service: name("dns"), backend: backend("10.0.0.21:53") });
    assert_eq!(added.services[1].backends, [backend("10.0.0.21:53")]);
    let change =
        |weight, state| Change::BackendSet { service: name("web"), address: address("10.0.0.12:8080"), weight, state };
    let light = made(&change(Some(0), None)).services[0].backends[1];
    assert_eq!(light, Backend { weight: 0, ..backend("10.0.0.12:8080") });
    let draining = made(&change(None, Some(AdminState::Draining))).services[0].backends[1];
    assert_eq!(draining, Backend { state: AdminState::Draining, ..backend("10.0.0.12:8080") });
    for now in [false, true] {
        let gone = Change::BackendRemove { service: name("web"), address: address("10.0.0.11:8080"), now };
        assert_eq!(made(&gone).services[0].backends, [backend("10.0.0.12:8080")]);
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    for change in [
        set("wbe"),
        Change::ServiceRemove { name: name("wbe") },
        Change::BackendAdd { service: name("wbe"), backend: backend("10.0.0.1:1") },
        Change::BackendSet { service: name("wbe"), address: address("10.0.0.1:1"), weight: None, state: None },
        Change::BackendRemove { service: name("wbe"), address: address("10.0.0.1:1"), now: false },
    ] {
        let refusal = refused(&change);
        assert_eq!(refusal.code, RefusalCode::NotFound);
        assert_eq!(refusal.message, "there is no service \"wbe\"");
    }
    let far = refused(&Change::ServiceRemove { name: name("something") });
    assert_eq!(far.hint.as_deref(), Some("it is one of: web, dns"));
    let near = refused(&Change::ServiceRemove { name: name("webs") });
    assert_eq!(near.hint.as_deref(), Some("did you mean \"web\"?"));
    let empty = Config { services: Vec::new(), ..file() };
    let refusal = empty.changed(&set("web")).unwrap_err();
    assert_eq!(refusal.hint.as_deref(), Some("there is no service at all"));

    let gone =
        |service: &str| Change::BackendRemove { service: name(service), address: address("10.0.0.1:1"), now: true };
    let refusal = refused(&gone("web"));
    assert_eq!(refusal.code, RefusalCode::NotFound);
    assert_eq!(refusal.message, "service \"web\" has no backend 10.0.0.1:1");
    assert_eq!(refusal.hint.as_deref(), Some("its backends are: 10.0.0.11:8080, 10.0.0.12:8080"));
    assert_eq!(refused(&gone("dns")).hint.as_deref(), Some("it has no backend at all"));
}

#[test]
fn what_stands_in_the_way_is_a_conflict() {
    for (change, message) in [
        (Change::ServiceAdd { service: service("web", 81) }, "service \"web\": another service has this name already"),
        (
            Change::ServiceAdd { service: service("other", 80) },
            "service \"other\": 192.0.2.10:80/tcp is taken by service \"web\"",
        ),
        (
            Change::BackendAdd { service: name("web"), backend: backend("10.0.0.11:8080") },
            "service \"web\", backend 10.0.0.11:8080: the service has a backend with this address already",
        ),
        (
            Change::BackendAdd { service: name("dns"), backend: backend("192.0.2.10:53") },
            "service \"dns\", backend 192.0.2.10:53: the address is what clients of service \"dns\" send to, which makes a loop",
        ),
        (
            Change::ServiceAdd { service: Service { vip: "10.0.0.11".parse().unwrap(), ..service("inner", 8_080) } },
            "service \"web\", backend 10.0.0.11:8080: the address is what clients of service \"inner\" send to, which makes a loop",
        ),
    ] {
        let refusal = refused(&change);
        assert_eq!((refusal.code, refusal.message.as_str()), (RefusalCode::Conflict, message));
        assert!(refusal.hint.is_some());
    }
}

#[test]
fn what_the_file_could_not_say_is_invalid() {
    let probe = HealthCheck { timeout: Duration::from_secs(3), ..HealthCheck::default() };
    for (change, message) in [
        (
            Change::ServiceAdd { service: Service { name: name("Web"), ..service("", 81) } },
            "service \"Web\": the name has a 'W'",
        ),
        (Change::ServiceAdd { service: service("a", 0) }, "service \"a\": port 0 is not within 1 to 65535"),
        (
            Change::ServiceAdd { service: Service { vip: [224, 0, 0, 1].into(), ..service("a", 1) } },
            "service \"a\": vip 224.0.0.1 is a multicast address",
        ),
        (
            Change::ServiceSet { name: name("web"), policy: Some("sticky".into()), source: None, health: None },
            "service \"web\": policy \"sticky\" is not one that weir knows",
        ),
        (
            Change::ServiceSet {
                name: name("web"),
                policy: None,
                source: None,
                health: Some(HealthSetting::Tcp(probe)),
            },
            "service \"web\", health: timeout 3s is longer than interval 2s",
        ),
        (
            Change::ServiceSet {
                name: name("dns"),
                policy: None,
                source: None,
                health: Some(HealthSetting::Tcp(HealthCheck::default())),
            },
            "service \"dns\", health: a TCP probe of a UDP service's own port says nothing",
        ),
        (
            Change::BackendAdd { service: name("web"), backend: backend("127.0.0.1:80") },
            "service \"web\", backend 127.0.0.1:80: address 127.0.0.1 is a loopback address, which no packet on a wire can have",
        ),
        (
            Change::BackendSet {
                service: name("web"),
                address: address("10.0.0.11:8080"),
                weight: Some(1_001),
                state: None,
            },
            "service \"web\", backend 10.0.0.11:8080: weight 1001 is not within 0 to 1000",
        ),
    ] {
        let refusal = refused(&change);
        assert_eq!((refusal.code, refusal.message.as_str()), (RefusalCode::Invalid, message));
        assert!(refusal.hint.is_some());
    }
}

#[test]
fn a_refusal_tells_every_broken_rule() {
    let service = Service { port: 0, protocol: Protocol::Udp, ..service("a_b", 0) };
    let refusal = refused(&Change::ServiceAdd { service });
    assert_eq!(
        refusal.message,
        "service \"a_b\": port 0 is not within 1 to 65535; \
         service \"a_b\", health: a TCP probe of a UDP service's own port says nothing"
    );
}
