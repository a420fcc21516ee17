//! Overrides: what changes at run time made of the file outlives the agent, and gives way when the file moves on.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use lb_common::abi::Policy;
use lb_common::addr::Protocol;
use lb_userspace::api::types::Change;
use lb_userspace::config::{
    AdminState, Backend, Config, HealthCheck, Overrides, OverridesError, Service, ServiceName, SourceMode, parse,
};
use proptest::prelude::*;

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
name = \"api\"
vip = \"192.0.2.20\"
port = 443
backend = [{ address = \"10.0.0.21:8443\" }]
";

fn config(text: &str) -> Config {
    parse("weir.toml", text).unwrap()
}

fn file() -> Config {
    config(FILE)
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

fn weight(service: &str, backend: &str, weight: u16) -> Change {
    Change::BackendSet { service: name(service), address: address(backend), weight: Some(weight), state: None }
}

/// The overrides that these changes leave.
fn after(changes: &[Change]) -> Overrides {
    let effective = changes.iter().fold(file(), |config, change| config.changed(change).unwrap());
    Overrides::between(&file(), &effective)
}

/// The config with services and backends in an order of their own, since order carries no meaning.
fn sorted(mut config: Config) -> Config {
    config.services.sort_by(|a, b| a.name.cmp(&b.name));
    for service in &mut config.services {
        service.backends.sort_by_key(|backend| backend.address);
    }
    config
}

#[test]
fn without_changes_there_are_none() {
    let none = Overrides::between(&file(), &file());
    assert!(none.is_empty());
    assert_eq!(none, Overrides::default());
    assert_eq!(none.onto(&file()), (file(), Vec::new()));
}

#[test]
fn changes_outlive_a_restart() {
    let changes = [
        weight("web", "10.0.0.11:8080", 7),
        Change::BackendRemove { service: name("web"), address: address("10.0.0.12:8080"), now: false },
        Change::BackendAdd { service: name("web"), backend: backend("10.0.0.13:8080") },
        Change::ServiceSet { name: name("web"), policy: Some("random".into()), source: None, health: None },
        Change::ServiceRemove { name: name("api") },
    ];
    let effective = changes.iter().fold(file(), |config, change| config.changed(change).unwrap());
    assert_eq!(after(&changes).onto(&file()), (effective, Vec::new()));
}

#[test]
fn origin_tells_what_a_change_touched() {
    let overrides = after(&[
        weight("web", "10.0.0.11:8080", 7),
        Change::ServiceSet { name: name("api"), policy: Some("rr".into()), source: None, health: None },
        Change::ServiceAdd {
            service: Service {
                name: name("new"),
                port: 81,
                backends: vec![backend("10.0.0.31:80")],
                ..file().services[0].clone()
            },
        },
    ]);
    let services = ["web", "api", "new"].map(|service| overrides.is_runtime(&name(service)));
    assert_eq!(services, [false, true, true]);
    let backends =
        [("web", "10.0.0.11:8080"), ("web", "10.0.0.12:8080"), ("api", "10.0.0.21:8443"), ("new", "10.0.0.31:80")]
            .map(|(service, backend)| overrides.is_runtime_backend(&name(service), address(backend)));
    assert_eq!(backends, [true, false, false, true]);
}

#[test]
fn the_file_wins_where_it_says_something_new() {
    let overrides = after(&[weight("web", "10.0.0.11:8080", 7), weight("web", "10.0.0.12:8080", 8)]);
    let moved_on = FILE.replacen("10.0.0.11:8080\"", "10.0.0.11:8080\", weight = 50", 1);
    let (effective, told) = overrides.onto(&config(&moved_on));
    let weights: Vec<u16> = effective.services[0].backends.iter().map(|backend| backend.weight).collect();
    assert_eq!(weights, [50, 8]);
    assert_eq!(
        told,
        ["run-time override: weight 7 of backend 10.0.0.11:8080 of service \"web\" does not apply any more: \
          the file says 50 now, and wins"]
    );
    let agreed = FILE.replacen("10.0.0.11:8080\"", "10.0.0.11:8080\", weight = 7", 1);
    assert!(overrides.onto(&config(&agreed)).1.is_empty());
}

#[test]
fn what_the_file_dropped_is_said() {
    let overrides = after(&[
        weight("web", "10.0.0.12:8080", 8),
        weight("api", "10.0.0.21:8443", 9),
        Change::BackendAdd { service: name("api"), backend: backend("10.0.0.22:8443") },
    ]);
    let smaller =
        FILE.split("[[service]]\nname = \"api\"").next().unwrap().replace(", { address = \"10.0.0.12:8080\" }", "");
    let (effective, told) = overrides.onto(&config(&smaller));
    assert_eq!(effective, config(&smaller));
    assert_eq!(
        told,
        [
            "run-time override: weight 8 of backend 10.0.0.12:8080 of service \"web\" does not apply any more: \
             the file does not have this backend any more",
            "run-time override: weight 9 of backend 10.0.0.21:8443 of service \"api\" does not apply any more: \
             the file does not have this service any more",
            "run-time override: the added backend 10.0.0.22:8443 of service \"api\" does not apply any more: \
             the file does not have this service any more",
        ]
    );
}

#[test]
fn a_removal_holds_until_the_name_means_something_else() {
    let overrides = after(&[Change::ServiceRemove { name: name("api") }]);
    let reworked = FILE.replace("10.0.0.21:8443", "10.0.0.99:8443");
    assert_eq!(overrides.onto(&config(&reworked)).0.services.len(), 1);
    let moved = config(&FILE.replace("192.0.2.20", "192.0.2.21"));
    let (effective, told) = overrides.onto(&moved);
    assert_eq!(effective, moved);
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn an_override_that_would_break_a_rule_is_left_out_alone() {
    let overrides = after(&[
        weight("web", "10.0.0.11:8080", 7),
        Change::BackendAdd { service: name("web"), backend: backend("10.0.0.13:8080") },
        Change::BackendAdd { service: name("web"), backend: backend("10.0.0.14:8080") },
    ]);
    // The file gives a service the address that a backend was given at run time.
    let clash = format!("{FILE}[[service]]\nname = \"inner\"\nvip = \"10.0.0.13\"\nport = 8080\n");
    let (effective, told) = overrides.onto(&config(&clash));
    let backends: Vec<_> =
        effective.services[0].backends.iter().map(|backend| (backend.address, backend.weight)).collect();
    assert_eq!(
        backends,
        [(address("10.0.0.11:8080"), 7), (address("10.0.0.12:8080"), 100), (address("10.0.0.14:8080"), 100)]
    );
    let [sentence] = &told[..] else { panic!("{told:?}") };
    assert!(sentence.contains("the added backend 10.0.0.13:8080 of service \"web\" is left out"), "{sentence}");
    assert!(sentence.contains("loop"), "{sentence}");
}

#[test]
fn they_are_kept_in_a_file_of_the_agent_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("overrides.json");
    assert_eq!(Overrides::load(&path).unwrap(), Overrides::default());
    let first = after(&[weight("web", "10.0.0.11:8080", 7), Change::ServiceRemove { name: name("api") }]);
    // What a crash in the middle of an earlier save leaves behind is no obstacle.
    std::fs::write(directory.path().join("overrides.json.new"), "{").unwrap();
    first.save(&path).unwrap();
    assert_eq!(Overrides::load(&path).unwrap(), first);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    Overrides::default().save(&path).unwrap();
    assert_eq!(Overrides::load(&path).unwrap(), Overrides::default());
    let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["overrides.json"]);
}

#[test]
fn a_file_that_is_not_ours_is_an_error_with_a_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("overrides.json");
    for text in [
        "",
        "{",
        "[]",
        "{\"schema\": 2, \"overrides\": []}",
        "{\"schema\": 1, \"overrides\": [{}]}",
        "{\"overrides\": []}",
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Overrides::load(&path).unwrap_err();
        assert!(matches!(error, OverridesError::Corrupt { .. }), "{text}: {error}");
        let message = error.to_string();
        assert!(message.contains(&path.display().to_string()) && message.contains("move it away"), "{message}");
    }
    let error = Overrides::load(directory.path()).unwrap_err();
    assert!(matches!(error, OverridesError::Unreadable { .. }), "{error}");
    let error = Overrides::default().save(&directory.path().join("missing/overrides.json")).unwrap_err();
    assert!(matches!(error, OverridesError::Unwritable { .. }), "{error}");
    assert!(error.to_string().contains("see that its directory exists"), "{error}");
}

#[test]
fn what_a_tampered_file_says_keeps_the_rules_all_the_same() {
    let overrides = after(&[weight("web", "10.0.0.11:8080", 7)]);
    let json = serde_json::to_string(&overrides).unwrap().replace("\"to\":7", "\"to\":60000");
    let tampered: Overrides = serde_json::from_str(&json).unwrap();
    let (effective, told) = tampered.onto(&file());
    assert_eq!(effective, file());
    assert!(told[0].contains("weight 60000 is not within 0 to 1000"), "{told:?}");
}

fn any_health() -> impl Strategy<Value = Option<HealthCheck>> {
    let check = (1_u64..100, 1_u32..=100, 1_u32..=100, 1_u16..).prop_map(|(tenths, rise, fall, port)| HealthCheck {
        interval: Duration::from_millis(tenths * 100),
        timeout: Duration::from_millis(tenths * 10),
        rise,
        fall,
        port: Some(port),
    });
    proptest::option::of(check)
}

fn any_backends() -> impl Strategy<Value = Vec<Backend>> {
    let states = [AdminState::Active, AdminState::Draining, AdminState::Disabled];
    let properties = (0_u16..=1_000, proptest::sample::select(states.to_vec()));
    proptest::collection::btree_map(1_u8..8, properties, 0..6).prop_map(|backends| {
        let backend = |(host, (weight, state))| Backend {
            address: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, host), 8_080),
            weight,
            state,
        };
        backends.into_iter().map(backend).collect()
    })
}

/// Services by name; few names and addresses, so that two configs have much in common.
fn any_config() -> impl Strategy<Value = Config> {
    let service = (
        (1_u8..6, 80_u16..82, any::<bool>()),
        proptest::sample::select(Policy::ALL.to_vec()),
        (any::<bool>(), any_health(), any_backends(), 0_u64..604_800),
    );
    proptest::collection::btree_map(0_u8..5, service, 0..5).prop_map(|services| {
        let mut by_key = BTreeMap::new();
        for (number, ((host, port, udp), policy, (preserve, health, backends, drain))) in services {
            let service = Service {
                name: ServiceName(format!("s{number}")),
                vip: Ipv4Addr::new(192, 0, 2, host),
                port,
                protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
                policy,
                source: if preserve { SourceMode::Preserve } else { SourceMode::Balancer },
                health,
                backends,
                drain_timeout: Duration::from_secs(drain),
            };
            by_key.entry((host, port, udp)).or_insert(service);
        }
        Config { services: by_key.into_values().collect(), ..file() }
    })
}

proptest! {
    #[test]
    fn they_lead_from_any_config_to_any_other(a in any_config(), b in any_config()) {
        let overrides = Overrides::between(&a, &b);
        prop_assert_eq!(overrides.is_empty(), sorted(a.clone()) == sorted(b.clone()));
        let kept: Overrides = serde_json::from_str(&serde_json::to_string(&overrides).unwrap()).unwrap();
        prop_assert_eq!(&kept, &overrides);
        let (effective, told) = kept.onto(&a);
        prop_assert_eq!(sorted(effective), sorted(b));
        prop_assert!(told.is_empty(), "{:?}", told);
    }

    #[test]
    fn onto_any_other_file_the_result_is_valid(a in any_config(), b in any_config(), c in any_config()) {
        let (effective, _) = Overrides::between(&a, &b).onto(&c);
        // A change of nothing is refused if and only if the config breaks a rule.
        if let Some(service) = effective.services.first() {
            let nothing = Change::ServiceSet { name: service.name.clone(), policy: None, source: None, health: None };
            prop_assert_eq!(effective.changed(&nothing), Ok(effective));
        }
    }
}
